"""Stores that models were trained on, as those who build tasks ask for them."""

import os
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.motifs.store import RegionStore
from cislens.sequence.parts import open_any_store, region_stretches
from cislens.sequence.store import SequenceStore
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
        between regions of one block its part.
        """
        stretches = region_stretches(self.store)
        regions = self.store.regions.select(stretches.columns)
        return pl.concat(
            [
                regions.with_columns(read=pl.lit(value=True)),
                stretches.with_columns(read=pl.lit(value=False)),
            ]
        )


class TrainedSequences:
    """A sequence store with the questions that a profile store answers about its windows.

    Attributes:
        species: names of its genomes.
        store: the sequence store.
    """

    def __init__(self, store: SequenceStore) -> None:
        self.store = store
        self.path = store.path
        self.digest = store.digest
        self.species = store.species

    def require_placed(self, species: str, purpose: str) -> None:
        """Windows are cut from a genome, so they have a place in it."""

    def chrom_sizes(self, species: str) -> dict[str, int]:
        """Chromosome lengths of a genome."""
        return self.store.chrom_sizes(species)

    def windows(self, species: str) -> pl.DataFrame:
        """`chrom, start, end, split, block`: the tiles in which all windows lie."""
        return self.store.windows(species)

    def sequences(self, species: str) -> list[Codes]:
        """Every tile of the train and valid parts."""
        number = {chrom: at for at, chrom in enumerate(self.store.chroms(species))}
        tiles = self.store.windows(species).filter(pl.col("split") != "test")
        found = []
        for chrom, start, end in tiles.select("chrom", "start", "end").iter_rows():
            place = np.array([number[chrom]]), np.array([start])
            found.append(self.store.cut(species, *place, end - start)[0][0])
        return found


TrainingStore = ProfileStore | TrainedRegions | TrainedSequences


def open_training_store(path: str | os.PathLike[str]) -> TrainingStore:
    """A profile, region or sequence store, whichever it is.

    Raises:
        CislensError: as their `open`.
    """
    store = open_any_store(path)
    if isinstance(store, RegionStore):
        return TrainedRegions(store)
    return TrainedSequences(store) if isinstance(store, SequenceStore) else store


def trained_sequences(store: TrainingStore, species: str) -> list[Codes]:
    """Every window, region or tile of the species' train and valid parts."""
    if isinstance(store, TrainedSequences):
        return store.sequences(species)
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
    held = "regions" if isinstance(store, TrainedRegions) else "sequence alone"
    raise CislensError(f"{purpose} needs a profile store; {Path(store.path)} holds {held}.")
