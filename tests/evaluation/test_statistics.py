import numpy as np
import pytest
from scipy import stats

from cislens.errors import CislensError
from cislens.evaluation.statistics import (
    Predictions,
    holm,
    minimum_detectable,
    permutation_null,
    resample,
)


def _arms(
    rng: np.random.Generator, effects: list[float], *, seeds: int = 3, n: int = 300, per: int = 5
) -> Predictions:
    """Arms that see the label through common and own noise; `per` examples a block."""
    y = rng.integers(0, 2, n).astype(float)
    common = rng.normal(size=n)
    own = rng.normal(size=(len(effects), seeds, n)) * 0.7
    scores = np.array(effects)[:, None, None] * y + common + own
    names = tuple(f"arm{m}" for m in range(len(effects)))
    return Predictions(names, scores[..., None].astype(np.float32), y[:, None], np.arange(n) // per)


def test_intervals_are_a_function_of_the_seed() -> None:
    predictions = _arms(np.random.default_rng(0), [0.5, 0.8])
    one, two, other = (resample(predictions, "auroc", 200, seed) for seed in (1, 1, 2))
    assert one.difference("arm1", "arm0") == two.difference("arm1", "arm0")
    assert one.difference("arm1", "arm0") != other.difference("arm1", "arm0")


def test_a_difference_is_paired() -> None:
    # Two copies of one arm differ by exactly nothing, however wide their own intervals are.
    predictions = _arms(np.random.default_rng(0), [0.5])
    twice = Predictions(
        ("a", "b"), np.repeat(predictions.scores_MRNT, 2, 0), predictions.y_NT, predictions.block_N
    )
    resampled = resample(twice, "auroc", 500)
    difference = resampled.difference("a", "b")
    assert (difference.low, difference.point, difference.high) == (0, 0, 0)
    assert difference.p == 1
    value = resampled.value("a")
    assert value.high - value.low > 0.05


def test_a_large_gain_is_found_with_the_smallest_p_value() -> None:
    resampled = resample(_arms(np.random.default_rng(0), [0.2, 2.0]), "auroc", 500)
    difference = resampled.difference("arm1", "arm0")
    assert difference.low > 0.1
    assert difference.p == pytest.approx(1 / 501)
    assert resampled.best_share() == {"arm0": 0.0, "arm1": 1.0}


def test_bootstrap_error_of_a_correlation_matches_theory() -> None:
    # SE of Pearson's r for normal data: (1 - r^2) / sqrt(n).
    rng = np.random.default_rng(3)
    y = rng.normal(size=2000)
    score = 0.6 * y + 0.8 * rng.normal(size=2000)
    predictions = Predictions(
        ("a",), score[None, None, :, None].astype(np.float32), y[:, None], np.arange(2000)
    )
    value = resample(predictions, "pearson", 1000).value("a")
    assert value.se == pytest.approx((1 - value.point**2) / 2000**0.5, rel=0.1)
    assert value.se_seeds == 0


def test_few_blocks_take_the_jackknife() -> None:
    predictions = _arms(np.random.default_rng(0), [0.3, 1.0], n=240, per=40)  # six blocks
    resampled = resample(predictions, "auroc")
    assert (resampled.method, resampled.blocks) == ("jackknife", 6)
    difference = resampled.difference("arm1", "arm0")
    reach = stats.t(5).ppf(0.975) * difference.se
    assert difference.high - difference.point == pytest.approx(reach)
    assert resampled.best_share() == {}


def test_one_block_is_refused() -> None:
    with pytest.raises(CislensError, match="single block"):
        _arms(np.random.default_rng(0), [0.3], n=50, per=50)


def test_a_class_in_one_block_is_refused() -> None:
    y = (np.arange(100) < 5).astype(float)[:, None]
    scores = np.random.default_rng(0).normal(size=(1, 2, 100, 1)).astype(np.float32)
    with pytest.raises(CislensError, match="too few blocks"):
        resample(Predictions(("a",), scores, y, np.arange(100) // 5), "auroc", 500)


def _coverage(block_as_unit: bool, simulations: int) -> float:
    """How often the 95 % interval holds the true correlation, with labels and scores that share
    a block effect of intraclass correlation 0.3 each (true r = 0.5)."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(simulations):
        block = np.repeat(np.arange(60), 10)

        def draw(block: np.ndarray = block) -> np.ndarray:
            between = rng.normal(size=60)[block] * 0.3**0.5
            return between + rng.normal(size=600) * 0.7**0.5

        shared, a, b = draw(), draw(), draw()
        y, score = (shared + a) / 2**0.5, (shared + b) / 2**0.5
        unit = block if block_as_unit else np.arange(600)
        value = resample(
            Predictions(("a",), score[None, None, :, None].astype("f4"), y[:, None], unit),
            "pearson", 300,
        ).value("a")  # fmt: skip
        hits += value.low <= 0.5 <= value.high
    return hits / simulations


def test_block_intervals_cover_where_independent_ones_do_not() -> None:
    block, independent = _coverage(True, 200), _coverage(False, 200)
    assert 0.91 <= block <= 0.98
    assert independent < 0.90
    assert independent < block


def test_equal_arms_are_called_different_as_often_as_promised() -> None:
    # 200 data sets, two trained arms as good as the baseline; Holm over both.
    rng = np.random.default_rng(7)
    wrong = family = 0
    for _ in range(200):
        resampled = resample(_arms(rng, [0.8, 0.8, 0.8]), "auroc", 300)
        found = [resampled.difference(arm, "arm0") for arm in ("arm1", "arm2")]
        adjusted = holm([difference.p for difference in found])
        gains = [p < 0.05 and d.low > 0 for p, d in zip(adjusted, found, strict=True)]
        wrong += gains[0]
        family += any(gains)
    allowed = 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
    assert wrong / 200 <= allowed
    assert family / 200 <= allowed


def test_a_gain_of_one_mde_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(11)
    errors = [
        resample(_arms(rng, [0.8, 0.8]), "auroc", 200).difference("arm1", "arm0").se
        for _ in range(20)
    ]
    target = minimum_detectable(float(np.mean(errors)))
    # d AUROC / d effect near 0.8, by a large sample.
    big = [
        resample(_arms(rng, [0.8, e], n=200_000, per=1000, seeds=2), "auroc", 10)
        for e in (0.7, 1.1)
    ]
    slope = (big[1].value("arm1").point - big[0].value("arm1").point) / 0.4
    effect = 0.8 + target / slope
    found = 0
    for _ in range(200):
        d = resample(_arms(rng, [0.8, effect]), "auroc", 300).difference("arm1", "arm0")
        found += d.p < 0.05 and d.low > 0
    assert 0.70 <= found / 200 <= 0.90


def test_holm_is_the_step_down_adjustment() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_minimum_detectable_effect_is_2_8_standard_errors() -> None:
    assert minimum_detectable(1.0) == pytest.approx(2.80, abs=0.005)
    assert minimum_detectable(1.0, family=5) > minimum_detectable(1.0)


def test_the_null_of_auprc_lies_above_the_prevalence() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(60) % 10 == 0).astype(float)[:, None]
    scores = rng.normal(size=(1, 3, 60, 1)).astype(np.float32)
    mean, low, high = permutation_null(Predictions(("a",), scores, y, np.arange(60)), "auprc")["a"]
    assert mean > 0.12
    assert low < mean < high


def test_a_stratified_null_keeps_the_labels_of_each_stratum() -> None:
    # Labels constant within strata cannot be permuted, so the null is the metric itself.
    rng = np.random.default_rng(0)
    predictions = _arms(rng, [1.0], n=100)
    stratum = predictions.y_NT[:, 0].astype(np.int64)
    mean, low, high = permutation_null(predictions, "auroc", 50, stratum_N=stratum)["arm0"]
    point = resample(predictions, "auroc", 20).value("arm0").point
    assert mean == pytest.approx(point) and low == pytest.approx(high)
    free, *_ = permutation_null(predictions, "auroc", 200)["arm0"]
    assert free == pytest.approx(0.5, abs=0.02)
