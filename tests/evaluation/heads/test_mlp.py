import numpy as np
import pytest
import torch

from cislens.errors import CislensError
from cislens.evaluation.heads import mlp
from cislens.evaluation.heads.fitting import Regime
from cislens.evaluation.heads.goal import Goal, goal_of
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.heads.losses import loss_for
from cislens.evaluation.heads.mlp import Layers, fit_mlp
from cislens.evaluation.metrics import metric_value
from cislens.evaluation.tasks.card import TaskCard

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(1200, 10)) * np.arange(1, 11) + 100).astype(np.float32)
Z = (X - 100) / np.arange(1, 11)
TRAIN, VALID = slice(0, 800), slice(800, 1200)
REGIME = Regime(steps=150, batch_size=128, learning_rate=1e-2)


def _goal(kind: str, y: np.ndarray, metric: str, outputs: int | None = None) -> Goal:
    y = y.astype(np.float32).reshape(len(y), -1)
    measured = kind in ("regression", "multi_regression")
    shift = np.nanmean(y[TRAIN], 0) if measured else np.zeros(1, np.float32)
    scale = np.nanstd(y[TRAIN], 0) if measured else np.ones(1, np.float32)
    labels = torch.from_numpy((y[TRAIN] - shift) / scale)
    return Goal(outputs or y.shape[1], metric, loss_for(kind), shift, scale, labels, y[VALID])


def _fit(goal: Goal, seed: int = 0, layers: Layers = Layers((64,))):  # noqa: B008
    return fit_mlp(goal, X[TRAIN], X[VALID], layers, REGIME, seed)


def test_it_learns_what_no_linear_head_can() -> None:
    y = (Z[:, 0] * Z[:, 1] > 0).astype(np.float32)
    head = _fit(_goal("binary", y, "auroc"))
    linear = fit_linear("binary", X[TRAIN], y[TRAIN], X[VALID], y[VALID], "auroc")
    assert linear.valid_metric < 0.6
    assert head.valid_metric > 0.9
    assert head.valid_metric == pytest.approx(
        metric_value("auroc", y[VALID], head.scores(X[VALID])), abs=1e-6
    )


def test_values_come_back_in_their_own_unit() -> None:
    y = 50 + 20 * Z[:, 0] ** 2
    head = _fit(_goal("regression", y, "pearson"), layers=Layers((64, 32)))
    assert head.valid_metric > 0.9
    assert head.scores(X[VALID]).mean() == pytest.approx(y[VALID].mean(), rel=0.1)


def test_classes_and_masked_outputs_are_learned() -> None:
    classes = np.digitize(np.abs(Z[:, 0]), [0.4, 1.0])
    head = _fit(_goal("multiclass", classes, "accuracy", 3))
    assert head.scores(X[VALID]).shape == (400, 3)
    assert head.valid_metric > 0.85
    y = np.stack([Z[:, 0] ** 2, np.abs(Z[:, 1])], 1)
    y[RNG.random(y.shape) < 0.5] = np.nan
    assert _fit(_goal("multi_regression", y, "pearson")).valid_metric > 0.8


def test_examples_without_weight_are_not_learned_from() -> None:
    y = (Z[:, 0] > 0).astype(np.float32)
    wrong = np.arange(len(y)) % 2 == 0
    labels = np.where(wrong & (np.arange(len(y)) < 800), 1 - y, y)
    goal, weights = _goal("binary", labels, "auroc"), (~wrong[TRAIN]).astype(float)
    head = fit_mlp(goal, X[TRAIN], X[VALID], Layers((64,)), REGIME, 0, weights)
    assert head.valid_metric > 0.95 > _fit(goal).valid_metric


def test_an_output_without_a_training_label_does_not_end_the_fit() -> None:
    y = np.stack([Z[:, 0], Z[:, 1]], 1).astype(np.float32)
    y[TRAIN, 1] = np.nan
    card = TaskCard.model_validate({
        "name": "t", "kind": "multi_regression", "metric": {"primary": "pearson"},
        "target": {"names": ["a", "b"], "masked": True}, "split": "predefined", "block": "b",
    })  # fmt: skip
    goal = goal_of(card, y[TRAIN], y[VALID])
    assert np.isfinite(goal.shift_T).all() and np.isfinite(_fit(goal).scores(X[VALID])).all()


def test_a_seed_decides_the_fit_and_leaves_torch_as_it_was() -> None:
    goal = _goal("binary", Z[:, 0] > 0, "auroc")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = _fit(goal).scores(X[VALID])
    assert (torch.rand(3) == expected).all()
    torch.manual_seed(6)
    assert (_fit(goal).scores(X[VALID]) == one).all()
    assert np.abs(_fit(goal, seed=1).scores(X[VALID]) - one).max() > 1e-3


def test_heads_of_all_arms_have_one_graph() -> None:
    goal = _goal("binary", Z[:, 0] > 0, "auroc")
    wide = fit_mlp(goal, X[TRAIN, :6], X[VALID, :6], Layers((64,)), REGIME, 0)
    assert wide.graph == _fit(goal).graph
    assert _fit(goal, layers=Layers((32,))).graph != wide.graph
    assert wide.parameters == 6 * 64 + 64 + 2 * 64 + 64 + 1


def test_features_that_are_not_finite_are_refused() -> None:
    goal = _goal("binary", Z[:, 0] > 0, "auroc")
    broken = X[TRAIN].copy()
    broken[5, 2] = np.nan
    with pytest.raises(CislensError, match="feature 2 of example 5 is nan"):
        fit_mlp(goal, broken, X[VALID], Layers(), REGIME, 0)


def test_a_head_with_an_unused_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(mlp.MLP):
        def __init__(self, features: int, layers: Layers, outputs: int, seed: int) -> None:
            super().__init__(features, layers, outputs, seed)
            self.reduction = torch.nn.Linear(features, 4)

    monkeypatch.setattr(mlp, "MLP", Forgetful)
    with pytest.raises(CislensError, match="Forgetful: reduction is built but not used"):
        _fit(_goal("binary", Z[:, 0] > 0, "auroc"))
