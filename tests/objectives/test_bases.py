"""Hidden bases: who is asked, what each counts, and who learns from it."""

import math

import pytest
import torch

from cislens.objectives.bases import base_nats, masked_term, repeat_weights


def test_mean_over_scored_bases_that_are_called() -> None:
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[0, 1, 2, 3, 4], [3, 4, 0, 0, 1]], dtype=torch.uint8)
    scored = torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]).bool()
    asked = [(0, 0), (0, 2), (1, 3)]  # the two N that are scored by mistake do not count
    expected = -sum(
        float(logits[b, at].double().log_softmax(0)[int(target[b, at])]) for b, at in asked
    )
    assert masked_term(logits, target, scored).item() == pytest.approx(expected / 3, rel=1e-6)


def test_gradient_is_exactly_zero_at_all_other_bases() -> None:
    logits = torch.randn(2, 5, 4, requires_grad=True)
    target = torch.tensor([[0, 1, 2, 3, 4], [3, 4, 0, 0, 1]], dtype=torch.uint8)
    scored = torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]).bool()
    masked_term(logits, target, scored).backward()
    asked = scored & (target < 4)
    assert logits.grad is not None
    assert logits.grad[~asked].eq(0).all()
    assert logits.grad[asked].ne(0).all()


def test_nothing_scored_is_zero_with_a_gradient_of_zero() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)
    target = torch.zeros(1, 4, dtype=torch.uint8)
    loss = masked_term(logits, target, torch.zeros(1, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and logits.grad.eq(0).all()


def test_knowing_nothing_costs_ln_4() -> None:
    target = torch.randint(0, 4, (3, 8), dtype=torch.uint8)
    flat = masked_term(torch.zeros(3, 8, 4), target, torch.ones(3, 8, dtype=torch.bool))
    assert flat.item() == pytest.approx(math.log(4), rel=1e-6)


def test_fp32_under_autocast() -> None:
    logits = torch.randn(2, 6, 4).bfloat16()
    target, scored = torch.ones(2, 6, dtype=torch.uint8), torch.ones(2, 6, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        loss = masked_term(logits, target, scored)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, masked_term(logits.float(), target, scored))


def test_bases_of_repeats_count_less_and_those_of_weight_0_not_at_all() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)
    target = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)
    scored = torch.tensor([[True, True, True, False]])
    weight = repeat_weights(torch.tensor([[False, True, False, False]]), 0.1)
    nats = base_nats(logits, target, scored)[0]
    loss = masked_term(logits, target, scored, weight)
    assert loss.item() == pytest.approx(((nats[0] + 0.1 * nats[1] + nats[2]) / 2.1).item())
    masked_term(logits, target, scored, repeat_weights(scored, 0.0)).backward()
    assert logits.grad is not None and logits.grad.eq(0).all()


def test_weights_of_1_change_nothing() -> None:
    logits = torch.randn(2, 6, 4)
    target, scored = torch.randint(0, 5, (2, 6)).byte(), torch.rand(2, 6) < 0.5
    plain, weighted = (masked_term(logits, target, scored, w) for w in (None, torch.ones(2, 6)))
    assert weighted.item() == pytest.approx(plain.item(), rel=1e-6)
