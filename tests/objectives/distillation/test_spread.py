"""Vectors of different windows: how near they are, and who is told from whom."""

import math

import pytest
import torch
import torch.nn.functional as F

from cislens.objectives.distillation.spread import contrast_term, koleo_term, may_overlap


def test_koleo_is_minus_the_mean_log_of_the_nearest_distance() -> None:
    pooled = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    unit = F.normalize(pooled.double(), dim=1)
    gaps = torch.cdist(unit, unit) + torch.diag(torch.full((6,), torch.inf).double())
    expected = -gaps.min(1).values.log().mean().item()
    assert koleo_term(pooled).item() == pytest.approx(expected, rel=1e-5)
    assert koleo_term(9 * pooled).item() == pytest.approx(expected, rel=1e-5)


def test_its_gradient_pushes_the_nearest_pair_apart() -> None:
    angle = torch.tensor([0.0, 0.1, 2.0, 4.0])
    pooled = torch.stack([angle.cos(), angle.sin()], 1).requires_grad_()
    koleo_term(pooled).backward()
    assert pooled.grad is not None
    moved = (pooled - 0.01 * pooled.grad).detach()

    def gap(of: torch.Tensor) -> float:
        return (F.normalize(of[0], dim=0) - F.normalize(of[1], dim=0)).norm().item()

    assert gap(moved) > gap(pooled.detach())


def test_equal_vectors_and_a_vector_alone_are_finite() -> None:
    pooled = torch.ones(3, 4, requires_grad=True)
    loss = koleo_term(pooled)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-3)
    assert pooled.grad is not None and pooled.grad.isfinite().all()
    assert koleo_term(torch.ones(1, 4)).item() == 0


def test_contrast_is_the_cross_entropy_of_the_own_window() -> None:
    torch.manual_seed(0)
    student, taught = torch.randn(4, 6), torch.randn(4, 6)
    like = F.normalize(student, dim=1) @ F.normalize(taught, dim=1).T
    expected = F.cross_entropy(like / 0.2, torch.arange(4)).item()
    near = torch.zeros(4, 4).bool()
    assert contrast_term(student, taught, near, 0.2).item() == pytest.approx(expected, rel=1e-5)


def test_windows_that_may_overlap_are_no_wrong_ones() -> None:
    """The only wrong one is as good as the right one, and then it is left out."""
    chrom, start = torch.tensor([0, 0, 1]), torch.tensor([0, 500, 500])
    near = may_overlap(chrom, start, 512)
    assert near.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    same = torch.ones(2, 3)
    there = torch.zeros(2, 2).bool()
    assert contrast_term(same, same, there, 0.1).item() == pytest.approx(math.log(2))
    assert contrast_term(same, same, near[:2, :2], 0.1).item() == pytest.approx(0, abs=1e-6)
    assert may_overlap(chrom, start, 500).sum() == 3
