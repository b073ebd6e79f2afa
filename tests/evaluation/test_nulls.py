import numpy as np
import pytest

from cislens.evaluation.metrics import metric_value
from cislens.evaluation.nulls import permutation_null
from cislens.evaluation.statistics import Predictions, resample
from cislens.randomness import generator


def _classes(rng: np.random.Generator, n: int = 100) -> Predictions:
    y = rng.integers(0, 2, n).astype(float)
    scores = y + rng.normal(size=(1, 3, n))
    block = np.arange(n) // 5
    return Predictions(("arm0",), scores[..., None].astype(np.float32), y[:, None], block)


def test_the_null_of_auprc_lies_above_the_prevalence() -> None:
    # A random scorer on 60 examples, 6 of them positive, lies inside the null's range.
    rng = np.random.default_rng(0)
    y = (np.arange(60) % 10 == 0).astype(float)[:, None]
    scores = rng.normal(size=(1, 3, 60, 1)).astype(np.float32)
    predictions = Predictions(("a",), scores, y, np.arange(60))
    mean, low, high = permutation_null(predictions, "auprc")["a"]
    assert mean > 0.12
    point = resample(predictions, "auprc", 100).value("a").point
    assert low < point < high


def test_a_stratified_null_keeps_the_labels_of_each_stratum() -> None:
    # Labels constant within strata cannot be permuted, so the null is the metric itself.
    predictions = _classes(np.random.default_rng(0))
    stratum = predictions.y_NT[:, 0].astype(np.int64)
    mean, low, high = permutation_null(predictions, "auroc", 50, stratum_N=stratum)["arm0"]
    point = resample(predictions, "auroc", 20).value("arm0").point
    assert mean == pytest.approx(point) and low == pytest.approx(high)
    free, *_ = permutation_null(predictions, "auroc", 200)["arm0"]
    assert free == pytest.approx(0.5, abs=0.02)


def test_matched_sets_are_permuted_within() -> None:
    # One positive in each set of four; the sets differ in level, which is not to be guessed.
    rng = np.random.default_rng(1)
    y = np.tile([1.0, 0, 0, 0], 60)
    group = np.arange(240) // 4
    scores = rng.normal(size=(1, 1, 240, 1)) + 10 * rng.normal(size=60)[group][:, None]
    predictions = Predictions(("a",), scores.astype(np.float32), y[:, None], group // 2, group)
    mean, low, high = permutation_null(predictions, "mrr")["a"]
    # Ranks 1 to 4 are equally likely: (1 + 1/2 + 1/3 + 1/4) / 4.
    assert mean == pytest.approx(0.5208, abs=0.004)
    assert low < mean < high
    assert permutation_null(predictions, "within_auroc")["a"][0] == pytest.approx(0.5, abs=0.01)


def test_the_null_of_sites_turns_each_mask() -> None:
    # One site of ten positions in 100: chance AUPRC lies near 0.1 for noise, and far above for
    # scores in runs, whose sites are found by luck more often.
    rng = np.random.default_rng(2)
    start = rng.integers(0, 90, 40)[:, None]
    y = ((np.arange(100) >= start) & (np.arange(100) < start + 10)).astype(float)
    noise = rng.normal(size=(40, 100))
    smooth = np.stack([np.convolve(row, np.ones(10), "same") for row in noise])
    scores = np.stack([noise, smooth, noise + 3 * y])[:, None].astype(np.float32)
    predictions = Predictions(("noise", "smooth", "found"), scores, y, np.arange(40))
    null = permutation_null(predictions, "site_auprc", 300)
    value = resample(predictions, "site_auprc", 100)
    assert null["noise"][0] == pytest.approx(0.13, abs=0.02)
    assert null["smooth"][2] - null["smooth"][1] > 1.5 * (null["noise"][2] - null["noise"][1])
    for arm, found in (("noise", False), ("smooth", False), ("found", True)):
        assert (value.value(arm).point > null[arm][2]) == found


def test_the_null_of_ranks_is_that_of_permuted_ranks() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=(80, 2))
    scores = (y + rng.normal(size=(1, 1, 80, 2))).astype(np.float32)
    whole = permutation_null(Predictions(("a",), scores, y, np.arange(80)), "spearman", 400)["a"]
    assert whole[0] == pytest.approx(0, abs=0.02)
    # Independent outputs: the standard error of their mean is 1 / sqrt(2 * 79).
    assert whole[2] - whole[1] == pytest.approx(2 * 1.96 / 158**0.5, rel=0.15)
    y[::4, 1] = np.nan  # gaps go another way through the same computation
    gaps = permutation_null(Predictions(("a",), scores, y, np.arange(80)), "spearman", 400)["a"]
    assert gaps[0] == pytest.approx(0, abs=0.02) and gaps[2] > whole[2]


def test_permuted_outputs_keep_their_correlation() -> None:
    # Two outputs with the same labels and scores vary as one, not as the mean of two.
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 120).astype(float)
    s = rng.normal(size=120)
    one = Predictions(("a",), s[None, None, :, None].astype("f4"), y[:, None], np.arange(120))
    both = Predictions(
        ("a",), np.stack([s, s], 1)[None, None].astype("f4"), np.stack([y, y], 1), np.arange(120)
    )
    assert permutation_null(both, "auroc", 200)["a"] == pytest.approx(
        permutation_null(one, "auroc", 200)["a"]
    )
    assert permutation_null(one, "auroc", 200, seed=1) != permutation_null(one, "auroc", 200)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("metric", ["pearson", "spearman", "mcc"])
def test_correlations_of_permuted_labels_are_the_metric_itself(metric: str, missing: bool) -> None:
    # One product for all permutations gives what the metric gives for each of them; exactly, or
    # nearly where labels are missing.
    rng = np.random.default_rng(5)
    y = rng.normal(size=(200, 2)) if metric != "mcc" else rng.integers(0, 2, (200, 2)) * 1.0
    y[:60, 0] = np.nan if missing else y[:60, 0]
    scores = rng.normal(size=(1, 2, 200, 2)).astype(np.float32)
    quick = permutation_null(Predictions(("a",), scores, y, np.arange(200)), metric, 60)["a"]
    orders = generator(0, "null").permuted(np.tile(np.arange(200), (60, 1)), axis=1)
    each = [np.mean([metric_value(metric, y[order], s) for s in scores[0]]) for order in orders]
    expected = (np.mean(each), *np.quantile(each, [0.025, 0.975]))
    assert quick == pytest.approx(expected, abs=0.005 if missing else 1e-9)
