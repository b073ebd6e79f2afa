"""Percentiles, p-values and false discovery rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm

from cislens.effects.variants.calibration import (
    UNCALIBRATED,
    Null,
    RankCounts,
    best_of_groups,
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


def test_groups_have_the_best_of_their_tracks() -> None:
    found = best_of_groups(np.array([[1.0, 9.0, 5.0]], np.float32), ["b", "a", "b"])
    assert {name: values.tolist() for name, values in found.items()} == {"a": [9.0], "b": [5.0]}


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
