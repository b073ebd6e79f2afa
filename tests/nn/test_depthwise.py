"""The convolution of each channel for itself, against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.nn.depthwise import depthwise


def by_torch(x_BNC: Tensor, weight_CK: Tensor, dilation: int) -> Tensor:
    y_BCN = F.conv1d(
        x_BNC.transpose(1, 2),
        weight_CK.unsqueeze(1),
        padding=weight_CK.shape[1] // 2 * dilation,
        dilation=dilation,
        groups=len(weight_CK),
    )
    return y_BCN.transpose(1, 2)


@pytest.mark.parametrize("positions", [1, 4, 33])
@pytest.mark.parametrize("dilation", [1, 2, 8, 32])
def test_values_and_gradients_are_those_of_torch(positions: int, dilation: int) -> None:
    """To 1e-12 in double precision, also where most taps lie beyond the ends."""
    torch.manual_seed(0)
    x = torch.randn(3, positions, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    ours, theirs = depthwise(x, weight, dilation), by_torch(x, weight, dilation)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    upstream = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, (x, weight), upstream),
        torch.autograd.grad(theirs, (x, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_it_keeps_the_type_of_what_it_reads() -> None:
    """Under autocast half-precision activations meet fp32 weights."""
    weight = torch.randn(5, 9, requires_grad=True)
    x = torch.randn(2, 16, 5, dtype=torch.bfloat16, requires_grad=True)
    made = depthwise(x, weight, 2)
    assert made.dtype == torch.bfloat16
    made.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
