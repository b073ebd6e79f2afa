"""Attention pooling over adjacent pairs."""

import torch

from cislens.nn.pooling import AttentionPool


def softmax_pool(pool: AttentionPool, x_BLC: torch.Tensor) -> torch.Tensor:
    """The definition: softmax over the pair of W x, per channel."""
    batch, length, channels = x_BLC.shape
    pairs = x_BLC.reshape(batch, length // 2, 2, channels)
    logits = pairs @ pool.weight.squeeze().T
    return (pairs * logits.softmax(dim=2)).sum(dim=2)


def test_constant_pairs_pass_at_init() -> None:
    x = torch.randn(2, 8, 5).repeat_interleave(2, dim=1)
    torch.testing.assert_close(AttentionPool(5)(x), x[:, ::2], atol=1e-6, rtol=0)


def test_equals_softmax_over_pairs() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(6)
    torch.nn.init.normal_(pool.weight)
    x = torch.randn(3, 10, 6, requires_grad=True)
    expected, found = softmax_pool(pool, x), pool(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad(expected.square().sum(), [x, pool.weight])
    given = torch.autograd.grad(found.square().sum(), [x, pool.weight])
    torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-4)


def test_odd_length_ignores_the_pad() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(4)
    torch.nn.init.normal_(pool.weight)
    x = torch.randn(2, 7, 4, requires_grad=True)
    y = pool(x)
    assert y.shape == (2, 4, 4)
    torch.testing.assert_close(y[:, -1], x[:, -1], atol=1e-6, rtol=0)
    torch.testing.assert_close(y[:, :3], pool(x[:, :6]), atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(y[:, -1].sum(), x)
    assert gradient[:, -1].eq(1).all()
    assert gradient[:, :-1].eq(0).all()
