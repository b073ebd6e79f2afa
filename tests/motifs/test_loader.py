"""Batches of regions: what is in them, what depends on what, and what the other strand does."""

from dataclasses import fields

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import N, gc_content, reverse_complement
from cislens.motifs.batch import RegionBatch, RegionContext
from cislens.motifs.loader import RegionLoader
from cislens.recipes.multimodal import MultimodalTerms

PLUS = MultimodalTerms()
PAIRS = MultimodalTerms(next=1, match=1, contrast=0, regions=0, motifs=0)


def loader(store, part="train", size=32, terms=PLUS, **changes):
    return RegionLoader(store, part, size, terms=terms, **changes)


def assert_same(left, right):
    for field in fields(left):
        first, second = getattr(left, field.name), getattr(right, field.name)
        if isinstance(first, RegionContext | RegionBatch):
            assert_same(first, second)
        elif first is None:
            assert second is None
        else:
            np.testing.assert_array_equal(first, second, err_msg=field.name)


def differ(left, right):
    return (left.target_BL != right.target_BL).any()


def rows_of(batches):
    return np.concatenate([batch.row_B for batch in batches])


@pytest.mark.parametrize("terms", [PLUS, PAIRS])
def test_a_batch_depends_on_seed_epoch_and_step_alone(store, terms):
    one = loader(store, terms=terms)
    fourth = one.batch(2, 3)
    one.batch(0, 1)
    assert_same(loader(store, terms=terms).batch(2, 3), fourth)
    resumed = list(loader(store, terms=terms).epoch(2, first=3))
    assert_same(resumed[0], fourth)
    assert len(resumed) == len(one) - 3
    assert differ(loader(store, terms=terms, seed=1).batch(2, 3), fourth)
    assert differ(one.batch(1, 3), fourth)
    assert differ(one.batch(2, 2), fourth)


def test_batches_come_in_order_and_waiting_is_counted(store):
    one = loader(store)
    seen = list(one)
    assert len(seen) == len(one)
    for step, batch in enumerate(seen):
        assert_same(batch, one.batch(0, step))
    assert one.wait_seconds > 0
    assert_same(next(iter(one)), one.batch(1, 0))
    with pytest.raises(IndexError, match="step 99"):
        one.batch(0, 99)


def test_an_epoch_has_each_region_once_in_a_cell_type_where_it_is_open(store):
    one = loader(store)
    batches = [one.batch(0, step) for step in range(len(one))]
    rows = rows_of(batches)
    train = (store.regions["split"] == "train").sum()
    assert len(rows) == len(set(rows.tolist())) == train // 32 * 32
    cells = np.concatenate([batch.cell_B for batch in batches])
    assert store.is_open[rows, cells].all()
    # Regions of one to three cell types, so these come about equally often: 610 / 3 each.
    assert np.bincount(cells, minlength=3).min() > 0.25 * len(cells)


def test_a_region_is_drawn_as_often_however_many_cell_types_share_it(store):
    rows = rows_of([loader(store).batch(epoch, step) for epoch in range(4) for step in range(19)])
    often = np.bincount(rows, minlength=len(store.is_open))
    shared = store.is_open.sum(1)
    train = (store.regions["split"] == "train").to_numpy()
    means = [often[train & (shared == number)].mean() for number in (1, 2, 3)]
    np.testing.assert_allclose(means, 4 * 19 * 32 / train.sum(), rtol=0.03)


def test_valid_is_the_same_whatever_the_seed_and_the_epoch(store):
    first, second = (loader(store, "valid", seed=seed) for seed in (0, 7))
    assert_same(first.batch(0, 1), second.batch(5, 1))
    batches = list(first)
    rows = rows_of(batches)
    valid = np.flatnonzero(store.regions["split"] == "valid")
    np.testing.assert_array_equal(np.sort(rows), valid)
    for batch in batches:
        margin = store.margin
        forward = store.sequence(batch.row_B)[:, margin:-margin]
        np.testing.assert_array_equal(batch.target_BL, forward)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_every_region_of_a_matrix_is_open_and_of_the_part_of_its_center(store, part):
    split = store.regions["split"].to_numpy()
    one = loader(store, part)
    for step in range(len(one)):
        batch = one.batch(0, step)
        for context in (batch.context, batch.other):
            real = ~context.pad_BR
            assert (split[context.row_BR[real]] == part).all()
            cells = np.broadcast_to(batch.cell_B[:, None], real.shape)
            assert store.is_open[context.row_BR[real], cells[real]].all()


def test_cell_types_held_out_are_never_drawn(make_store):
    store = make_store(test_cells=("blood",))
    for part in ("train", "valid", "test"):
        assert 1 not in np.concatenate([batch.cell_B for batch in loader(store, part)])


def test_the_central_column_is_the_store_row_of_the_locus(store):
    batch = loader(store).batch(0, 4)
    context, here = batch.context, np.arange(32)
    np.testing.assert_array_equal(context.row_BR[here, context.center_B], batch.row_B)
    np.testing.assert_array_equal(
        context.motif_BRT[here, context.center_B], store.motif_values(batch.row_B)
    )
    np.testing.assert_array_equal(
        context.access_BR[here, context.center_B], store.access[batch.row_B, batch.cell_B]
    )
    assert (context.offset_BR[here, context.center_B] == 0).all()
    np.testing.assert_array_equal(
        context.gc_B, store.regions["gc"].to_numpy()[batch.row_B].astype(np.float32)
    )


def test_the_other_strand_turns_sequence_masks_and_regions_alike(store):
    turned, plain = loader(store), loader(store, reverse_complement=False)
    flips = turned.loci(1, 2).flip_B
    assert 4 < flips.sum() < 28
    left, right = turned.batch(1, 2), plain.batch(1, 2)
    for name in ("target_BL", "codes_BL"):
        ours, theirs = getattr(left, name), getattr(right, name)
        np.testing.assert_array_equal(ours[~flips], theirs[~flips])
        np.testing.assert_array_equal(ours[flips], reverse_complement(theirs[flips]))
        np.testing.assert_array_equal(reverse_complement(ours[flips]), theirs[flips])
    for name in ("hidden_BL", "scored_BL"):
        ours, theirs = getattr(left, name), getattr(right, name)
        np.testing.assert_array_equal(ours[flips], theirs[flips, ::-1])
    for ours, theirs in ((left.context, right.context), (left.other, right.other)):
        for name in ("row_BR", "motif_BRT", "access_BR", "pad_BR", "hidden_BR", "access_hidden_BR"):
            mine, forward = getattr(ours, name), getattr(theirs, name)
            np.testing.assert_array_equal(mine[~flips], forward[~flips])
            np.testing.assert_array_equal(mine[flips], forward[flips, ::-1])
        np.testing.assert_array_equal(ours.offset_BR[flips], -theirs.offset_BR[flips, ::-1])
        np.testing.assert_array_equal(ours.center_B[flips], 15 - theirs.center_B[flips])


def test_offsets_grow_along_the_strand_that_is_read(store):
    one = loader(store)
    flips = one.loci(0, 0).flip_B
    context = one.batch(0, 0).context
    center = ((store.regions["start"] + store.regions["end"]) // 2).to_numpy()
    for row, flip in enumerate(flips):
        real = ~context.pad_BR[row]
        offsets = context.offset_BR[row, real]
        assert (np.diff(offsets) > 0).all()
        away = center[context.row_BR[row, real]] - center[one.batch(0, 0).row_B[row]]
        np.testing.assert_array_equal(offsets, -away if flip else away)


def test_shifts_move_the_sequence_within_the_margin(store):
    one = loader(store, shift=32, reverse_complement=False)
    loci, batch = one.loci(0, 0), one.batch(0, 0)
    assert loci.shift_B.min() < -16
    assert loci.shift_B.max() > 16
    window = store.sequence(batch.row_B)
    for row, shift in enumerate(loci.shift_B):
        np.testing.assert_array_equal(
            batch.target_BL[row], window[row, 32 + shift : 32 + shift + 256]
        )
    np.testing.assert_allclose(batch.gc_B, gc_content(batch.target_BL), atol=1e-7)
    with pytest.raises(CislensError, match="shift 33 is not within the margin of 32 bp"):
        loader(store, shift=33)


def test_pairs_are_neighbors_of_at_most_32_bp_or_from_elsewhere(store):
    one = loader(store, terms=PAIRS, reverse_complement=False)
    gaps = set()
    for step in range(6):
        loci, batch = one.loci(0, step), one.batch(0, step)
        assert batch.next_B.sum() == 16
        np.testing.assert_array_equal(batch.next_B, loci.second_B != batch.row_B)
        own, second = store.sequence(batch.row_B), store.sequence(loci.second_B)
        for row in range(32):
            left, right = batch.target_BL[row, :128], batch.target_BL[row, 128:]
            first = find(own[row], left)
            follows = find(second[row], right)
            gap = follows - first - 128
            assert 0 <= gap <= 32
            gaps.add(gap)
            if batch.next_B[row]:
                assert one.layout.distinct(batch.row_B[row], loci.second_B[row])
    assert len(gaps) > 25


def find(window, piece):
    pieces = np.lib.stride_tricks.sliding_window_view(window, len(piece))
    return int(np.flatnonzero((pieces == piece).all(1))[0])


def test_in_pairs_the_other_strand_keeps_neighbors_neighbors(store):
    turned = loader(store, terms=PAIRS).batch(0, 1)
    plain = loader(store, terms=PAIRS, reverse_complement=False).batch(0, 1)
    np.testing.assert_array_equal(turned.next_B, plain.next_B)
    flips = loader(store, terms=PAIRS).loci(0, 1).flip_B
    np.testing.assert_array_equal(
        turned.target_BL[flips, :128], reverse_complement(plain.target_BL[flips, 128:])
    )


def test_in_pairs_gaps_between_hidden_bases_close_within_each_segment(store):
    batch = loader(store, terms=PAIRS, kmer=6).batch(0, 0)
    for half in (slice(0, 128), slice(128, 256)):
        for hidden in batch.hidden_BL[:, half]:
            edges = np.flatnonzero(np.diff(np.concatenate([[1], hidden, [1]])))
            visible = edges[1::2] - edges[::2]
            assert (visible >= 6).all()


def test_nothing_is_made_that_no_term_asks_for(store):
    terms = MultimodalTerms(masked=0, next=0, match=0, contrast=1, regions=0, motifs=0)
    batch = loader(store, terms=terms).batch(0, 0)
    assert batch.next_B is None
    assert batch.other is None
    assert not batch.scored_BL.any()
    np.testing.assert_array_equal(batch.codes_BL, batch.target_BL)
    assert not batch.context.access_hidden_BR.any()


def test_hidden_bases_are_not_given(store):
    batch = loader(store).batch(0, 0)
    assert (batch.codes_BL[batch.hidden_BL] == N).all()
    assert 0.1 < batch.scored_BL.mean() < 0.35
    same = ~batch.scored_BL
    np.testing.assert_array_equal(batch.codes_BL[same], batch.target_BL[same])


def test_a_part_smaller_than_a_batch_gives_one_batch(store):
    assert len(loader(store, size=5000)) == 1
    assert len(loader(store, size=5000).batch(0, 0).row_B) == 610


def test_a_part_without_regions_is_refused(make_store):
    store = make_store(chrom_size=20_000)
    store.is_open = store.is_open & (store.regions["split"] != "valid").to_numpy()[:, None]
    with pytest.raises(CislensError, match="no two regions of split 'valid'"):
        loader(store, "valid")


def test_expression_is_of_the_cell_type(make_store):
    store = make_store(expression=True)
    batch = loader(store).batch(0, 0)
    np.testing.assert_array_equal(batch.context.expression_BT, store.expression.T[batch.cell_B])
