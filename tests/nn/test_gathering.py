"""On one process the statistics are those of its rows; tests/training/test_distributed has two."""

import torch
from torch import nn

from cislens.nn.batch_norm import BatchNorm
from cislens.nn.gathering import (
    gather_rows,
    mean_over_rows,
    ratio_over_devices,
    share_of_loss,
    sum_over_devices,
    world_size,
)


def test_one_process_is_the_identity() -> None:
    value = torch.randn(3, 2, requires_grad=True)
    gathered, own = gather_rows(value)
    assert gathered is value
    assert own.tolist() == [0, 1, 2]
    assert world_size() == 1
    assert sum_over_devices(value) is value
    assert torch.allclose(mean_over_rows(value.detach()), value.detach().mean(0))
    total = value.sum()
    assert share_of_loss(total, torch.nn.Linear(2, 2), 3) is total


def test_a_ratio_of_nothing_is_nothing() -> None:
    found = ratio_over_devices(torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0]))
    assert found.tolist() == [1.5, 0.0]


def test_batch_norm_is_that_of_torch() -> None:
    torch.manual_seed(0)
    whole, shared, other = BatchNorm(3), BatchNorm(3), nn.BatchNorm1d(3)
    x = torch.randn(8, 3)
    expected = other(x)
    assert torch.equal(whole(x), expected)
    assert torch.allclose(shared._over_devices(x), expected, atol=1e-6)
    for name, value in other.state_dict().items():
        assert torch.equal(whole.state_dict()[name], value), name
        assert torch.allclose(shared.state_dict()[name], value, atol=1e-6), name
