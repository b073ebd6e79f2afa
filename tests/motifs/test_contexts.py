"""Which regions surround a region, and what of them is hidden."""

import numpy as np
import polars as pl
import pytest

from cislens.motifs.contexts import Neighborhoods, Surroundings, hide, positions


@pytest.fixture(scope="module")
def neighborhoods(store):
    return Neighborhoods(store)


def spelled_out(store, row, cell, size):
    """Rows that may surround `row`: of its chromosome and part, without a border between."""
    same = [
        (chrom, split)
        for chrom, split in zip(store.regions["chrom"], store.regions["split"], strict=True)
    ]
    left, right = [], []
    for side, step in ((left, -1), (right, 1)):
        other = row + step
        while 0 <= other < len(same) and same[other] == same[row]:
            if store.is_open[other, cell]:
                side.append(other)
            other += step
    return left[: size - 1][::-1], right[: size - 1]


def all_loci(store):
    rows, cells = np.nonzero(np.ones_like(store.is_open))
    return rows, cells


@pytest.mark.parametrize("size", [2, 7, 16, 200])
def test_a_context_is_the_nearest_open_regions_around_its_center(store, neighborhoods, size):
    """For every region in every cell type, open or not."""
    rows, cells = all_loci(store)
    around = neighborhoods.around(rows, cells, size, np.random.default_rng(0))
    for row, cell, found, center in zip(rows, cells, around.row_BR, around.center_B, strict=True):
        left, right = spelled_out(store, row, cell, size)
        assert found[center] == row
        before, after = found[:center].tolist(), found[center + 1 :]
        after = after[after >= 0].tolist()
        assert before == left[len(left) - len(before) :]
        assert after == right[: len(after)]
        # As many as there are.
        assert 1 + len(before) + len(after) == min(size, 1 + len(left) + len(right))
        assert (found[1 + len(before) + len(after) :] == -1).all()


def test_the_center_takes_every_column_equally_often(store, neighborhoods):
    rows = np.full(8000, 150)
    cells = np.zeros(8000, np.int64)
    around = neighborhoods.around(rows, cells, 8, np.random.default_rng(1))
    shares = np.bincount(around.center_B, minlength=8) / 8000
    np.testing.assert_allclose(shares, 1 / 8, atol=0.02)


def test_without_a_generator_the_center_is_in_the_middle(store, neighborhoods):
    around = neighborhoods.around(np.array([150, 0]), np.array([1, 1]), 8)
    assert around.center_B.tolist() == [4, 0]
    again = neighborhoods.around(np.array([150, 0]), np.array([1, 1]), 8)
    np.testing.assert_array_equal(around.row_BR, again.row_BR)


def test_contexts_span_no_more_than_5_mb(make_store):
    store = make_store(chrom_size=20_000)
    starts = np.arange(len(store.regions)) * 1_000_000
    store.regions = store.regions.with_columns(
        chrom=pl.lit("chrA"),
        split=pl.lit("train"),
        start=pl.Series(starts),
        end=pl.Series(starts + 256),
    )
    store.is_open = np.ones_like(store.is_open)
    rows = np.arange(len(starts))
    around = Neighborhoods(store).around(rows, np.zeros_like(rows), 9)
    places = positions(store.regions)
    for row, found in zip(rows, around.row_BR, strict=True):
        near = places[found[found >= 0]]
        assert abs(near - places[row]).max() == 2_000_000
    assert (around.row_BR >= 0).sum(1)[2:-2].tolist() == [5] * (len(rows) - 4)


def test_regions_of_different_chromosomes_are_far_apart(store):
    places = positions(store.regions)
    chrom = store.regions["chrom"].to_numpy()
    centers = ((store.regions["start"] + store.regions["end"]) // 2).to_numpy()
    for name in ("chrA", "chrB", "chrC"):
        here = chrom == name
        np.testing.assert_array_equal(np.diff(places[here]), np.diff(centers[here]))
    assert (np.diff(places)[chrom[1:] != chrom[:-1]] > 90_000_000).all()


def test_channels_of_padding_are_zero_and_padding_is_told(store, neighborhoods):
    rows = np.array([0, 300])
    around = neighborhoods.around(rows, np.array([0, 0]), 500)
    context = neighborhoods.context(around, np.array([0, 0]))
    assert context.pad_BR.any()
    assert not context.motif_BRT[context.pad_BR].any()
    assert not context.access_BR[context.pad_BR].any()
    assert not context.offset_BR[context.pad_BR].any()
    real = ~context.pad_BR
    np.testing.assert_array_equal(context.motif_BRT[real], store.motif_values(context.row_BR[real]))
    np.testing.assert_array_equal(context.access_BR[real], store.access[context.row_BR[real], 0])


def test_turning_twice_is_the_identity(store, neighborhoods):
    rng = np.random.default_rng(2)
    rows, cells = rng.integers(0, len(store.regions), 64), rng.integers(0, 3, 64)
    around = hide(neighborhoods.around(rows, cells, 12, rng), 0.5, rng)
    flips = rng.random(64) < 0.5
    twice = around.turned(flips).turned(flips)
    for name in ("row_BR", "center_B", "hidden_BR", "access_hidden_BR"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(around, name))
    once = around.turned(flips)
    here = np.arange(64)
    np.testing.assert_array_equal(once.row_BR[here, once.center_B], rows)
    assert not once.hidden_BR[here, once.center_B].any()


def surroundings(rows, size, center=3):
    nothing = np.zeros((rows, size), bool)
    return Surroundings(np.ones((rows, size), int), np.full(rows, center), nothing, nothing)


def test_what_is_hidden_of_contexts():
    around = hide(surroundings(20_000, 16), 0.5, np.random.default_rng(3))
    center = np.arange(16) == 3
    only_access = ~around.hidden_BR.any(1)
    assert only_access.mean() == pytest.approx(0.2, abs=0.01)
    assert not around.hidden_BR[:, center].any()
    # Of the center, accessibility alone.
    assert around.access_hidden_BR[:, center].mean() == pytest.approx(0.5, abs=0.02)
    assert around.hidden_BR[~only_access][:, ~center].mean() == pytest.approx(0.5, abs=0.01)
    assert around.access_hidden_BR[only_access].mean() == pytest.approx(0.5, abs=0.02)
    assert (around.access_hidden_BR | ~around.hidden_BR).all()


def test_accessibility_alone_is_hidden_in_runs_of_four():
    around = hide(surroundings(5000, 400), 0.5, np.random.default_rng(4))
    for only, mean in ((True, 4.0), (False, 2.0)):
        chosen = around.access_hidden_BR[around.hidden_BR.any(1) != only]
        starts = (chosen[:, 1:] & ~chosen[:, :-1]).sum()
        assert chosen[:, 1:].sum() / starts == pytest.approx(mean, rel=0.05)


def test_padding_is_never_hidden():
    around = surroundings(200, 8)
    around.row_BR[:, 6:] = -1
    hidden = hide(around, 0.9, np.random.default_rng(5))
    assert not hidden.access_hidden_BR[:, 6:].any()
