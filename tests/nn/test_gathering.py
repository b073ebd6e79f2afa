"""On one process the statistics are those of its rows."""

import torch

from cislens.nn.gathering import gather_rows, mean_over_rows, reaching_all, world_size


def test_one_process_is_the_identity() -> None:
    value = torch.randn(3, 2, requires_grad=True)
    gathered, first = gather_rows(value)
    assert gathered is value
    assert first == 0
    assert world_size() == 1
    assert torch.allclose(mean_over_rows(value.detach()), value.detach().mean(0))
    total = value.sum()
    assert reaching_all(total, torch.nn.Linear(2, 2)) is total
