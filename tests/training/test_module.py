import pytest
import torch
from torch import nn

from cislens.training.module import parameter_groups, warmup_cosine


def test_schedule_rises_to_one_and_falls_to_zero() -> None:
    factors = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
    assert factors[55] == pytest.approx(0.5)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_only_matrices_decay_and_every_parameter_is_trained_once() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 5), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[2].bias.requires_grad_(False)
    decayed, kept = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 4, 5), (3, 8)]
    trained = [id(p) for group in (decayed, kept) for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert torch.is_tensor(kept["params"][0])
