"""The contrastive loss: its formula, and what excluded pairs leave behind."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.nn.pairwise import sigmoid_contrast

SCALE, BIAS = torch.tensor(10.0), torch.tensor(-10.0)


def vectors(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    q, m = F.normalize(torch.randn(2, rows, 8, generator=rng), dim=2)
    return q, m, torch.rand(rows, rows, generator=rng) < 0.6


def test_is_the_double_loop() -> None:
    """Within 1e-6 of it, as fp32 goes."""
    q, m, apart = vectors(7)
    expected = 0.0
    for i in range(7):
        for j in range(7):
            logit = 10.0 * float(q[i].double() @ m[j].double()) - 10.0
            if i == j:
                expected -= math.log(1 / (1 + math.exp(-logit)))
            elif apart[i, j]:
                expected -= math.log(1 / (1 + math.exp(logit)))
    found = sigmoid_contrast(q, m, SCALE, BIAS, apart).item()
    assert abs(found * 7 / expected - 1) < 1e-6


def test_excluded_pairs_have_no_gradient() -> None:
    """Exactly zero: what only excluded pairs hold gets none, own pairs get theirs."""
    q, m, apart = vectors(5)
    apart[:, 2] = False
    apart[0, :] = False
    q.requires_grad_(), m.requires_grad_()
    logit_of_one = 10.0 * q[0] @ m[0] - 10.0
    (q_slope,) = torch.autograd.grad(F.softplus(-logit_of_one) / 5, q)
    (m_slope,) = torch.autograd.grad(F.softplus(-(10.0 * q[2] @ m[2] - 10.0)) / 5, m)
    found = torch.autograd.grad(sigmoid_contrast(q, m, SCALE, BIAS, apart), (q, m))
    # Each gets the slope of its own pair and none of the others'.
    torch.testing.assert_close(found[0][0], q_slope[0], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(found[1][2], m_slope[2], rtol=1e-5, atol=1e-8)
    # Between the first and the second row, whatever excluded vectors are changes no bit.
    other = m.detach().clone()
    other[1] = -other[1]
    loss = sigmoid_contrast(q, other, SCALE, BIAS, apart)
    (again,) = torch.autograd.grad(loss, q)
    assert torch.equal(again[0], found[0][0])


def test_one_pair_is_finite() -> None:
    q, m, _ = vectors(1)
    loss = sigmoid_contrast(q, m, SCALE, BIAS, torch.zeros(1, 1, dtype=torch.bool))
    torch.testing.assert_close(loss, F.softplus(-(10.0 * q[0] @ m[0] - 10.0)))


def test_extreme_logits_are_finite() -> None:
    """A pair that is sure and wrong costs its logit."""
    q = torch.eye(2)
    loss = sigmoid_contrast(
        q, q.flip(0), torch.tensor(1e4), torch.tensor(0.0), ~torch.eye(2).bool()
    )
    torch.testing.assert_close(loss, torch.tensor(1e4 + math.log(2)))


def test_is_fp32_under_autocast() -> None:
    q, m, apart = vectors(6)
    with torch.autocast("cpu", torch.bfloat16):
        loss = sigmoid_contrast(q, m, SCALE, BIAS, apart)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, sigmoid_contrast(q, m, SCALE, BIAS, apart))
