"""Attention against its formula, its masks, and the memory that it does not take."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from cislens.nn.rotary import rotate, rotation_table
from cislens.nn.transformer import PostNormBlock, PreNormBlock, SelfAttention, SwiGLU, readable


def written_out(
    attention: SelfAttention, x: torch.Tensor, valid: torch.Tensor, table: torch.Tensor | None
) -> torch.Tensor:
    batch, tokens, dim = x.shape
    parts = attention.to_qkv(x).chunk(3, dim=-1)
    q, k, v = (p.view(batch, tokens, attention.heads, -1).transpose(1, 2) for p in parts)
    if table is not None:
        q, k = rotate(q, table), rotate(k, table)
    logits = q @ k.transpose(-1, -2) / (dim / attention.heads) ** 0.5
    weights = logits.masked_fill(~valid[:, None, None, :], -torch.inf).softmax(-1)
    return attention.to_out((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


@pytest.mark.parametrize("rotary", [True, False])
def test_attention_is_its_formula(rotary: bool) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(24, 3).double()
    x = torch.randn(2, 11, 24, dtype=torch.float64)
    valid = torch.ones(2, 11, dtype=torch.bool)
    valid[1, 7:] = False
    table = rotation_table(11, 8).double() if rotary else None
    found = attention(x, valid, table)
    torch.testing.assert_close(found, written_out(attention, x, valid, table))
    none = attention(x, None, table)
    torch.testing.assert_close(none[0], found[0])


@pytest.mark.parametrize("make", [PreNormBlock, lambda d, h: PostNormBlock(d, h, 0.0)])
def test_tokens_that_may_not_be_read_change_nothing(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    block = make(16, 2)
    x = torch.randn(2, 9, 16)
    valid = torch.arange(9)[None] < torch.tensor([[9], [5]])
    other = x.clone()
    other[1, 5:] = 7.0
    one, two = block(x, valid), block(other, valid)
    assert torch.equal(one[1, :5], two[1, :5])
    torch.testing.assert_close(one[1, :5], block(x[1:, :5])[0], atol=1e-6, rtol=1e-5)


def test_a_window_without_a_valid_token_is_finite_forward_and_backward() -> None:
    torch.manual_seed(0)
    block = PreNormBlock(16, 2)
    x = torch.randn(2, 6, 16, requires_grad=True)
    valid = torch.tensor([[True] * 6, [False] * 6])
    out = block(x, readable(valid))
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None and x.grad.isfinite().all()
    assert readable(None) is None


def test_no_matrix_of_tokens_by_tokens_is_kept() -> None:
    """2,048 tokens in 2 heads: one such matrix alone would be 8.4 million numbers."""
    block = PreNormBlock(16, 2)
    kept: list[int] = []
    with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        block(torch.randn(1, 2048, 16), None, rotation_table(2048, 8)).sum()
    assert kept
    assert max(kept) <= 2048 * 16 * 8


def test_swiglu_has_eight_squares_of_weights() -> None:
    assert sum(p.numel() for p in SwiGLU(768).parameters()) == 8 * 768**2
    assert sum(p.numel() for p in SwiGLU(64).parameters()) == 3 * 64 * 176  # whole eights
