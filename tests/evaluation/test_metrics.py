import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as peers

from cislens.errors import CislensError
from cislens.evaluation.metrics import GROUPED, METRICS, metric_draws, metric_value

N = 240
NAN = float("nan")


class Case:
    """Labels and scores with ties, for one metric and one seed; a set is four neighbors."""

    def __init__(self, name: str, seed: int = 0, outputs: int = 1, missing: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.group = np.arange(N) // 4
        shape = (N, outputs)
        if name in ("macro_auroc", "accuracy"):
            self.y = rng.integers(0, 3, (N, 1)).astype(float)
            self.s = rng.normal(size=(N, 3)) + (self.y == np.arange(3))
        elif name in ("pearson", "spearman"):
            self.y = np.round(rng.normal(size=shape), 1) + 50
            self.s = self.y * 0.5 + rng.normal(size=shape)
        elif name == "site_auprc":
            self.y = (rng.random((N, 7)) < 0.3).astype(float)
            self.s = rng.normal(size=(N, 7)) + self.y
        else:
            self.y = rng.integers(0, 2, shape).astype(float)
            self.s = rng.normal(size=shape) + 0.6 * self.y
        self.s = np.round(self.s, 1)
        self.y[rng.random(self.y.shape) < missing] = NAN


def _peer(name: str, y: np.ndarray, s: np.ndarray) -> float:
    """One output by scikit-learn or scipy."""
    keep = np.isfinite(y)
    y, s = y[keep], s[keep]
    match name:
        case "auroc":
            return float(peers.roc_auc_score(y, s))
        case "auprc":
            return float(peers.average_precision_score(y, s))
        case "mcc":
            return float(peers.matthews_corrcoef(y, s > 0))
        case "pearson":
            return float(stats.pearsonr(y, s).statistic)
    assert name == "spearman"
    return float(stats.spearmanr(y, s).statistic)


PLAIN = ("auroc", "auprc", "mcc", "pearson", "spearman")


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_outputs_agree_with_scikit_learn_and_scipy(name: str, outputs: int, missing: float) -> None:
    case = Case(name, 1, outputs, missing)
    each = [_peer(name, case.y[:, t], case.s[:, t]) for t in range(outputs)]
    assert metric_value(name, case.y, case.s) == pytest.approx(np.mean(each), abs=1e-12)


def test_classes_agree_with_scikit_learn() -> None:
    case = Case("accuracy", 2)
    case.s += np.random.default_rng(0).normal(size=case.s.shape)  # no ties for rounding to split
    y, said = case.y[:, 0], case.s.argmax(1)
    probability = special.softmax(case.s, axis=1)
    for name, value in (
        ("accuracy", peers.accuracy_score(y, said)),
        ("mcc", peers.matthews_corrcoef(y, said)),
        ("macro_auroc", peers.roc_auc_score(y, probability, multi_class="ovr", average="macro")),
    ):
        assert metric_value(name, case.y, case.s) == pytest.approx(value, abs=1e-12)


def test_macro_auroc_does_not_move_with_the_level_of_an_example() -> None:
    case = Case("macro_auroc", 3)
    moved = case.s + np.random.default_rng(0).normal(size=(N, 1)) * 5
    value = metric_value("macro_auroc", case.y, case.s)
    assert metric_value("macro_auroc", case.y, moved) == pytest.approx(value, abs=1e-3)


def test_accuracy_of_one_logit_takes_its_sign() -> None:
    assert metric_value("accuracy", [0, 1, 1, 0], [-2.0, 1.0, -1.0, -3.0]) == 0.75


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_weights_count_an_example_as_often_as_it_was_drawn(
    name: str, seed: int, gaps: bool
) -> None:
    case = Case(name, seed, missing=0.2 * gaps)
    rng = np.random.default_rng(seed + 1)
    of_set = rng.integers(0, 4, N // 4)
    weights = of_set[case.group] if name in GROUPED else rng.integers(0, 4, N)
    rows = np.repeat(np.arange(N), weights)
    # A set that is drawn twice is two sets.
    copy = np.concatenate([np.arange(w) for w in weights]).astype(int)
    drawn = metric_value(name, case.y[rows], case.s[rows], case.group[rows] * 4 + copy)
    weighted = metric_draws(name, case.y, case.s, weights[None].astype(float), case.group)
    assert weighted[0] == pytest.approx(drawn, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_weights_of_blocks_are_those_of_their_examples(name: str) -> None:
    case = Case(name, 5, missing=0.1)
    rng = np.random.default_rng(0)
    block = rng.integers(0, 12, N // 4)[case.group]
    w_BG = rng.integers(0, 4, (40, 12)).astype(float)
    whole = metric_draws(name, case.y, case.s, w_BG[:, block], case.group)
    blocks = metric_draws(name, case.y, case.s, w_BG, case.group, block)
    assert blocks == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_labels_may_differ_between_weightings(name: str) -> None:
    case = Case(name, 6, missing=0.1)
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(N) for _ in range(3)])
    ones = np.ones((1, N))
    together = metric_draws(name, case.y[rows], case.s, ones, case.group)
    apart = [metric_value(name, case.y[row], case.s, case.group) for row in rows]
    assert together == pytest.approx(apart, abs=1e-12)


def test_within_auroc_is_the_mean_over_sets_with_both_classes() -> None:
    case = Case("within_auroc", 7)
    each = []
    for number in np.unique(case.group):
        y, s = case.y[case.group == number, 0], case.s[case.group == number, 0]
        if 0 < y.sum() < 4:
            each.append(peers.roc_auc_score(y, s))
    assert 30 < len(each) < N // 4
    value = metric_value("within_auroc", case.y, case.s, case.group)
    assert value == pytest.approx(np.mean(each), abs=1e-12)


def test_mrr_of_one_positive_a_set_is_the_label_ranking_precision() -> None:
    # With a single relevant item, scikit-learn's average precision of the ranking is 1 / rank.
    rng = np.random.default_rng(8)
    s = rng.normal(size=(50, 10))
    y = np.arange(10) == rng.integers(0, 10, 50)[:, None]
    value = metric_value("mrr", y.ravel(), s.ravel(), np.repeat(np.arange(50), 10))
    expected = peers.label_ranking_average_precision_score(y, s)
    assert value == pytest.approx(expected, abs=1e-12)
    # Sets may differ in size and order; a tie with one negative is rank 1.5.
    assert metric_value("mrr", [1, 0, 0, 0, 1], [3, 3, 2, 2, 1.0], np.array([0, 0, 1, 1, 1])) == (
        pytest.approx((1 / 1.5 + 1 / 3) / 2)
    )


def test_site_auprc_is_the_mean_over_examples_with_sites() -> None:
    case = Case("site_auprc", 9)
    case.y[:20] = 0
    each = [
        peers.average_precision_score(y, s)
        for y, s in zip(case.y, case.s, strict=True)
        if 0 < y.sum() < 7
    ]
    assert 100 < len(each) <= N - 20
    assert metric_value("site_auprc", case.y, case.s) == pytest.approx(np.mean(each), abs=1e-12)


def test_an_output_without_both_classes_is_left_out() -> None:
    case = Case("auroc", 10, outputs=3)
    case.y[:, 1] = 0
    each = [peers.roc_auc_score(case.y[:, t], case.s[:, t]) for t in (0, 2)]
    assert metric_value("auroc", case.y, case.s) == pytest.approx(np.mean(each), abs=1e-12)


def test_hard_labels_are_refused_by_ranking_metrics() -> None:
    case = Case("auroc", 11)
    for name in ("auroc", "auprc", "within_auroc"):
        with pytest.raises(CislensError, match="hard labels"):
            metric_value(name, case.y, case.s > 0, case.group)


def test_a_constant_score_is_a_guess() -> None:
    case = Case("auroc", 12)
    for name, guess in (("auroc", 0.5), ("mcc", 0), ("pearson", 0), ("spearman", 0)):
        assert metric_value(name, case.y, np.full(N, 0.1)) == guess
    assert peers.matthews_corrcoef(case.y, np.ones(N)) == 0


def test_undefined_metrics_and_broken_scores_are_refused() -> None:
    case = Case("auroc", 13)
    for name in ("auroc", "pearson", "spearman"):
        with pytest.raises(CislensError, match="undefined"):
            metric_value(name, np.ones(N), case.s)
    with pytest.raises(CislensError, match="1 of 240 scores are not finite"):
        metric_value("pearson", case.y, np.where(np.arange(N)[:, None] == 7, np.nan, case.s))
    with pytest.raises(CislensError, match="Did you mean 'auroc'"):
        metric_value("aurok", case.y, case.s)
    with pytest.raises(CislensError, match="matched sets"):
        metric_value("mrr", case.y, case.s)


def test_scores_of_another_shape_than_the_labels_are_refused() -> None:
    case = Case("accuracy", 14)
    for name in ("pearson", "auroc"):
        with pytest.raises(CislensError, match=r"scores of shape \(240, 3\)"):
            metric_value(name, case.y, case.s)
    with pytest.raises(CislensError, match="macro_auroc cannot hold"):
        metric_value("macro_auroc", case.y, case.s[:, :1])
