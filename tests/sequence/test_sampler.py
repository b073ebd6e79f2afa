"""Which windows a sampler gives."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from cislens.errors import CislensError
from cislens.sequence.sampler import WindowSampler


def test_every_start_is_as_likely_as_any_other(sequence_store):
    sampler = WindowSampler(sequence_store, "train")
    species, chrom, start = sampler.draw(np.random.default_rng(0), 40_000)
    assert species.shape == chrom.shape == start.shape == (40_000,)
    runs = sequence_store.starts.filter(pl.col("split") == "train")
    runs = runs.with_columns(count=pl.col("last") - pl.col("first"))
    assert sampler.total == runs["count"].sum() == sum(sampler.starts.values())
    # In proportion to the number of starts of each chromosome, and of tenths of the largest.
    expected, found = [], []
    for number, name in enumerate(sequence_store.species):
        for at, place in enumerate(sequence_store.chroms(name)):
            mine = runs.filter((pl.col("species") == name) & (pl.col("chrom") == place))
            here = (species == number) & (chrom == at)
            if mine.is_empty():
                assert not here.any()
                continue
            edges = np.linspace(0, sequence_store.chrom_sizes(name)[place] + 1, 11).astype(int)
            for left, right in pairwise(edges):
                inside = mine.select(
                    (pl.min_horizontal("last", right) - pl.max_horizontal("first", left))
                    .clip(0).sum()
                )  # fmt: skip
                expected.append(inside.item())
                found.append((here & (start >= left) & (start < right)).sum())
    found, expected = np.array(found), np.array(expected)
    assert not found[expected == 0].any()
    kept = expected > 0
    assert kept.sum() > 30
    share = expected[kept] / expected.sum() * 40_000
    assert chisquare(found[kept], share).pvalue > 1e-3


def test_draws_lie_in_the_part_and_repeat_with_the_seed(sequence_store):
    sampler = WindowSampler(sequence_store, "test")
    one, same, other = (sampler.draw(np.random.default_rng(seed), 500) for seed in (1, 1, 2))
    for a, b, c in zip(one, same, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)
    window = sequence_store.window
    for number, chrom, start in zip(*(column.tolist() for column in one), strict=True):
        name = sequence_store.species[number]
        place = sequence_store.chroms(name)[chrom]
        tiles = sequence_store.windows(name).filter(
            (pl.col("chrom") == place)
            & (pl.col("start") < start + window)
            & (pl.col("end") > start)
        )
        assert set(tiles["split"]) == {"test"}


def test_fixed_windows_are_spread_evenly_over_all_species(sequence_store):
    sampler = WindowSampler(sequence_store, "valid")
    species, chrom, start = sampler.fixed(64)
    again = sampler.fixed(64)
    assert all(np.array_equal(a, b) for a, b in zip((species, chrom, start), again, strict=True))
    assert len(set(zip(species.tolist(), chrom.tolist(), start.tolist(), strict=True))) == 64
    share = sampler.starts["yeast"] / sampler.total
    assert (species == 0).mean() == pytest.approx(share, abs=1 / 64)


def test_bases_are_those_that_lie_in_a_window(sequence_store):
    for part in ("train", "valid", "test"):
        covered = 0
        for name in sequence_store.species:
            for chrom, size in sequence_store.chrom_sizes(name).items():
                inside = np.zeros(size, bool)
                runs = sequence_store.starts.filter(
                    (pl.col("species") == name) & (pl.col("chrom") == chrom)
                    & (pl.col("split") == part)
                )  # fmt: skip
                for first, last in runs.select("first", "last").iter_rows():
                    inside[first : last - 1 + sequence_store.window] = True
                covered += inside.sum()
        assert WindowSampler(sequence_store, part).bases == covered
    with pytest.raises(CislensError, match="has no part 'tset'"):
        WindowSampler(sequence_store, "tset")
