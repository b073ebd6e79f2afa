import torch
from torch import nn

from cislens.nn.standardize import Standardize


def rows(seed: int = 0, count: int = 24) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return 5 + 3 * torch.randn(count, 7, generator=made)


def test_in_training_it_is_batch_normalization_with_its_gradient() -> None:
    x_BD, slope_BD = rows().requires_grad_(), rows(1)
    found = []
    for module in (Standardize(7), nn.BatchNorm1d(7, affine=False)):
        y_BD = module(x_BD)
        (gradient,) = torch.autograd.grad((y_BD * slope_BD).sum(), x_BD)
        found.append((y_BD, gradient))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_running_statistics_are_right_from_the_first_batch_on() -> None:
    module = Standardize(7)
    module(rows())
    mean_D = module.eval()(rows()).mean(dim=0)
    assert mean_D.abs().max() < 1e-5
    module.train()(rows(1))
    both = (rows().mean(0) + rows(1).mean(0)) / 2
    torch.testing.assert_close(module.mean_D, both)
    for _ in range(200):
        module(rows(2))
    torch.testing.assert_close(module.mean_D, rows(2).mean(0))


def test_what_all_rows_share_is_taken_away_and_evaluation_is_by_row() -> None:
    module = Standardize(7)
    torch.testing.assert_close(module(rows() + 100), module(rows()), rtol=1e-3, atol=1e-3)
    module.eval()
    torch.testing.assert_close(module(rows())[:3], module(rows()[:3]))
