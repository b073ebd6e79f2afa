"""The stores of a run, and whether they agree on what of a genome is trained on or held out."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.motifs.store import RegionStore
from cislens.sequence.parts import AnyStore
from cislens.sequence.store import SequenceStore

Ints = npt.NDArray[np.int64]

_SCHEMA: dict[str, type[pl.DataType]] = {
    "species": pl.String, "chrom": pl.String, "start": pl.Int64, "end": pl.Int64,
    "split": pl.String,
}  # fmt: skip


def stores_of(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """`path` and `digest` of every store that a run was trained on; none if it does not say."""
    several: list[dict[str, str]] | None = manifest.get("stores")
    if several is not None:
        return several
    return [manifest["store"]] if "store" in manifest else []


def contradictions(stores: Mapping[str, AnyStore]) -> Iterator[tuple[str, str, int]]:
    """Pairs of stores, and the bp that one trains on and the other holds out.

    Genomes are the same if species and chromosomes have the same names. A store has nothing
    against itself.

    Args:
        stores: profile, region or sequence stores by name.
    """
    windows = {name: windows_of(store) for name, store in stores.items()}
    for one, other in combinations(stores, 2):
        if stores[one].digest == stores[other].digest:
            continue
        bp = _shared(windows[one], windows[other]) + _shared(windows[other], windows[one])
        if bp:
            yield one, other, bp


def windows_of(store: AnyStore) -> pl.DataFrame:
    """`species, chrom, start, end, split` of what a store reads; 0-based, half-open."""
    if isinstance(store, RegionStore):
        tables = [store.regions.with_columns(species=pl.lit(store.species))]
    elif isinstance(store, SequenceStore):
        # Runs of starts: the last window of a run begins one before `last`.
        end = pl.col("last") - 1 + store.window
        tables = [store.starts.with_columns(start="first", end=end)]
    else:
        placed = [name for name in store.species if store.placed(name)]
        tables = [store.windows(name).with_columns(species=pl.lit(name)) for name in placed]
    # With none placed, a table without rows.
    none = pl.DataFrame(schema=_SCHEMA)
    return pl.concat([none, *(table.select(list(_SCHEMA)).cast(none.schema) for table in tables)])


def _shared(trained: pl.DataFrame, held_out: pl.DataFrame) -> int:
    """The bp of the training part of one table in the other parts of another one."""
    trained = trained.filter(pl.col("split") == "train")
    held_out = held_out.filter(pl.col("split") != "train")
    others = _by_chromosome(held_out)
    return sum(
        overlap(ours, others[place])
        for place, ours in _by_chromosome(trained).items()
        if place in others
    )


def _by_chromosome(table: pl.DataFrame) -> dict[tuple[object, ...], Ints]:
    parts = table.select("species", "chrom", "start", "end").partition_by(
        "species", "chrom", as_dict=True
    )
    return {
        place: part.select("start", "end").to_numpy().astype(np.int64)
        for place, part in parts.items()
    }


def overlap(one_K2: Ints, other_K2: Ints) -> int:
    """The bp that are in both of two sets of intervals [start, end), in any order."""
    ours_K2, theirs_K2 = merged(one_K2), merged(other_K2)
    # How much of the second set lies before a place: linear between its ends.
    ends = theirs_K2.ravel()
    before = np.cumsum(np.diff(theirs_K2, axis=1).ravel())
    covered = np.stack([np.r_[0, before[:-1]], before], axis=1).ravel()
    inside_K2 = np.interp(ours_K2, ends, covered)
    return int(np.rint(np.diff(inside_K2, axis=1).sum()))


def merged(interval_K2: Ints) -> Ints:
    """Sorted intervals without overlap that cover the same places."""
    interval_K2 = interval_K2[np.argsort(interval_K2[:, 0], kind="stable")]
    reach = np.maximum.accumulate(interval_K2[:, 1])
    new = np.r_[True, interval_K2[1:, 0] > reach[:-1]]
    first = np.flatnonzero(new)
    return np.stack([interval_K2[first, 0], reach[np.r_[first[1:], len(reach)] - 1]], axis=1)
