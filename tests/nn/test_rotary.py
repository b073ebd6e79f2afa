"""Rotary positions: products of queries and keys know distances and nothing else."""

import pytest
import torch

from cislens.nn.rotary import Rotary, rotate, rotation_table


def test_products_depend_on_the_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 16)
    table = rotation_table(600, 16)
    turned_q, turned_k = (rotate(v.expand(600, 16), table) for v in (q, k))
    near = (turned_q[[3, 40, 570]] * turned_k[[10, 47, 577]]).sum(1)
    torch.testing.assert_close(near, near[:1].expand(3), atol=1e-4, rtol=0)
    far = (turned_q[3] * turned_k[300]).sum()
    assert (far - near[0]).abs() > 0.1


def test_turning_keeps_lengths_and_leaves_the_first_token() -> None:
    torch.manual_seed(0)
    x_BHNK = torch.randn(2, 3, 50, 8)
    turned = rotate(x_BHNK, rotation_table(50, 8))
    torch.testing.assert_close(turned.norm(dim=-1), x_BHNK.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x_BHNK[:, :, 0])


def test_a_longer_table_begins_with_the_shorter() -> None:
    assert torch.equal(rotation_table(64, 8)[:, :10], rotation_table(10, 8))


def test_bf16_is_turned_in_fp32() -> None:
    """At token 4,000 a bf16 angle would be off by whole turns."""
    torch.manual_seed(0)
    x = torch.randn(4001, 8)
    exact, half = (rotate(v, rotation_table(4001, 8)) for v in (x, x.bfloat16()))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0.02)


def test_odd_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="7 is odd"):
        rotation_table(4, 7)


def test_a_table_made_in_inference_mode_serves_training() -> None:
    rotary = Rotary(8)
    with torch.inference_mode():
        rotary.table(5, torch.device("cpu"))
    x = torch.randn(5, 8, requires_grad=True)
    rotate(x, rotary.table(5, torch.device("cpu"))).sum().backward()
    assert x.grad is not None
