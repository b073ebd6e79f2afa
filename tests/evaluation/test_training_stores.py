"""Region stores give tasks their parts, and what was trained on."""

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.placing import merge_regions
from cislens.evaluation.training_stores import (
    TrainedRegions,
    TrainedSequences,
    open_training_store,
    require_profiles,
    trained_sequences,
)
from cislens.example import example_path
from cislens.genome.reference import open_genome
from cislens.motifs.store import RegionStore
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore


def test_a_store_is_opened_as_what_it_is(
    region_store: RegionStore, small_store: ProfileStore
) -> None:
    regions = open_training_store(region_store.path)
    assert isinstance(regions, TrainedRegions)
    assert regions.digest == region_store.digest
    assert regions.species == (region_store.species,)
    profiles = open_training_store(small_store.path)
    assert require_profiles(profiles, "task x") is profiles
    with pytest.raises(CislensError, match=r"task x needs a profile store; .* holds regions"):
        require_profiles(regions, "task x")


def test_stretches_cover_the_genome_once_and_hold_the_regions_of_their_part(
    region_store: RegionStore,
) -> None:
    store = TrainedRegions(region_store)
    table = store.windows(region_store.species)
    stretches = table.filter(~pl.col("read"))
    for (chrom,), part in stretches.group_by("chrom"):
        edges = part.sort("start")
        assert edges["start"][0] == 0
        assert edges["end"][-1] == region_store.chrom_sizes[str(chrom)]
        np.testing.assert_array_equal(edges["end"][:-1], edges["start"][1:])
    for chrom, start, end, split in (
        table.filter("read").select("chrom", "start", "end", "split").iter_rows()
    ):
        around = stretches.filter(
            pl.col("chrom") == chrom, pl.col("start") <= start, pl.col("end") >= end
        )
        assert around["split"].to_list() == [split]
    # No base lies in two parts.
    assert merge_regions(table)["split"].n_unique() > 1


def test_trained_sequences_are_those_of_train_and_valid_without_margins(
    region_store: RegionStore,
) -> None:
    seen = trained_sequences(TrainedRegions(region_store), region_store.species)
    rows = np.flatnonzero((region_store.regions["split"] != "test").to_numpy())
    assert len(seen) == len(rows) < region_store.regions.height
    first = region_store.sequence(rows[:1])[0]
    margin, width = region_store.margin, region_store.width
    np.testing.assert_array_equal(seen[0], first[margin : margin + width])


def test_tiles_of_a_sequence_store_count_as_seen(sequence_store: SequenceStore) -> None:
    store = open_training_store(sequence_store.path)
    assert isinstance(store, TrainedSequences)
    assert store.species == ("yeast", "fly")
    assert store.chrom_sizes("fly") == {"dm6_chr2L_4_7Mb": 3_000_000}
    tiles = store.windows("yeast")
    assert merge_regions(tiles)["split"].n_unique() == 3
    kept = tiles.filter(pl.col("split") != "test")
    seen = trained_sequences(store, "yeast")
    assert [len(codes) for codes in seen] == (kept["end"] - kept["start"]).to_list()
    genome = open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"))
    last = kept.row(-1, named=True)
    expected = genome.fetch(last["chrom"], last["start"], last["end"])
    np.testing.assert_array_equal(seen[-1], expected)
    with pytest.raises(CislensError, match="holds sequence alone"):
        require_profiles(store, "task x")
