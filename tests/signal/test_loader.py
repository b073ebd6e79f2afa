import threading
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.genome.codes import reverse_complement
from cislens.genome.reference import Genome
from cislens.signal.build import build_profile_store
from cislens.signal.loader import ProfileLoader, _augmented_targets
from cislens.signal.plan import SplitSpec
from cislens.signal.quantization import dequantize, quantize
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import track_table


@pytest.fixture
def store(toy):
    """Two species: the toy, and the same genome with one unstranded track."""
    second = [
        type(track)(**(vars(track) | {"id": "second", "species": "second"}))
        for track in toy.rows
        if track.id == "atac"
    ]
    chroms = {"toy": ["chrB"], "second": ["chrB"]}, {"toy": ["chrC"], "second": ["chrC"]}
    settings = toy.settings | {"split": SplitSpec(valid=chroms[0], test=chroms[1])}
    genomes = {"toy": toy.genome, "second": Genome(toy.genome.path, "second")}
    tracks = track_table([*toy.rows, *second])
    return build_profile_store(toy.folder / "store", genomes, tracks, **settings)


def assert_same(first, second):
    np.testing.assert_array_equal(first.codes_BL, second.codes_BL)
    np.testing.assert_array_equal(first.species_B, second.species_B)
    np.testing.assert_array_equal(first.index_B, second.index_B)
    assert first.targets.keys() == second.targets.keys()
    for name, values in first.targets.items():
        np.testing.assert_array_equal(values, second.targets[name])


def train_rows(store):
    return sum(store.windows(name).filter(split="train").height for name in store.species)


def test_an_epoch_has_every_window_once_but_for_the_last_smaller_batch(store):
    loader = ProfileLoader(store, "train", 8)
    rows = train_rows(store)
    assert len(loader) == rows // 8
    seen = np.concatenate([batch.index_B for batch in loader.epoch(0)])
    assert len(set(seen.tolist())) == seen.size == rows // 8 * 8
    windows = store.windows("toy").height
    for batch in loader.epoch(1):
        np.testing.assert_array_equal(batch.species_B, batch.index_B >= windows)
        assert sum(len(values) for values in batch.targets.values()) == 8
        for s, name in enumerate(store.species):
            assert len(batch.targets.get(name, ())) == (batch.species_B == s).sum()


def test_valid_comes_whole_and_in_store_order(store):
    loader = ProfileLoader(store, "valid", 5, shift=0, reverse_complement=False)
    batches = list(loader)
    assert [len(batch.codes_BL) for batch in batches] == [5, 5, 2]
    index = np.concatenate([batch.index_B for batch in batches])
    assert (np.diff(index) > 0).all()
    rows = index[index < store.windows("toy").height]
    assert store.windows("toy")["split"].gather(rows).to_list() == ["valid"] * 6
    codes = np.concatenate([batch.codes_BL for batch in batches])
    np.testing.assert_array_equal(codes[:6], store.sequence("toy", rows)[:, 8:-8])
    first = np.concatenate([b.targets["toy"] for b in batches if "toy" in b.targets])
    np.testing.assert_array_equal(first, store.targets("toy", rows).astype(np.float32))


def test_a_batch_depends_on_seed_epoch_and_step_alone(store):
    loader = ProfileLoader(store, "train", 8, seed=3)
    expected = loader.batch(1, 2)
    list(loader.epoch(0))
    assert_same(loader.batch(1, 2), expected)
    assert_same(list(loader.epoch(1))[2], expected)
    assert_same(next(iter(loader.epoch(1, first=2))), expected)
    again = ProfileLoader(ProfileStore.open(store.path), "train", 8, seed=3)
    assert_same(again.batch(1, 2), expected)
    reseeded = ProfileLoader(store, "train", 8, seed=4)
    for other in (loader.batch(1, 1), loader.batch(0, 2), reseeded.batch(1, 2)):
        assert (other.index_B != expected.index_B).any()


def test_iterating_goes_from_epoch_to_epoch(store):
    loader = ProfileLoader(store, "train", 8)
    first, second = next(iter(loader)), next(iter(loader))
    assert_same(first, loader.batch(0, 0))
    assert_same(second, loader.batch(1, 0))


def test_streaming_and_resident_batches_are_the_same(store):
    streaming = ProfileLoader(ProfileStore.open(store.path), "train", 8, memory_budget=0)
    resident = ProfileLoader(ProfileStore.open(store.path), "train", 8)
    sequence, _ = streaming.store.arrays("toy")
    assert not sequence.loaded
    assert resident.store.arrays("toy")[0].loaded
    for step in range(len(resident)):
        assert_same(streaming.batch(0, step), resident.batch(0, step))


def test_every_example_is_its_window_shifted_and_perhaps_reverse_complemented(store):
    loader = ProfileLoader(store, "train", 8)
    swap = [1, 0, 2]
    shifts, flips = [], []
    for epoch in range(12):
        for batch in loader.epoch(epoch):
            here = np.flatnonzero(batch.species_B == 0)
            for place, row in enumerate(batch.index_B[here].tolist()):
                codes, bins = batch.codes_BL[here[place]], batch.targets["toy"][place]
                stored = store.targets("toy", [row])[0].astype(np.float32)
                flip = not np.array_equal(bins, stored)
                if flip:
                    np.testing.assert_array_equal(bins, stored[::-1][:, swap])
                    codes = reverse_complement(codes)
                margin = store.sequence("toy", [row])[0]
                found = [s for s in range(-8, 9) if (margin[8 + s : 1032 + s] == codes).all()]
                assert len(found) == 1
                shifts += found
                flips.append(flip)
    counts = np.bincount(np.array(shifts) + 3, minlength=7)
    assert counts.size == 7, "shifts stay within -3..3"
    # Uniform: each of 7 shifts within 4 standard deviations of its expectation.
    expected = len(shifts) / 7
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected * 6 / 7)).all()
    assert abs(np.mean(flips) - 0.5) < 4 * 0.5 / np.sqrt(len(flips))


def test_two_epochs_draw_different_shifts_for_the_same_window(store):
    loader = ProfileLoader(store, "train", train_rows(store), reverse_complement=False)
    first, second = loader.batch(0, 0), loader.batch(1, 0)
    back = np.argsort(second.index_B)[np.searchsorted(np.sort(second.index_B), first.index_B)]
    np.testing.assert_array_equal(second.index_B[back], first.index_B)
    same = (first.codes_BL == second.codes_BL[back]).all(axis=1)
    assert 0 < same.sum() < len(same)


def test_alternate_batches_hold_one_species_each_in_turn(store):
    loader = ProfileLoader(store, "train", 4, batches="alternate")
    for step, batch in enumerate(loader.epoch(0)):
        assert (batch.species_B == step % 2).all()
        assert set(batch.targets) == {store.species[step % 2]}
    assert step + 1 == len(loader)


def test_alternate_species_go_through_their_own_lists_without_repeats(store):
    windows = [store.windows(name).filter(split="train").height for name in store.species]
    loader = ProfileLoader(store, "train", 3, batches="alternate")
    per_pass = [size // 3 for size in windows]
    assert len(loader) == 2 * max(per_pass)
    for s in (0, 1):
        turns = [
            batch.index_B
            for epoch in range(3)
            for step, batch in enumerate(loader.epoch(epoch))
            if step % 2 == s
        ]
        for first in range(0, len(turns) - per_pass[s] + 1, per_pass[s]):
            seen = np.concatenate(turns[first : first + per_pass[s]])
            assert len(set(seen.tolist())) == seen.size == 3 * per_pass[s]


def test_an_alternate_batch_depends_on_seed_epoch_and_step_alone(store):
    loader = ProfileLoader(store, "train", 4, seed=3, batches="alternate")
    expected = [loader.batch(1, step) for step in range(len(loader))]
    list(loader.epoch(0))
    again = ProfileLoader(ProfileStore.open(store.path), "train", 4, seed=3, batches="alternate")
    for step in reversed(range(len(again))):
        assert_same(again.batch(1, step), expected[step])
    assert_same(next(iter(loader.epoch(1, first=3))), expected[3])
    assert (loader.batch(0, 2).index_B != expected[2].index_B).any()


def test_a_species_without_windows_cannot_take_its_turn(store, monkeypatch):
    second = store.windows("second").with_columns(split=pl.lit("valid"))
    parts = {"toy": store.windows("toy"), "second": second}
    monkeypatch.setattr(store, "windows", parts.__getitem__)
    assert len(ProfileLoader(store, "train", 4)) > 0
    with pytest.raises(CislensError, match="no window of second in split 'train'"):
        ProfileLoader(store, "train", 4, batches="alternate")


bases = st.integers(0, 2**32 - 1)


@given(bases, st.sampled_from([40, 41]))
def test_reverse_complement_twice_is_the_identity_on_codes_and_targets(seed, length):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 5, (3, length)).astype(np.uint8)
    bins = rng.integers(0, 50, (3, 6, 4)).astype(np.float16)
    swap, all_flip = np.array([2, 1, 0, 3]), np.ones(3, dtype=bool)
    np.testing.assert_array_equal(reverse_complement(reverse_complement(codes)), codes)
    turned = _augmented_targets(bins.copy(), all_flip, swap)
    np.testing.assert_array_equal(turned, bins[:, ::-1][..., swap])
    np.testing.assert_array_equal(_augmented_targets(turned.copy(), all_flip, swap), bins)


@pytest.mark.parametrize("resident", [False, True])
def test_a_cut_is_the_slice_of_its_row(store, resident):
    sequence, _ = store.arrays("toy")
    if resident:
        sequence.load()
    rows = np.array([3, 0, 3, len(store.windows("toy")) - 1])
    begins, length = np.array([0, 6, 2, 5]), store.length
    whole = sequence.gather(rows)
    expected = np.stack([row[b : b + length] for row, b in zip(whole, begins, strict=True)])
    np.testing.assert_array_equal(sequence.cut(rows, begins, length), expected)


def test_waiting_is_counted(store, monkeypatch):
    loader = ProfileLoader(store, "train", 8)
    for _ in loader.epoch(0):
        time.sleep(0.01)
    quick = loader.wait_seconds
    make = loader.batch

    def slow(*place):
        time.sleep(0.03)
        return make(*place)

    monkeypatch.setattr(loader, "batch", slow)
    list(loader.epoch(0))
    assert loader.wait_seconds - quick > 0.02 * len(loader)
    assert quick < 0.02 * len(loader)


def test_an_error_while_reading_ahead_reaches_the_consumer(store, monkeypatch):
    loader = ProfileLoader(store, "train", 8)

    def broken(*place):
        raise CislensError("gone")

    monkeypatch.setattr(loader, "batch", broken)
    with pytest.raises(CislensError, match="gone"):
        list(loader.epoch(0))


def test_a_process_reads_its_own_rows_of_a_batch_and_no_others(store, monkeypatch):
    loader = ProfileLoader(store, "train", 7, seed=1, shift=8, memory_budget=0)
    read = []
    for array in (array for arrays in loader._arrays for array in arrays):
        near = array.near
        monkeypatch.setattr(
            array, "near", lambda rows, near=near: read.append(len(rows)) or near(rows)
        )
    for step in (0, len(loader) - 1):
        whole = loader.batch(0, step)
        for rank in range(3):
            read.clear()
            share = loader.batch(0, step, (rank, 3))
            rows = len(range(rank, 7, 3))
            assert sum(read) == 2 * rows  # of sequences, and of profiles
            np.testing.assert_array_equal(share.index_B, whole.index_B[rank::3])
            np.testing.assert_array_equal(share.codes_BL, whole.codes_BL[rank::3])
            mine = np.arange(7) % 3 == rank
            for s, name in enumerate(store.species):
                here = mine[whole.species_B == s]
                found = share.targets.get(name)
                assert (found is None) == (not here.any())
                if found is not None:
                    np.testing.assert_array_equal(found, whole.targets[name][here])
    first = next(loader.epoch(0, 1, share=(2, 3)))
    np.testing.assert_array_equal(first.codes_BL, loader.batch(0, 1).codes_BL[2::3])


def test_stopping_early_leaves_no_thread(store):
    loader = ProfileLoader(store, "train", 8)
    epoch = loader.epoch(0)
    next(epoch)
    epoch.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cislens-loader")]


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_batches_of_codes_hold_what_the_codes_stand_for(toy, budget):
    plain, coded = (
        build_profile_store(
            toy.folder / values, toy.genomes, toy.tracks, **toy.settings, values=values
        )
        for values in ("float16", "uint8")
    )
    theirs = ProfileLoader(coded, "train", 7, shift=8, memory_budget=budget)
    ours = ProfileLoader(plain, "train", 7, shift=8)
    for step in range(len(ours)):
        found, exact = theirs.batch(0, step), ours.batch(0, step)
        np.testing.assert_array_equal(found.codes_BL, exact.codes_BL)
        halves = exact.targets["toy"].astype(np.float16)
        np.testing.assert_array_equal(found.targets["toy"], dequantize(quantize(halves)))


def test_settings_that_cannot_be_met_are_refused(store):
    with pytest.raises(CislensError, match="shift 9 is not within the margin of 8 bp"):
        ProfileLoader(store, "train", 8, shift=9)
    with pytest.raises(CislensError, match="batch_size is 0"):
        ProfileLoader(store, "train", 0)
    with pytest.raises(CislensError, match="no window in split 'night'"):
        ProfileLoader(store, "night", 8)
    with pytest.raises(IndexError):
        ProfileLoader(store, "train", 8).batch(0, 99)
