"""Batches of sequences: what depends on what, and which windows come how often."""

from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import chisquare

from cislens.errors import CislensError
from cislens.genome.codes import N
from cislens.recipes.sequence_terms import Masks, View, Views
from cislens.sequence.batch import SequenceBatch
from cislens.sequence.batch import Views as ViewArrays
from cislens.sequence.loader import SequenceLoader

VIEWS = Views(length=128, local_length=32, local_count=2)
SIZE = 16


def loader(store, part="train", size=SIZE, seed=0, views=VIEWS, **changes):
    return SequenceLoader(store, part, size, seed, views=views, masks=Masks(), **changes)


def parts(batch):
    """Name and array of everything in a batch."""
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, ViewArrays):
            yield from ((f"{field.name}.{name}", each) for name, each in parts(value))
        elif value is not None:
            yield field.name, value


def assert_same(left: SequenceBatch, right: SequenceBatch):
    for (name, one), (other_name, other) in zip(parts(left), parts(right), strict=True):
        assert name == other_name
        np.testing.assert_array_equal(one, other, err_msg=name)


def differ(left, right):
    return (left.parent_BP != right.parent_BP).any() and (
        left.whole.target_VBL != right.whole.target_VBL
    ).any()


def test_a_batch_depends_on_seed_epoch_and_step_alone(sequence_store):
    one = loader(sequence_store)
    fourth = one.batch(2, 3)
    one.batch(0, 1)
    assert_same(loader(sequence_store).batch(2, 3), fourth)
    resumed = loader(sequence_store).epoch(2, first=3)
    assert_same(next(resumed), fourth)
    resumed.close()
    assert differ(loader(sequence_store, seed=1).batch(2, 3), fourth)
    assert differ(one.batch(1, 3), fourth)
    assert differ(one.batch(2, 2), fourth)


def test_batches_come_in_order_and_waiting_is_counted(sequence_store):
    one = loader(sequence_store, "valid", held_out=40)
    seen = list(one)
    assert [len(batch.species_B) for batch in seen] == [16, 16, 8]
    for step, batch in enumerate(seen):
        assert_same(batch, one.batch(0, step))
    assert one.wait_seconds > 0
    assert one.next_epoch == 1
    with pytest.raises(IndexError, match="step 3 of an epoch of 3"):
        one.batch(0, 3)


def test_types_and_shapes_are_those_of_a_batch(sequence_store):
    batch = loader(sequence_store).batch(0, 0)
    kinds = {name: value.dtype for name, value in parts(batch)}
    for name in ("whole", "local"):
        assert kinds[f"{name}.codes_VBL"] == kinds[f"{name}.target_VBL"] == np.uint8
        for masks in ("hidden_VBL", "scored_VBL", "repeat_VBL", "turned_VB"):
            assert kinds[f"{name}.{masks}"] == np.bool_
        assert kinds[f"{name}.place_VBL"] == np.int32
    assert kinds["parent_BP"] == np.uint8
    assert kinds["repeat_B"] == np.float32
    assert kinds["label_B"] == np.int8
    for name in ("species_B", "chrom_B", "start_B"):
        assert kinds[name] == np.int64
    assert batch.whole.codes_VBL.shape == (2, SIZE, 128)
    assert batch.local.codes_VBL.shape == (2, SIZE, 32)
    assert batch.parent_BP.shape == (SIZE, sequence_store.window)
    turned = np.concatenate([batch.whole.turned_VB, batch.local.turned_VB])
    assert 0.2 < turned.mean() < 0.8


def test_windows_are_where_the_batch_says_and_labelled_by_the_probe(sequence_store):
    batch = loader(sequence_store, size=256).batch(0, 0)
    for number, name in enumerate(sequence_store.species):
        here = batch.species_B == number
        assert here.any()
        where = batch.chrom_B[here], batch.start_B[here]
        codes, repeat = sequence_store.cut(name, *where, sequence_store.window)
        np.testing.assert_array_equal(batch.parent_BP[here], codes)
        np.testing.assert_allclose(batch.repeat_B[here], repeat.mean(1), atol=1e-6)
        labels = set(batch.label_B[here].tolist())
        assert labels == ({0, 1} if name == "yeast" else {-1})


def test_an_epoch_covers_the_part_once(sequence_store):
    one = loader(sequence_store)
    bases = one.sampler.bases
    assert bases - SIZE * 512 < len(one) * SIZE * 512 <= bases
    assert len(loader(sequence_store, size=10**6)) == 1


def test_chromosomes_come_in_proportion_to_their_starts(sequence_store):
    one = loader(sequence_store, size=500, views=Views(length=16, count=1, local_count=0))
    keys = [batch.species_B * 100 + batch.chrom_B for batch in (one.batch(0, s) for s in range(4))]
    runs = sequence_store.starts.filter(split="train")
    number = {
        (species, chrom): 100 * row + column
        for row, species in enumerate(sequence_store.species)
        for column, chrom in enumerate(sequence_store.chroms(species))
    }
    starts: dict[int, int] = {}
    for species, chrom, first, last in runs.select("species", "chrom", "first", "last").iter_rows():
        key = number[species, chrom]
        starts[key] = starts.get(key, 0) + last - first
    found = np.concatenate(keys)
    seen = np.array([(found == key).sum() for key in starts])
    assert seen.sum() == len(found) == 2000
    expected = np.array(list(starts.values()))
    assert chisquare(seen, expected / expected.sum() * 2000).pvalue > 1e-3


@pytest.mark.parametrize("part", ["valid", "test"])
def test_held_out_windows_are_the_same_for_each_seed_epoch_and_batch_size(sequence_store, part):
    one = loader(sequence_store, part, 32, held_out=50)
    assert len(one) == 2
    assert_same(one.batch(0, 1), loader(sequence_store, part, 32, seed=5, held_out=50).batch(7, 1))
    small = loader(sequence_store, part, 7, held_out=50)
    for name, value in parts(one.batch(0, 1)):
        found = [dict(parts(small.batch(0, step)))[name] for step in range(8)]
        axis = int("." in name)
        joined = np.concatenate(found, axis)
        np.testing.assert_array_equal(np.take(joined, range(32, 50), axis), value)


def test_nothing_but_crops_and_strands_is_changed_in_held_out_windows(sequence_store):
    one = loader(sequence_store, "valid", 64, held_out=64)
    batch = one.batch(0, 0)
    for views in (batch.whole, batch.local):
        place = views.place_VBL.astype(int)
        assert (np.abs(np.diff(place)) == 1).all()
        base = batch.parent_BP[np.arange(64)[:, None], place]
        flip = views.turned_VB[..., None] & (base != N)
        np.testing.assert_array_equal(views.target_VBL, np.where(flip, 3 - base, base))
    assert (batch.whole.place_VBL[0].min(1) != batch.whole.place_VBL[1].min(1)).mean() > 0.9
    assert batch.whole.hidden_VBL.any()
    assert one.views.indels == 0
    assert VIEWS.indels == 2


def test_training_views_are_changed(sequence_store):
    batch = loader(sequence_store, size=64).batch(0, 0)
    inserted = (batch.whole.place_VBL < 0).any(2)
    # 0, 1 or 2 indels, half of them insertions: 5/12 of the views have one.
    assert inserted.mean() == pytest.approx(5 / 12, abs=0.15)


def test_a_single_view_of_each_window(sequence_store):
    views = Views(**View(length=200).model_dump(), count=1, local_count=0)
    one = loader(sequence_store, views=views)
    batch = one.batch(0, 0)
    assert batch.whole.codes_VBL.shape == (1, SIZE, 200)
    assert batch.local is None
    assert (np.abs(np.diff(batch.whole.place_VBL)) == 1).all()
    assert loader(sequence_store, "valid", views=views, held_out=40).batch(0, 1).local is None


def test_masks_of_a_reader_of_kmers(sequence_store):
    batch = loader(sequence_store, kmer=6).batch(0, 0)
    for hidden in batch.whole.hidden_VBL[batch.whole.target_VBL.max(2) < N]:
        text = "".join("x" if base else "." for base in hidden)
        assert all(len(gap) >= 6 for gap in text.split("x") if gap)


def test_mistakes_are_told(sequence_store):
    with pytest.raises(CislensError, match=r"views of 513 bp .* windows of 512 bp"):
        loader(sequence_store, views=Views(length=513))
    with pytest.raises(CislensError, match="views of 600 bp"):
        loader(sequence_store, views=Views(length=128, local_length=600))
    loader(sequence_store, views=Views(length=128, local_length=600, local_count=0))
    with pytest.raises(CislensError, match="has no haplotypes"):
        loader(sequence_store, views=Views(haplotypes=True))
    with pytest.raises(CislensError, match="batch_size is 0"):
        loader(sequence_store, size=0)
