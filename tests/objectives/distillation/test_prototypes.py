"""Targets that do not collapse, and views that are never held against themselves."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cislens.objectives.distillation.prototypes import (
    ProjectionHead,
    Targets,
    pooled_term,
    sinkhorn,
)


def test_sinkhorn_rows_sum_to_1_and_prototypes_get_equal_shares() -> None:
    logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    share = sinkhorn(logits)
    assert share.sum(dim=1).sub(1).abs().max() < 1e-6
    assert sinkhorn(logits, rounds=200).sum(dim=0).sub(64 / 8).abs().max() < 1e-2
    # Three rounds are already much nearer to equal shares than none.
    before = (logits.softmax(1).sum(0) - 8).abs().max()
    assert (share.sum(dim=0) - 8).abs().max() < 0.1 * before


def test_sinkhorn_shares_out_one_prototype_for_all() -> None:
    """All rows favor the same prototype by 1e-3: it is not given to all of them."""
    logits = torch.zeros(16, 4)
    logits[:, 0] = 30.0
    logits[:4, 0] += 1e-3
    share = sinkhorn(logits)
    assert share.isfinite().all()
    assert share.sum(dim=0).sub(4).abs().max() < 0.1


def test_sinkhorn_of_far_apart_logits_is_finite() -> None:
    share = sinkhorn(1e4 * torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))
    assert share.isfinite().all()
    assert share.sum(dim=1).sub(1).abs().max() < 1e-5


def test_the_center_follows_in_training_only_and_after_it_was_asked() -> None:
    targets = Targets(3, "center")
    logits = torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.0, 2.0]])
    first = targets(logits, 0.5)
    assert torch.allclose(first, (logits / 0.5).softmax(1))
    assert torch.allclose(targets.center_K, 0.1 * logits.mean(0))
    second = targets(logits, 0.5)
    assert torch.allclose(second, ((logits - 0.1 * logits.mean(0)) / 0.5).softmax(1))
    assert torch.allclose(targets.center_K, 0.19 * logits.mean(0))
    targets.eval()
    targets(logits, 0.5)
    assert torch.allclose(targets.center_K, 0.19 * logits.mean(0))


def test_in_evaluation_a_row_is_judged_by_itself() -> None:
    """Equal shares by force would hide a collapse from what watches the teacher."""
    targets = Targets(4, "sinkhorn").eval()
    collapsed = torch.zeros(16, 4)
    collapsed[:, 0] = 10.0
    assert targets(collapsed, 1.0)[:, 0].min() > 0.99


def test_pooled_term_leaves_out_the_pairs_of_a_view_with_itself() -> None:
    torch.manual_seed(0)
    student, share = torch.randn(4, 3, 5), torch.randn(2, 3, 5).softmax(2)
    log_share = (student / 0.1).log_softmax(2)
    pairs = [(v, s) for v in range(2) for s in range(4) if v != s]
    nats = [-(share[v] * log_share[s]).sum(1).mean() for v, s in pairs]
    assert len(nats) == 6
    expected = torch.stack(nats).mean().item()
    assert pooled_term(student, share, 0.1).item() == pytest.approx(expected, rel=1e-6)


def test_a_view_has_no_gradient_from_its_own_target() -> None:
    student = torch.randn(2, 1, 5, requires_grad=True)
    share = torch.full((2, 1, 5), 0.2)
    share[0] = F.one_hot(torch.tensor([3]), 5)
    pooled_term(student, share, 1.0).backward()
    # View 1 is told by the target of view 0, and view 0 by that of view 1, which is flat.
    assert student.grad is not None
    flat = (student[0].softmax(1) - 0.2).detach() / 2
    assert torch.allclose(student.grad[0], flat, atol=1e-6)
    assert student.grad[1, 0, 3] < 0


def test_knowing_nothing_costs_ln_k() -> None:
    share = torch.full((2, 3, 16), 1 / 16)
    assert pooled_term(torch.zeros(2, 3, 16), share, 0.1).item() == pytest.approx(math.log(16))


def test_logits_are_cosines_and_blind_to_the_length_of_prototypes() -> None:
    head = ProjectionHead(8, 32)
    pooled = 100 * torch.randn(5, 8)
    logits = head(pooled)
    assert logits.shape == (5, 32)
    assert logits.abs().max() <= 1 + 1e-5
    with torch.no_grad():
        head.prototypes_KE.mul_(7.0)
    assert torch.allclose(head(pooled), logits, atol=1e-6)


@pytest.mark.parametrize(("dim", "widths"), [(64, (256, 256, 64)), (320, (1024, 1024, 256))])
def test_widths_of_the_head(dim: int, widths: tuple[int, ...]) -> None:
    layers = [layer for layer in ProjectionHead(dim, 4).layers if isinstance(layer, nn.Linear)]
    assert tuple(layer.out_features for layer in layers) == widths


def test_without_prototypes_the_channels_stand_for_them() -> None:
    head, pooled = ProjectionHead(8, 0), torch.randn(5, 8)
    assert torch.equal(head(pooled), pooled)
    assert not list(head.parameters())
