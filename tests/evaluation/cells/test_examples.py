"""Which pairs are asked for, and that the list of regions gives no answer away."""

import copy

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.cells.examples import (
    LEARNED,
    PARTS,
    Candidates,
    draw_parts,
    made_of_peaks,
)
from cislens.evaluation.cells.features import cell_mean
from cislens.evaluation.cells.scoring import _logits
from cislens.evaluation.cells.tables import within_cells


def changed(store, **parts):
    """The store with other tables, openness or manifest."""
    other = copy.copy(store)
    other.__dict__ |= parts
    return other


def test_pairs_are_of_their_part_and_others_know_their_region(cell_store):
    candidates = Candidates(cell_store)
    trained = (cell_store.cells["split"] == "train").to_numpy()
    for part, (regions, cells) in PARTS.items():
        pairs = candidates.draw(part, 300, 0)
        assert len(pairs) == 300 and len({*zip(pairs.row_N, pairs.cell_N, strict=True)}) == 300
        assert set(cell_store.regions["split"].to_numpy()[pairs.row_N]) == {regions}
        assert set(cell_store.cells["split"].to_numpy()[pairs.cell_N]) == {cells}
        assert np.array_equal(pairs.open_N, cell_store.is_open[pairs.row_N, pairs.cell_N])
        others = trained & (np.arange(len(trained)) != pairs.cell_N[:, None])
        assert (cell_store.is_open[pairs.row_N] & others).any(1).all()
        again = candidates.draw(part, 300, 0)
        assert np.array_equal(again.row_N, pairs.row_N)
        assert not np.array_equal(candidates.draw(part, 300, 1).row_N, pairs.row_N)


def test_a_list_made_of_random_peaks_tells_nothing(cell_store):
    """Where cell types are open at random, what others show has an AUROC of .5 (within .08).

    Among all pairs it is not: a region that is closed in the others must be open here.
    """
    rng = np.random.default_rng(0)
    is_open = rng.random(cell_store.is_open.shape) < 0.15
    # What is open nowhere is no peak and never becomes a region.
    part = pl.when(pl.Series(is_open.any(1))).then("split").otherwise(pl.lit("none"))
    regions = cell_store.regions.with_columns(split=part)
    access = is_open.astype(np.float32)
    random = changed(cell_store, is_open=is_open, access=access, regions=regions)
    fair, unfair = Candidates(random), Candidates(random)
    unfair.allowed_RC = np.ones_like(unfair.allowed_RC)
    features = cell_mean(random)
    found = {}
    for name, candidates in (("fair", fair), ("unfair", unfair)):
        pairs = {part: candidates.draw(part, 3000, 0) for part in (*LEARNED, "new regions")}
        logits = _logits({part: features(each) for part, each in pairs.items()}, pairs)
        arms = {"others": [logits["new regions"]]}
        scored = within_cells(arms, pairs["new regions"], "auroc", 100, 0)
        found[name] = scored.value("others").point
    assert abs(found["fair"] - 0.5) < 0.08
    assert found["unfair"] > 0.54


def test_where_a_cell_type_may_not_have_been_measured_nothing_is_asked(cell_store):
    is_open = cell_store.is_open.copy()
    on_a = (cell_store.regions["chrom"] == "chrA").to_numpy()
    is_open[on_a, 0] = False
    is_open[on_a, 1] = False
    lonely = int(np.flatnonzero(on_a)[3])
    is_open[lonely, 1] = True
    candidates = Candidates(changed(cell_store, is_open=is_open))
    assert not candidates.allowed_RC[on_a, 0].any()
    # Of the only open region of a chromosome its own openness would decide.
    assert not candidates.allowed_RC[lonely, 1]
    assert any("cell0 (chrA)" in note for note in candidates.notes)


def test_overlapping_regions_are_left_out(cell_store):
    regions = cell_store.regions
    moved = regions["start"].to_list()
    moved[5] = moved[4] + 40
    table = regions.with_columns(start=pl.Series(moved))
    candidates = Candidates(changed(cell_store, regions=table))
    assert not candidates.allowed_RC[[4, 5]].any() and candidates.allowed_RC[6].any()
    assert any("2 regions are left out, as they overlap" in note for note in candidates.notes)


def test_regions_of_a_list_are_asked_for_whatever_others_show(cell_store):
    manifest = cell_store.manifest | {"regions": {"read": {"regions_file": {}}}}
    listed = changed(cell_store, manifest=manifest)
    # A list of which everything is open somewhere may have been made of the peaks.
    assert made_of_peaks(cell_store) and made_of_peaks(listed)
    is_open = cell_store.is_open.copy()
    is_open[7] = False
    listed = changed(listed, is_open=is_open)
    assert not made_of_peaks(listed)
    assert Candidates(listed).allowed_RC.all()


def with_cells(store, *splits):
    cells = store.cells.with_columns(split=pl.Series(splits))
    return changed(store, cells=cells)


def test_what_cannot_be_judged_is_said(cell_store):
    known = with_cells(cell_store, *["train"] * 11)
    drawn = draw_parts(Candidates(known), 500, 0)
    assert list(drawn.judged) == ["new regions"]
    assert any("No cell type was held back" in note for note in drawn.notes)
    one = with_cells(cell_store, "train", *["test"] * 10)
    with pytest.raises(CislensError, match=r"has 1 training cell type.* build it with two or more"):
        draw_parts(Candidates(one), 500, 0)
    is_open = cell_store.is_open.copy()
    is_open[:, 8] = True
    is_open[(cell_store.regions["split"] == "test").to_numpy(), 9:] = True
    drawn = draw_parts(Candidates(changed(cell_store, is_open=is_open)), 500, 0)
    assert list(drawn.judged) == ["new regions", "new cell types"]
    assert 8 not in drawn.judged["new cell types"].cells
    assert any("new cell types: 1 of 3 cell types are left out" in note for note in drawn.notes)
    assert any("Not judged: new regions and cell types." in note for note in drawn.notes)
