import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as peers

from cislens.errors import CislensError
from cislens.evaluation.metrics import METRICS, metric_draws, metric_value

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 400).astype(float)
SCORES = np.round(RNG.normal(size=400) + 0.6 * Y, 1)  # rounded, so that there are ties
WEIGHTS = RNG.integers(0, 4, 400).astype(float)


def test_metrics_agree_with_scikit_learn_and_scipy() -> None:
    assert metric_value("auroc", Y, SCORES) == pytest.approx(
        peers.roc_auc_score(Y, SCORES), abs=1e-12
    )
    assert metric_value("auprc", Y, SCORES) == pytest.approx(
        peers.average_precision_score(Y, SCORES), abs=1e-12
    )
    assert metric_value("mcc", Y, SCORES) == pytest.approx(
        peers.matthews_corrcoef(Y, SCORES > 0), abs=1e-12
    )
    assert metric_value("pearson", Y, SCORES) == pytest.approx(
        stats.pearsonr(Y, SCORES).statistic, abs=1e-12
    )


@pytest.mark.parametrize("name", sorted(METRICS))
def test_weights_count_an_example_as_often_as_it_was_drawn(name: str) -> None:
    rows = np.repeat(np.arange(400), WEIGHTS.astype(int))
    drawn = metric_value(name, Y[rows], SCORES[rows])
    weighted = metric_draws(name, Y[:, None], SCORES[:, None], WEIGHTS[None])
    assert weighted[0] == pytest.approx(drawn, abs=1e-12)


def test_weighted_auroc_and_auprc_agree_with_scikit_learn() -> None:
    one = {"y_true": Y, "y_score": SCORES, "sample_weight": WEIGHTS}
    auroc = metric_draws("auroc", Y[:, None], SCORES[:, None], WEIGHTS[None])[0]
    auprc = metric_draws("auprc", Y[:, None], SCORES[:, None], WEIGHTS[None])[0]
    assert auroc == pytest.approx(peers.roc_auc_score(**one), abs=1e-9)
    assert auprc == pytest.approx(peers.average_precision_score(**one), abs=1e-9)


def test_pearson_of_several_outputs_is_the_mean_of_their_correlations() -> None:
    y, scores = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 3)) * [1, 10, 100] + 1e4
    each = [stats.pearsonr(y[:, t], scores[:, t]).statistic for t in range(3)]
    assert metric_value("pearson", y, scores) == pytest.approx(np.mean(each), abs=1e-9)


def test_labels_may_differ_between_weightings() -> None:
    rows = np.stack([RNG.permutation(400) for _ in range(3)])
    for name in METRICS:
        together = metric_draws(name, Y[rows][..., None], SCORES[:, None], np.ones((1, 400)))
        apart = [metric_value(name, Y[row], SCORES) for row in rows]
        assert together == pytest.approx(apart, abs=1e-12)


def test_hard_labels_are_refused_by_ranking_metrics() -> None:
    for name in ("auroc", "auprc"):
        with pytest.raises(CislensError, match="hard labels"):
            metric_value(name, Y, SCORES > 0)


def test_mcc_is_zero_where_all_signs_are_equal() -> None:
    assert metric_value("mcc", Y, np.abs(SCORES) + 1) == 0
    assert peers.matthews_corrcoef(Y, np.ones(400)) == 0


def test_undefined_metrics_and_broken_scores_are_refused() -> None:
    with pytest.raises(CislensError, match="undefined"):
        metric_value("auroc", np.ones(400), SCORES)
    with pytest.raises(CislensError, match="undefined"):
        metric_value("pearson", Y, np.zeros(400))
    with pytest.raises(CislensError, match="1 of 400 scores are not finite"):
        metric_value("pearson", Y, np.where(np.arange(400) == 7, np.nan, SCORES))
    with pytest.raises(CislensError, match="Did you mean 'auroc'"):
        metric_value("aurok", Y, SCORES)
