import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from cislens.evaluation.heads.linear import ALPHAS, fit_linear, principal_axes


def _data(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 5
    return x, x[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(n, 2)) * d**0.5


@pytest.mark.parametrize(("n", "d"), [(200, 20), (60, 90)])
@pytest.mark.parametrize("alpha", [1e3, 1.0, 1e-2])
def test_ridge_is_scikit_learns(n: int, d: int, alpha: float) -> None:
    x, y = _data(n, d)
    head = fit_linear("ridge", x, y, x, y, "pearson", np.array([alpha]))
    standard = StandardScaler().fit(x)
    peer = Ridge(alpha=alpha).fit(standard.transform(x), y)
    assert head.weight_DT == pytest.approx(peer.coef_.T, abs=1e-9)
    scores = head.scores(x[:5])
    assert scores == pytest.approx(peer.predict(standard.transform(x[:5])), rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 90)])
@pytest.mark.parametrize("alpha", [1e3, 1.0])
def test_logistic_is_scikit_learns(n: int, d: int, alpha: float) -> None:
    x, y = _data(n, d)
    label = (y[:, 0] > np.quantile(y[:, 0], 0.7)).astype(float)
    head = fit_linear("logistic", x, label, x, label, "auroc", np.array([alpha]))
    standard = StandardScaler().fit(x)
    peer = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=100_000)
    peer.fit(standard.transform(x), label)
    assert head.weight_DT[:, 0] == pytest.approx(peer.coef_[0], abs=2e-5)
    logits = peer.decision_function(standard.transform(x))
    assert head.scores(x)[:, 0] == pytest.approx(logits, abs=1e-3)


def test_the_penalty_is_the_best_of_the_path_on_validation() -> None:
    x, y = _data(400, 60)
    label = (y[:, 0] > 0).astype(float)
    head = fit_linear("logistic", x[:200], label[:200], x[200:], label[200:], "auroc")
    each = {}
    for alpha in ALPHAS:
        one = fit_linear(
            "logistic", x[:200], label[:200], x[200:], label[200:], "auroc", np.array([alpha])
        )
        each[alpha] = one.valid_metric
    assert head.valid_metric == pytest.approx(max(each.values()), abs=2e-3)
    assert head.valid_metric == pytest.approx(
        roc_auc_score(label[200:], head.scores(x[200:])[:, 0]), abs=1e-6
    )


def test_constant_features_get_no_weight() -> None:
    x, y = _data(100, 5)
    x[:, 2] = 7
    head = fit_linear("ridge", x, y, x, y, "pearson")
    assert head.weight_DT[2] == pytest.approx(0, abs=1e-12)
    moved = x.copy()
    moved[:, 2] = 1e6
    assert (head.scores(moved) == head.scores(x)).all()


def test_validation_data_do_not_enter_the_fit() -> None:
    x, y = _data(100, 5)
    one = fit_linear("ridge", x, y, x, y, "pearson", np.array([1.0]))
    other = fit_linear("ridge", x, y, x[:7] * 9, y[:7] - 3, "pearson", np.array([1.0]))
    assert (one.weight_DT == other.weight_DT).all()


def test_principal_axes_are_orthonormal_on_either_side() -> None:
    for n, d in ((50, 8), (8, 50)):
        x = np.random.default_rng(1).normal(size=(n, d))
        v_DK, e_K = principal_axes(x - x.mean(0))
        assert v_DK.T @ v_DK == pytest.approx(np.eye(len(e_K)), abs=1e-9)
        singular = np.linalg.svd(x - x.mean(0), compute_uv=False)[: len(e_K)]
        assert np.sort(e_K)[::-1] == pytest.approx(singular**2, rel=1e-9)
