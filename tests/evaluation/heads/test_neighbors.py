import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cislens.errors import CislensError
from cislens.evaluation.heads.neighbors import fit_neighbors
from cislens.evaluation.metrics import metric_value

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 8))
CLASS = np.digitize(X[:, 0], [-0.5, 0.5]).astype(float)


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - X[:200].mean(0)) / X[:200].std(0)


def test_neighbors_are_scikit_learns() -> None:
    y = X[:, 0] + X[:, 1]
    head = fit_neighbors("regression", X[:200], y[:200], X[200:], y[200:], "pearson", [7])
    peer = NearestNeighbors(n_neighbors=7, metric="cosine").fit(_standard(X[:200]))
    distance, rows = peer.kneighbors(_standard(X[200:]))
    weight = 1 / np.maximum(distance, 1e-3)
    usual = weight.mean(1)
    expected = ((weight * y[rows]).sum(1) + usual * y[:200].mean()) / (weight.sum(1) + usual)
    assert head.scores(X[200:])[:, 0] == pytest.approx(expected, abs=1e-4)
    assert head.k == 7
    assert head.parameters == 0


def test_k_is_the_best_on_validation() -> None:
    y = (X[:, 0] > 0).astype(float)
    args = (X[:200], y[:200], X[200:], y[200:], "auroc")
    each = {k: fit_neighbors("binary", *args, [k]).valid_metric for k in (5, 20, 100)}
    head = fit_neighbors("binary", *args, [5, 20, 100])
    assert head.valid_metric == max(each.values())
    assert each[head.k] == head.valid_metric
    assert head.valid_metric > 0.9
    assert head.valid_metric == pytest.approx(
        metric_value("auroc", y[200:], head.scores(X[200:])), abs=1e-6
    )


def test_classes_get_log_shares_and_missing_labels_are_left_out() -> None:
    head = fit_neighbors("multiclass", X[:200], CLASS[:200], X[200:], CLASS[200:], "accuracy")
    assert np.exp(head.scores(X[200:])).sum(1) == pytest.approx(np.ones(100), abs=1e-5)
    assert head.valid_metric > 0.7
    y = np.stack([X[:, 0] > 0, X[:, 1] > 0], 1).astype(float)
    some = y.copy()
    some[:100, 1] = np.nan
    head = fit_neighbors("multilabel", X[:200], some[:200], X[200:], y[200:], "auroc", [10])
    alone = fit_neighbors("multilabel", X[:200], y[:200], X[200:], y[200:], "auroc", [10])
    assert head.scores(X)[:, 0] == pytest.approx(alone.scores(X)[:, 0])
    assert np.isfinite(head.scores(X)).all()


def test_few_examples_and_constant_features_are_no_obstacle() -> None:
    y = X[:, 0]
    flat = np.column_stack([X, np.ones(300)])
    head = fit_neighbors("regression", flat[:4], y[:4], flat[4:30], y[4:30], "pearson")
    assert head.k == 4
    broken = X.copy()
    broken[3, 1] = np.inf
    with pytest.raises(CislensError, match="feature 1 of example 3 is inf"):
        fit_neighbors("regression", broken, y, X, y, "pearson")
    with pytest.raises(CislensError, match="no neighbors head for 'variant'"):
        fit_neighbors("variant", X, y, X, y, "pearson")


def test_neighbors_count_by_their_weights_and_classes_may_be_absent() -> None:
    y = X[:, 0] + X[:, 1]
    args = ("regression", X[:200], y[:200], X[200:], y[200:], "pearson", [7])
    plain, equal = fit_neighbors(*args), fit_neighbors(*args, weights=np.full(200, 3.0))
    assert equal.scores(X[200:]) == pytest.approx(plain.scores(X[200:]), abs=1e-6)
    some = np.arange(200) < 100
    weighted = fit_neighbors(*args[:-1], [200], weights=some.astype(float))
    half = fit_neighbors("regression", X[:100], y[:100], X[200:], y[200:], "pearson", [100])
    assert np.corrcoef(weighted.scores(X[200:])[:, 0], half.scores(X[200:])[:, 0])[0, 1] > 0.99
    head = fit_neighbors("multiclass", X[:200], CLASS[:200], X[200:], CLASS[200:], "mcc", classes=5)
    assert head.scores(X[200:]).shape == (100, 5)
