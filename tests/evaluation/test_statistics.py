import numpy as np
import pytest
from scipy import stats

from cislens.errors import CislensError
from cislens.evaluation.statistics import Predictions, resample


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
    assert (value.se_seeds, value.df) == (0, 1999)


def test_p_is_the_share_of_draws_taken_to_the_t_distribution() -> None:
    resampled = resample(_arms(np.random.default_rng(2), [0.5, 0.65], seeds=1), "auroc", 999)
    found = resampled.difference("arm1", "arm0")
    draws = resampled.both_MB[1] - resampled.both_MB[0]
    share = (1 + (abs(draws - found.point) >= abs(found.point)).sum()) / 1000
    assert 0.02 < share < 0.5
    assert found.p == pytest.approx(2 * stats.t(59).sf(stats.norm.isf(share / 2)))
    assert found.p > share


def test_few_blocks_take_the_jackknife() -> None:
    predictions = _arms(np.random.default_rng(0), [0.3, 1.0], n=240, per=40)  # six blocks
    resampled = resample(predictions, "auroc")
    assert (resampled.method, resampled.blocks) == ("jackknife", 6)
    difference = resampled.difference("arm1", "arm0")
    reach = stats.t(5).ppf(0.975) * difference.se
    assert difference.high - difference.point == pytest.approx(reach)
    best = resampled.best_share()
    assert sum(best.values()) == pytest.approx(1) and best["arm1"] > 0.9


def test_one_block_is_refused() -> None:
    with pytest.raises(CislensError, match="single block"):
        _arms(np.random.default_rng(0), [0.3], n=50, per=50)


def test_a_class_in_one_block_is_refused() -> None:
    y = (np.arange(100) < 5).astype(float)[:, None]
    scores = np.random.default_rng(0).normal(size=(1, 2, 100, 1)).astype(np.float32)
    with pytest.raises(CislensError, match="too few blocks"):
        resample(Predictions(("a",), scores, y, np.arange(100) // 5), "auroc", 500)


def test_interval_of_a_correlation_agrees_with_the_bca_of_scipy() -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(size=60)
    score = y + 0.6 * rng.normal(size=60)  # r near 0.85: a skewed distribution
    predictions = Predictions(
        ("a",), score[None, None, :, None].astype(np.float32), y[:, None], np.arange(60)
    )
    resampled = resample(predictions, "pearson", 20_000)
    value = resampled.value("a")
    peer = stats.bootstrap(
        (y, score.astype(np.float32)), lambda a, b: stats.pearsonr(a, b).statistic, paired=True,
        vectorized=False, n_resamples=4000, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    # Ours are wider by t(59) / normal and by sqrt(60 / 59), 3 % together.
    wider = stats.t(59).ppf(0.975) / stats.norm.ppf(0.975) * (60 / 59) ** 0.5
    for ours, theirs in ((value.low, peer.low), (value.high, peer.high)):
        assert ours - value.point == pytest.approx((theirs - value.point) * wider, abs=0.006)
    assert value.point - value.low > 1.2 * (value.high - value.point)


def test_few_seeds_widen_the_interval_by_the_t_distribution() -> None:
    # Seeds that differ in skill far more than examples can tell: the error has R - 1 degrees of
    # freedom.
    rng = np.random.default_rng(6)
    y = rng.normal(size=4000)
    skill = np.array([0.2, 0.9, 1.6])[:, None]
    scores = skill * y + rng.normal(size=(3, 4000))
    predictions = Predictions(
        ("a",), scores[None, ..., None].astype(np.float32), y[:, None], np.arange(4000) // 20
    )
    resampled = resample(predictions, "pearson", 2000)
    value = resampled.value("a")
    assert value.df == pytest.approx(2, abs=0.1)
    assert value.se == pytest.approx(np.hypot(value.se_examples, value.se_seeds), rel=0.02)
    assert value.high - value.low > 1.8 * np.ptp(np.quantile(resampled.both_MB, [0.025, 0.975]))


def test_leave_out_parts_give_the_skewness_of_single_blocks() -> None:
    # 600 blocks are left out in 200 parts: the acceleration agrees with that of all blocks.
    rng = np.random.default_rng(8)
    y = rng.normal(size=600)
    score = y**3 + rng.normal(size=600)
    one = Predictions(
        ("a",), score[None, None, :, None].astype(np.float32), y[:, None], np.arange(600)
    )
    parts = resample(one, "pearson", 10).out_MK[0]
    assert len(parts) == 200

    def acceleration(out: np.ndarray) -> float:
        moved = out.mean() - out
        return float((moved**3).sum() / (6 * (moved**2).sum() ** 1.5))

    each = [stats.pearsonr(np.delete(y, i), np.delete(score, i)).statistic for i in range(600)]
    assert acceleration(parts) == pytest.approx(acceleration(np.array(each)), abs=0.02)


def test_a_matched_set_over_two_blocks_is_refused() -> None:
    rng = np.random.default_rng(9)
    y = np.tile([1.0, 0, 0, 0], 50)
    scores = rng.normal(size=(1, 1, 200, 1)).astype(np.float32)
    group = np.arange(200) // 4
    whole = Predictions(("a",), scores, y[:, None], np.arange(200) // 8, group)
    assert resample(whole, "within_auroc", 200).blocks == 25
    torn = Predictions(("a",), scores, y[:, None], np.arange(200) // 10, group)
    with pytest.raises(CislensError, match="several blocks"):
        resample(torn, "within_auroc", 200)


def test_gaps_in_the_labels_are_left_out_of_every_draw() -> None:
    rng = np.random.default_rng(10)
    y = rng.normal(size=(300, 2))
    scores = (y + rng.normal(size=(1, 2, 300, 2))).astype(np.float32)
    block = np.arange(300) // 5
    y[:50, 0] = np.nan
    value = resample(Predictions(("a",), scores, y, block), "spearman", 200).value("a")
    each = [
        np.mean([stats.spearmanr(y[50 * (t == 0) :, t], s[50 * (t == 0) :, t])[0] for t in (0, 1)])
        for s in scores[0]
    ]
    assert value.point == pytest.approx(np.mean(each), abs=1e-6)
    assert value.low < value.point < value.high
