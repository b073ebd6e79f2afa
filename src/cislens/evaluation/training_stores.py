"""Stores that models were trained on, as those who build tasks ask for them."""

import os
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.files import manifest_format
from cislens.genome.codes import Codes
from cislens.motifs.store import FORMAT as REGIONS
from cislens.motifs.store import RegionStore
from cislens.signal.store import ProfileStore


class TrainedRegions:
    """A region store with the questions that a profile store answers about its windows.

    Attributes:
        species: of the one genome.
        store: the region store.
    """

    def __init__(self, store: RegionStore) -> None:
        self.store = store
        self.path = store.path
        self.digest = store.digest
        self.species = (store.species,)

    def require_placed(self, species: str, purpose: str) -> None:
        """Regions always have a place in the genome."""

    def chrom_sizes(self, species: str) -> dict[str, int]:
        """Chromosome lengths of the genome."""
        return self.store.chrom_sizes

    def windows(self, species: str) -> pl.DataFrame:
        """`chrom, start, end, split, block, read`: what parts examples.

        The regions (`read`), and stretches of the genome (not `read`) that give what lies
        between regions of one block its part. A stretch ends midway to the next one, or at the
        chromosome's end.
        """
        columns = ["chrom", "start", "end", "split", "block"]
        regions = self.store.regions.select(columns)
        run = pl.struct("chrom", "split", "block").rle_id()
        stretches = (
            regions.with_columns(run=run)
            .group_by("run", maintain_order=True)
            .agg(*(pl.col(name).first() for name in ("chrom", "start", "split", "block")),
                 pl.col("end").max())
        )  # fmt: skip
        before = pl.col("end").shift(1).over("chrom")
        middle = (pl.col("start") + before) // 2
        stretches = stretches.with_columns(start=middle.fill_null(0))
        size = pl.col("chrom").replace_strict(self.store.chrom_sizes, return_dtype=pl.Int64)
        after = pl.col("start").shift(-1).over("chrom").fill_null(size)
        stretches = stretches.with_columns(end=after)
        return pl.concat(
            [
                regions.with_columns(read=pl.lit(value=True)),
                stretches.select(columns).with_columns(read=pl.lit(value=False)),
            ]
        )


TrainingStore = ProfileStore | TrainedRegions


def open_training_store(path: str | os.PathLike[str]) -> TrainingStore:
    """A profile store or a region store, whichever it is.

    Raises:
        CislensError: as their `open`.
    """
    if manifest_format(path) == REGIONS:
        return TrainedRegions(RegionStore.open(path))
    return ProfileStore.open(path)


def trained_sequences(store: TrainingStore, species: str) -> list[Codes]:
    """Every window, or region, of the species' train and valid parts."""
    if isinstance(store, TrainedRegions):
        table, margin, length = store.store.regions, store.store.margin, store.store.width
    else:
        table, margin, length = store.windows(species), store.margin, store.length
    rows = np.flatnonzero((table["split"] != "test").to_numpy())
    if isinstance(store, TrainedRegions):
        codes = store.store.sequence(rows)
    else:
        codes = store.sequence(species, rows)
    return list(codes[:, margin : margin + length])


def require_profiles(store: TrainingStore, purpose: str) -> ProfileStore:
    """The store, if it is one of profiles.

    Raises:
        CislensError: if it is not; `purpose` says what needs it.
    """
    if isinstance(store, ProfileStore):
        return store
    raise CislensError(f"{purpose} needs a profile store; {Path(store.path)} holds regions.")
