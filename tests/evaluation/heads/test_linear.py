import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.preprocessing import StandardScaler

from cislens.errors import CislensError
from cislens.evaluation.heads import design as design_module
from cislens.evaluation.heads.design import Design
from cislens.evaluation.heads.linear import (
    ALPHAS,
    LinearHead,
    fit_linear,
    fit_linear_cv,
    fold_of_blocks,
)


def _data(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 5
    return x, x[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(n, 2)) * d**0.5


def _classes(y: np.ndarray) -> np.ndarray:
    return np.digitize(y[:, 0], np.quantile(y[:, 0], [0.3, 0.7, 0.9])).astype(float)


def _at(kind: str, x: np.ndarray, y: np.ndarray, alpha: float, **options: object) -> LinearHead:
    metric = {"multiclass": "accuracy", "binary": "auroc", "multilabel": "auroc"}.get(
        kind, "pearson"
    )
    return fit_linear(kind, x, y, x, y, metric, alphas=np.array([alpha]), **options)


def _standard(x: np.ndarray) -> np.ndarray:
    return StandardScaler().fit_transform(x)


@pytest.mark.parametrize(("n", "d"), [(200, 20), (60, 90)])
@pytest.mark.parametrize("alpha", [1e3, 1.0, 1e-2])
def test_ridge_is_scikit_learns(n: int, d: int, alpha: float) -> None:
    x, y = _data(n, d)
    head = _at("multi_regression", x, y, alpha)
    peer = Ridge(alpha=alpha).fit(_standard(x), y)
    assert head.weight_DT == pytest.approx(peer.coef_.T, abs=1e-8)
    assert head.scores(x[:5]) == pytest.approx(peer.predict(_standard(x)[:5]), rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 90)])
@pytest.mark.parametrize("alpha", [1e3, 1.0, 1e-2])
def test_logistic_is_scikit_learns(n: int, d: int, alpha: float) -> None:
    x, y = _data(n, d)
    label = (y[:, 0] > np.quantile(y[:, 0], 0.7)).astype(float)
    head = _at("binary", x, label, alpha)
    peer = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=100_000).fit(_standard(x), label)
    assert head.weight_DT[:, 0] == pytest.approx(peer.coef_[0], abs=2e-5)
    assert head.scores(x)[:, 0] == pytest.approx(peer.decision_function(_standard(x)), abs=1e-4)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 90)])
@pytest.mark.parametrize("alpha", [1e2, 1.0, 1e-2])
def test_softmax_is_scikit_learns(n: int, d: int, alpha: float) -> None:
    x, y = _data(n, d)
    label = _classes(y)
    head = _at("multiclass", x, label, alpha)
    peer = LogisticRegression(C=1 / alpha, tol=1e-10, solver="newton-cholesky", max_iter=1000)
    peer.fit(_standard(x), label)
    assert head.weight_DT == pytest.approx(peer.coef_.T, abs=1e-3)
    ours, theirs = head.scores(x), peer.decision_function(_standard(x))
    # A constant added to every class changes no probability.
    ours, theirs = (s - s.mean(1, keepdims=True) for s in (ours, theirs))
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_large_problems_in_single_precision_are_scikit_learns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(design_module, "_EXACT", 0)
    monkeypatch.setattr(design_module, "_BLOCK", 64 * 50)  # several blocks, an uneven last one
    x, y = _data(1000, 50)
    label = (y[:, 0] > y[:, 0].mean()).astype(float)
    head = _at("binary", x.astype(np.float32), label, 1.0)
    peer = LogisticRegression(C=1, tol=1e-10, max_iter=100_000).fit(_standard(x), label)
    assert head.scores(x)[:, 0] == pytest.approx(peer.decision_function(_standard(x)), abs=1e-3)
    ridge = _at("multi_regression", x.astype(np.float32), y, 1.0)
    peer = Ridge(alpha=1).fit(_standard(x), y)
    assert ridge.scores(x) == pytest.approx(peer.predict(_standard(x)), abs=1e-4)


@pytest.mark.parametrize("kept", [True, False])
def test_blocks_that_are_standardized_on_the_way_change_nothing(
    kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = _data(1000, 30)
    label = (y[:, 0] > y[:, 0].mean()).astype(float)
    one = fit_linear_cv("binary", x, label, np.arange(1000) // 10, "auroc")
    monkeypatch.setattr(design_module, "_KEPT", 10**9 if kept else 0)
    monkeypatch.setattr(design_module, "_BLOCK", 64 * 30)
    other = fit_linear_cv("binary", x, label, np.arange(1000) // 10, "auroc")
    assert other.alpha == one.alpha
    assert other.weight_DT == pytest.approx(one.weight_DT, abs=1e-6)


def test_missing_labels_are_left_out_of_their_output_alone() -> None:
    x, y = _data(300, 20)
    rng = np.random.default_rng(3)
    hidden = rng.random(y.shape) < [[0.3, 0.6]]
    values = np.where(hidden, np.nan, y)
    ridge = _at("multi_regression", x, values, 1.0)
    labels = np.where(hidden, np.nan, y > y.mean(0))
    logistic = _at("multilabel", x, labels, 1.0)
    for t in range(2):
        kept = ~hidden[:, t]
        peer = Ridge(alpha=1.0).fit(_standard(x)[kept], y[kept, t])
        assert ridge.weight_DT[:, t] == pytest.approx(peer.coef_, abs=1e-8)
        assert ridge.bias_T[t] == pytest.approx(peer.intercept_, abs=1e-8)
        peer = LogisticRegression(C=1, tol=1e-10, max_iter=10_000)
        peer.fit(_standard(x)[kept], labels[kept, t])
        assert logistic.weight_DT[:, t] == pytest.approx(peer.coef_[0], abs=2e-5)


@pytest.mark.parametrize(("n", "d"), [(300, 40), (100, 150)])
def test_many_patterns_of_missing_labels_are_solved_by_iteration(n: int, d: int) -> None:
    x, _ = _data(n, d)
    rng = np.random.default_rng(5)
    y = 1e3 + 50 * x[:, :3] @ rng.normal(size=(3, 12)) + 100 * rng.normal(size=(n, 12))
    y[rng.random(y.shape) < 0.3] = np.nan
    for alpha in (1e3, 10.0):
        head = _at("splicing", x, y, alpha)
        for t in range(12):
            kept = np.isfinite(y[:, t])
            peer = Ridge(alpha=alpha).fit(_standard(x)[kept], y[kept, t])
            scale = np.abs(peer.coef_).max()
            assert head.weight_DT[:, t] == pytest.approx(peer.coef_, abs=1e-4 * scale)
            assert head.bias_T[t] == pytest.approx(peer.intercept_, rel=1e-5)
    folded = fit_linear_cv("splicing", x, y, np.arange(n) // 5, "pearson")
    assert folded.valid_metric > 0.5


def test_weights_count_as_copies_of_examples() -> None:
    x, y = _data(200, 10)
    weights = np.random.default_rng(0).integers(0, 4, 200).astype(float)
    label = _classes(y)
    ridge = _at("regression", x, y[:, 0], 1.0, weights=weights)
    peer = Ridge(alpha=1.0).fit(_standard(x), y[:, 0], sample_weight=weights)
    assert ridge.weight_DT[:, 0] == pytest.approx(peer.coef_, abs=1e-8)
    softmax = _at("multiclass", x, label, 1.0, weights=weights)
    peer = LogisticRegression(C=1, tol=1e-10, max_iter=10_000)
    peer.fit(_standard(x), label, sample_weight=weights)
    assert softmax.weight_DT == pytest.approx(peer.coef_.T, abs=1e-4)


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_the_penalty_of_folds_is_the_best_of_scikit_learns(kind: str) -> None:
    x, y = _data(400, 60)
    binary = kind == "binary"
    label = (y[:, 0] > 0).astype(float) if binary else y[:, 0]
    blocks = np.arange(400) // 7
    metric, scoring = ("auroc", "roc_auc") if binary else ("pearson", _pearson)
    head = fit_linear_cv(kind, x, label, blocks, metric)
    split = PredefinedSplit(fold_of_blocks(blocks, 5, label if binary else None))
    each = {}
    for alpha in ALPHAS:
        peer = LogisticRegression(C=1 / alpha, max_iter=10_000) if binary else Ridge(alpha=alpha)
        each[alpha] = cross_val_score(peer, _standard(x), label, cv=split, scoring=scoring).mean()
    # Along the path the logistic fits are stopped early: some of 1600 pairs of a fold may flip.
    assert head.valid_metric == pytest.approx(max(each.values()), abs=5e-4)
    assert each[head.alpha] == pytest.approx(max(each.values()), abs=5e-4)
    # The head itself is fitted on all examples.
    whole = _at(kind, x, label, head.alpha)
    assert head.weight_DT == pytest.approx(whole.weight_DT, abs=1e-5)


def _pearson(peer: Ridge, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(peer.predict(x), y)[0, 1])


def test_folds_hold_whole_blocks_and_need_enough_of_them() -> None:
    blocks = np.repeat(np.arange(20), 5)
    fold = fold_of_blocks(blocks, 5)
    assert all(len(set(fold[blocks == block])) == 1 for block in range(20))
    assert np.bincount(fold).tolist() == [20] * 5
    with pytest.raises(CislensError, match="there are 3 blocks"):
        fold_of_blocks([0, 1, 2, 2], 5)


def test_the_penalty_is_the_best_of_the_path_on_validation() -> None:
    x, y = _data(400, 60)
    label = (y[:, 0] > 0).astype(float)
    head = fit_linear("binary", x[:200], label[:200], x[200:], label[200:], "auroc")
    each = {}
    for alpha in ALPHAS:
        one = fit_linear(
            "binary", x[:200], label[:200], x[200:], label[200:], "auroc", alphas=np.array([alpha])
        )
        each[alpha] = one.valid_metric
    assert head.valid_metric == pytest.approx(max(each.values()), abs=2e-3)
    assert head.valid_metric == pytest.approx(
        roc_auc_score(label[200:], head.scores(x[200:])[:, 0]), abs=1e-6
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_thirty_examples_of_more_features_are_enough(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 500))
    signal = x[:, :20].sum(1)
    y = {"regression": signal, "binary": signal > 0, "multiclass": np.digitize(signal, [-3, 3])}
    metric = {"regression": "pearson", "binary": "auroc", "multiclass": "macro_auroc"}[kind]
    labels = y[kind].astype(float)
    head = fit_linear(kind, x[:30], labels[:30], x[30:], labels[30:], metric)
    assert head.scores(x).shape == (60, 3 if kind == "multiclass" else 1)
    assert np.isfinite(head.valid_metric)
    assert head.weight_DT.shape[0] == 500


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_constant_features_get_no_weight(kind: str) -> None:
    x, y = _data(100, 5)
    x[:, 2] = 7
    label = y[:, 0] if kind == "regression" else (y[:, 0] > y[:, 0].mean()).astype(float)
    head = _at(kind, x, label, 1.0)
    assert head.weight_DT[2] == pytest.approx(0, abs=1e-12)
    moved = x.copy()
    moved[:, 2] = 1e6
    assert (head.scores(moved) == head.scores(x)).all()


@pytest.mark.parametrize("kind", ["multi_regression", "multilabel"])
@pytest.mark.parametrize("features", [3, 300])
def test_features_that_are_all_constant_predict_the_mean(kind: str, features: int) -> None:
    x = np.full((100, features), 0.1, dtype=np.float32)
    y = (np.arange(100) % 4 == 0).astype(float)
    metric = "auroc" if kind == "multilabel" else "pearson"
    head = fit_linear(kind, x, y, x, y, metric)
    expected = 0.25 if kind == "multi_regression" else np.log(0.25 / 0.75)
    assert head.scores(x)[:, 0] == pytest.approx(np.full(100, expected), abs=1e-5)


def test_an_output_of_one_class_gets_its_share_and_no_weight() -> None:
    x, y = _data(100, 5)
    labels = np.stack([y[:, 0] > y[:, 0].mean(), np.zeros(100)], 1).astype(float)
    head = fit_linear("multilabel", x, labels, x, labels[:, :1].repeat(2, 1), "auroc")
    assert (head.weight_DT[:, 1] == 0).all()
    assert (np.abs(head.weight_DT[:, 0]) > 0).all()


def test_validation_data_do_not_enter_the_fit() -> None:
    x, y = _data(100, 5)
    alphas = np.array([1.0])
    one = fit_linear("multi_regression", x, y, x, y, "pearson", alphas=alphas)
    other = fit_linear("multi_regression", x, y, x[:7] * 9, y[:7] - 3, "pearson", alphas=alphas)
    assert (one.weight_DT == other.weight_DT).all()


def test_what_cannot_be_fitted_is_refused_and_its_twin_is_not() -> None:
    x, y = _data(100, 5)
    label = (y[:, 0] > y[:, 0].mean()).astype(float)
    broken = x.copy()
    broken[41, 3] = np.nan
    with pytest.raises(CislensError, match="training features: feature 3 of example 41 is nan"):
        fit_linear("binary", broken, label, x, label, "auroc")
    with pytest.raises(CislensError, match="validation features: feature 3 of example 41"):
        fit_linear("binary", x, label, broken, label, "auroc")
    with pytest.raises(CislensError, match="all 100 training labels are of one class"):
        fit_linear("binary", x, np.ones(100), x, label, "auroc")
    with pytest.raises(CislensError, match="labels of a logistic head are 0 or 1"):
        fit_linear("binary", x, label * 2, x, label, "auroc")
    with pytest.raises(CislensError, match="labels of a softmax head"):
        fit_linear("multiclass", x, label + 0.5, x, label, "accuracy")
    with pytest.raises(CislensError, match="99 rows of labels"):
        fit_linear("binary", x, label[:-1], x, label, "auroc")
    with pytest.raises(CislensError, match="weights of examples"):
        fit_linear("binary", x, label, x, label, "auroc", weights=-np.ones(100))
    with pytest.raises(CislensError, match="no linear head for 'binray'"):
        fit_linear("binray", x, label, x, label, "auroc")
    assert fit_linear("binary", x, label, x, label, "auroc").valid_metric > 0.5


def test_principal_axes_are_those_of_the_singular_values() -> None:
    for n, d in ((50, 8), (8, 50)):
        x = np.random.default_rng(1).normal(size=(n, d)) + 3
        v_KK, e_K = Design(x).axes()
        assert v_KK.T @ v_KK == pytest.approx(np.eye(len(e_K)), abs=1e-9)
        singular = np.linalg.svd(_standard(x), compute_uv=False)[: len(e_K)]
        assert np.sort(e_K)[::-1] == pytest.approx(singular**2, rel=1e-9)
