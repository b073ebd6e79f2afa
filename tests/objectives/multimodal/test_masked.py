"""Halves of sequences: who is asked, and who learns from it."""

import math

import pytest
import torch
import torch.nn.functional as F

from cislens.objectives.multimodal.masked import next_term


def test_class_0_is_that_the_second_half_follows() -> None:
    logits = torch.tensor([[2.0, -1.0], [2.0, -1.0]])
    expected = -F.log_softmax(logits[0], 0)
    assert next_term(logits, torch.tensor([0, 0])).item() == pytest.approx(expected[0].item())
    assert next_term(logits, torch.tensor([1, 1])).item() == pytest.approx(expected[1].item())


def test_not_knowing_costs_ln_2() -> None:
    halves = next_term(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    assert halves.item() == pytest.approx(math.log(2), rel=1e-6)
