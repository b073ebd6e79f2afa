import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.signal.tracks import Track
from cislens.signal.transforms import (
    NotFiniteError,
    clip,
    fill_uncovered,
    to_float16,
    transform,
    untransform,
)

seeds = st.integers(0, 2**32 - 1)


def track(**changes):
    return Track("t", "t.bw", "y", **changes)


@given(seeds, st.sampled_from([1, 2, 8, 32]), st.integers(0, 2), st.sampled_from(["sum", "mean"]))
def test_pooling_is_the_sum_or_mean_of_each_bin_of_the_middle(seed, bin_size, crop, sum_stat):
    values = np.random.default_rng(seed).gamma(1, 3, (3, 8 * bin_size)).astype(np.float32)
    found = transform(values, track(sum_stat=sum_stat, scale=2), bin_size=bin_size, crop=crop)
    middle = values[:, crop * bin_size : (8 - crop) * bin_size].astype(np.float64)
    pool = np.sum if sum_stat == "sum" else np.mean
    bins = [
        2 * pool(middle[:, i : i + bin_size], axis=1) for i in range(0, middle.shape[1], bin_size)
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack(bins, axis=1), rtol=1e-5)


@given(st.floats(1, 1000))
def test_soft_clip_is_continuous_at_c_with_slope_one_half(c):
    soft = track(clip=c, clip_mode="soft")
    c = float(np.float32(c))
    step = c * 1e-3
    at = np.array([[c - step, c, c + step]], dtype=np.float32)
    below, value, above = clip(at, soft)[0]
    assert value == np.float32(c)
    assert below == at[0, 0]
    assert (above - value) / step == pytest.approx(0.5, abs=0.15 if c > 100 else 0.02)


def test_soft_clip_has_the_published_values():
    # v > c: c - 1 + sqrt(v - c + 1)
    found = clip(np.array([[5.0, 32.0, 40.0, 131.0]], np.float32), track(clip=32, clip_mode="soft"))
    np.testing.assert_allclose(found, [[5, 32, 31 + 3, 31 + 10]])


def test_hard_clip_cuts_at_both_ends():
    found = clip(np.array([[-50.0, 3.0, 50.0]], np.float32), track(clip=32, clip_mode="hard"))
    assert found.tolist() == [[-32, 3, 32]]


@given(
    seeds,
    st.sampled_from([0.5, 1.0, 2.0, -1.0]),
    st.sampled_from(["sum", "mean"]),
    st.sampled_from(["soft", "none"]),
)
def test_untransform_gives_back_the_pooled_bins(seed, scale, sum_stat, clip_mode):
    values = np.random.default_rng(seed).gamma(1, 4, (2, 64)).astype(np.float32)
    plain = transform(values, track(sum_stat=sum_stat), bin_size=16)
    if scale < 0:
        values, plain = -values, -plain
    row = track(scale=scale, sum_stat=sum_stat, clip=8, clip_mode=clip_mode)
    back = untransform(transform(values, row, bin_size=16), row)
    np.testing.assert_allclose(back, plain, rtol=1e-5, atol=1e-5)


@given(seeds, st.sampled_from([0.5, 2.0]), st.floats(4, 400))
def test_untransform_gives_back_what_lies_below_a_hard_clip(seed, scale, c):
    values = np.random.default_rng(seed).gamma(1, 4, (2, 64)).astype(np.float32)
    plain = transform(values, track(), bin_size=16)
    back = untransform(
        transform(values, track(scale=scale, clip=c, clip_mode="hard"), bin_size=16),
        track(scale=scale, clip=c, clip_mode="hard"),
    )
    below = np.abs(plain * np.float32(scale)) <= c
    np.testing.assert_allclose(back[below], plain[below], rtol=1e-5)
    np.testing.assert_allclose(np.abs(back[~below]), c / abs(scale), rtol=1e-5)


def test_infinite_values_are_refused_before_a_clip_hides_them():
    values = np.ones((3, 8), np.float32)
    values[2, 5] = np.inf
    hard = track(clip=32, clip_mode="hard")
    with pytest.raises(NotFiniteError, match=r"'t' \(t\.bw\) sums to inf in bin 2") as caught:
        transform(values, hard, bin_size=2)
    assert (caught.value.row, caught.value.bin) == (2, 2)
    values[2, 4] = -np.inf
    with pytest.raises(NotFiniteError, match="sums to nan in bin 2"):
        transform(values, hard, bin_size=2)


def test_untransform_to_a_mean_per_base_divides_sums_alone():
    bins = np.array([[64.0]], np.float32)
    assert untransform(bins, track(sum_stat="sum", scale=2), bin_size=32) == 1
    assert untransform(bins, track(sum_stat="mean", scale=2), bin_size=32) == 32


def test_a_minus_strand_stored_below_zero_is_turned_by_its_scale():
    values = -np.ones((1, 64), np.float32)
    found = transform(values, track(scale=-1, clip=20, clip_mode="soft"), bin_size=32)
    np.testing.assert_allclose(found, 19 + np.sqrt(13))


def test_an_uncovered_base_counts_zero_or_takes_the_median_of_the_measured_ones():
    values = np.array([[np.nan, 1, 2, 9], [np.nan] * 4, [5, 6, 7, 8]], np.float32)
    zero = fill_uncovered(values, track(uncovered="zero"))
    assert zero.tolist() == [[0, 1, 2, 9], [0, 0, 0, 0], [5, 6, 7, 8]]
    baseline = fill_uncovered(values, track(uncovered="baseline"))
    assert baseline.tolist() == [[2, 1, 2, 9], [0, 0, 0, 0], [5, 6, 7, 8]]
    binned = transform(values, track(uncovered="baseline"), bin_size=2)
    assert binned.tolist() == [[3, 11], [0, 0], [11, 15]]


def test_the_baseline_is_that_of_the_whole_window_not_of_what_crop_leaves():
    values = np.array([[9, 9, 9, np.nan, 1, 1, 9, 9]], np.float32)
    found = transform(values, track(uncovered="baseline"), bin_size=2, crop=1)
    assert found.tolist() == [[18, 2]]


def test_float16_saturates_and_stays_finite():
    found = to_float16(np.array([1e9, -1e9, 65504, 0.1], np.float32))
    assert found.dtype == np.float16
    assert found.tolist() == [65504, -65504, 65504, np.float16(0.1)]
