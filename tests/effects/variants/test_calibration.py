"""Percentiles, p-values and false discovery rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kstest, norm

from cislens.effects.variants.calibration import (
    UNCALIBRATED,
    Null,
    RankCounts,
    p_values,
    percentiles,
    q_values,
    top_columns,
)
from cislens.errors import CislensError


def test_counts_are_of_background_that_scores_at_least_as_much() -> None:
    null = Null.of(np.array([[-3.0], [1.0], [2.0], [0.0]], np.float32))
    count = null.at_least(np.array([[2.0], [-2.5], [4.0], [0.0], [-3.0]], np.float32))
    assert count[:, 0].tolist() == [2, 1, 0, 4, 1]
    assert percentiles(count, null.size)[:, 0].tolist() == [50, 75, 100, 0, 75]
    assert p_values(count, null.size)[:, 0] == pytest.approx([3 / 5, 2 / 5, 1 / 5, 1, 2 / 5])


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 2**31))
def test_rates_from_histograms_are_those_of_benjamini_and_hochberg(
    size: int, variants: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    null = Null.of(rng.normal(size=(size, 3)).astype(np.float32))
    # Few decimals, so that there are ties.
    scores = np.round(rng.normal(scale=2, size=(variants, 3)), 1).astype(np.float32)
    count = null.at_least(scores)
    ranks = RankCounts(null.size, 3)
    for part in np.array_split(count, 3):
        ranks.add(part)
    p = p_values(count, null.size).astype(np.float64)
    expected = np.stack([false_discovery_control(p[:, k]) for k in range(3)], axis=1)
    np.testing.assert_allclose(q_values(count, ranks.q_table()), expected, rtol=2e-6)


def test_a_variant_without_a_score_has_no_rate_and_does_not_count() -> None:
    null = Null.of(np.arange(9, dtype=np.float32)[:, None])
    count = null.at_least(np.array([[8.5], [np.nan], [8.5]], np.float32))
    assert count[:, 0].tolist() == [0, UNCALIBRATED, 0]
    ranks = RankCounts(null.size, 1)
    ranks.add(count)
    assert ranks.counts.sum() == 2
    q = q_values(count, ranks.q_table())
    assert np.isnan(q[1, 0])
    assert q[0, 0] == pytest.approx(0.1)  # 2 variants * (1 / 10) / 2 of them


def test_a_column_whose_background_has_no_score_is_not_calibrated() -> None:
    null = Null.of(np.array([[1.0, np.nan], [2.0, 1.0]], np.float32))
    assert null.at_least(np.ones((1, 2), np.float32)).tolist() == [[2, UNCALIBRATED]]


def test_p_values_of_the_background_s_own_kind_are_uniform() -> None:
    rng = np.random.default_rng(0)
    null = Null.of(rng.normal(size=(999, 1)).astype(np.float32))
    p = p_values(null.at_least(rng.normal(size=(20_000, 1)).astype(np.float32)), 999)
    # The null's own sampling error is sqrt(p (1 - p) / 999) < 0.016; three times that.
    for level in (0.05, 0.2, 0.5, 0.8):
        assert float((p <= level).mean()) == pytest.approx(level, abs=0.048)


def test_planted_effects_are_found_at_the_stated_rate() -> None:
    rng = np.random.default_rng(1)
    null = Null.of(rng.normal(size=(2000, 1)).astype(np.float32))
    planted = np.arange(2000) < 200
    scores = rng.normal(size=2000) + np.where(planted, norm.isf(1e-9), 0)
    count = null.at_least(scores[:, None].astype(np.float32))
    ranks = RankCounts(null.size, 1)
    ranks.add(count)
    found = q_values(count, ranks.q_table())[:, 0] <= 0.1
    assert found[planted].mean() > 0.99
    assert found[~planted].sum() / found.sum() < 0.15


def test_tops_are_by_percentile_then_by_score_over_the_background_s_spread() -> None:
    scores = np.array([[5.0, 1.0, -2.0, np.nan]], np.float32)
    count = np.array([[3, 0, 0, UNCALIBRATED]], np.int32)
    scale = np.array([1.0, 0.1, 1.0, 1.0], np.float32)
    assert top_columns(scores, count, scale, 4).tolist() == [[1, 2, 0, 3]]
    assert top_columns(scores, None, None, 2).tolist() == [[0, 2]]


def test_the_best_of_a_set_counts_by_place_and_then_by_size() -> None:
    scores = np.array([[4, 1], [1, 8], [2, 2], [3, 4]], np.float32)
    null = Null.of(scores, [[0, 1], [1]])
    assert null.width == 4
    # Alone the background variants rank 0, 0, 2 and 1 among the others by their better column;
    # of the first two, 8 is more times the others' root mean square (sqrt 7) than 4 (sqrt 14/3).
    given = [[9, 0], [0, 20], [4.5, 0], [3.5, 0], [0.5, 0.5]]
    found = null.at_least(np.array(given, np.float32))
    # 9 is 3.3 times the root mean square of its column (sqrt 7.5), 4.5 is 1.6 times.
    assert found[:, 2].tolist() == [0, 0, 2, 2, 4]
    assert found[:, 3].tolist() == [4, 0, 4, 4, 4]
    assert found[:, :2].tolist() == [[0, 4], [4, 0], [0, 4], [1, 4], [4, 4]]


def test_a_set_passes_over_columns_without_scores() -> None:
    null = Null.of(np.array([[1.0, np.nan], [2.0, 1.0]], np.float32), [[0, 1], [1]])
    found = null.at_least(np.array([[5.0, 5.0], [np.nan, 5.0]], np.float32))
    assert found[:, 2:].tolist() == [[0, UNCALIBRATED], [UNCALIBRATED, UNCALIBRATED]]


@pytest.mark.parametrize("heavy", [False, True])
def test_the_best_of_many_columns_has_uniform_p_values_under_the_null(heavy: bool) -> None:
    """1,500 independent columns and 500 that say nearly the same; 1,000 in the background."""
    rng = np.random.default_rng(5)

    def drawn(rows: int) -> np.ndarray:
        values = rng.normal(size=(rows, 2000))
        values[:, 1500:] = values[:, :1] + 0.1 * values[:, 1500:]
        if heavy:
            values *= rng.gamma(0.5, size=(rows, 1))  # a variant that moves one track moves all
        return values.astype(np.float32)

    null = Null.of(drawn(1000), [range(2000), range(1500, 2000)])
    counts = null.at_least(drawn(1000))
    p = p_values(counts, null.size)
    # Two samples of 1,000 differ by less than 0.087 in 999 of 1,000 draws.
    assert kstest(p[:, 2000], "uniform").statistic < 0.087
    assert kstest(p[:, 2001], "uniform").statistic < 0.087
    # The least of the columns' own p-values is next to 0 wherever nothing is going on.
    assert kstest(p[:, :2000].min(1), "uniform").statistic > 0.3
    if not heavy:
        assert (percentiles(counts, null.size)[:, :2000].max(1) > 99).mean() > 0.99


def test_a_true_effect_in_one_of_many_columns_is_found() -> None:
    rng = np.random.default_rng(6)
    null = Null.of(rng.normal(size=(500, 300)).astype(np.float32), [range(300)])
    scores = rng.normal(size=(400, 300))
    scores[:40, 7] = 9
    counts = null.at_least(scores.astype(np.float32))
    ranks = RankCounts(null.size, null.width)
    ranks.add(counts)
    q = q_values(counts, ranks.q_table())[:, 300]
    assert (q[:40] <= 0.05).all()
    assert (q[40:] <= 0.05).sum() <= 4
    expected = false_discovery_control(p_values(counts, null.size)[:, 300].astype(np.float64))
    np.testing.assert_allclose(q, expected, rtol=2e-6)


def test_memory_of_rates_does_not_grow_with_the_variants() -> None:
    ranks = RankCounts(100, 7)
    before = ranks.counts.nbytes
    for _ in range(50):
        ranks.add(np.zeros((1000, 7), np.int32))
    assert ranks.counts.nbytes == before == 101 * 7 * 8
    assert ranks.counts[0].tolist() == [50_000] * 7


def test_no_background_is_an_error() -> None:
    with pytest.raises(CislensError, match="at least one background variant"):
        Null.of(np.empty((0, 2), np.float32))
