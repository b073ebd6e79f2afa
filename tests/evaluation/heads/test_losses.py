import numpy as np
import pytest
import torch
from scipy import special, stats

from cislens.errors import CislensError
from cislens.evaluation.heads.losses import loss_for

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 4)).astype(np.float32)


def _loss(kind: str, scores: np.ndarray, y: np.ndarray) -> float:
    return float(loss_for(kind)(torch.tensor(scores), torch.tensor(y, dtype=torch.float32)))


def test_splicing_is_the_divergence_of_what_is_spliced_in() -> None:
    psi = RNG.uniform(0.02, 0.98, size=(6, 4))
    psi[0, 1] = np.nan
    mean = np.nanmean(psi, axis=1, keepdims=True)
    q = special.expit(SCORES + special.logit(mean))
    each = [
        stats.entropy([p, 1 - p], [r, 1 - r])
        for p, r in zip(psi.ravel(), q.ravel(), strict=True)
        if np.isfinite(p)
    ]
    assert _loss("splicing", SCORES, psi) == pytest.approx(np.mean(each), rel=1e-5)
    exact = special.logit(psi) - special.logit(mean)
    assert _loss("splicing", np.nan_to_num(exact, nan=7.0), psi) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["multilabel", "multi_regression", "splicing"])
def test_missing_labels_give_no_loss_and_no_gradient(kind: str) -> None:
    y = (RNG.random((6, 4)) > 0.5).astype(np.float32)
    y[2, 3] = np.nan
    scores = torch.tensor(SCORES, requires_grad=True)
    loss_for(kind)(scores, torch.tensor(y)).backward()
    assert scores.grad is not None
    assert scores.grad[2, 3] == 0
    assert scores.grad.isfinite().all()
    moved = SCORES.copy()
    moved[2, 3] += 9
    assert _loss(kind, moved, y) == pytest.approx(_loss(kind, SCORES, y), abs=1e-6)


def test_labels_none_of_which_was_measured_give_no_loss() -> None:
    y = np.full((6, 4), np.nan)
    for kind in ("multilabel", "multi_regression", "splicing"):
        assert _loss(kind, SCORES, y) == 0


def test_scores_are_logits() -> None:
    # A logit of 100 on the wrong side costs 100; a probability fused wrongly would cost at most 1.
    assert _loss("binary", np.array([[100.0]]), np.array([[0.0]])) == pytest.approx(100)
    assert _loss("multiclass", np.array([[0.0, 100.0]]), np.array([[0.0]])) == pytest.approx(100)
    assert _loss("regression", np.array([[3.0]]), np.array([[1.0]])) == pytest.approx(4)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(CislensError, match="no loss for tasks of kind 'variants'"):
        loss_for("variants")
