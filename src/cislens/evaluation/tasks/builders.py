"""Tasks made from a genome and what was annotated or measured on it.

Every example carries its sequence. Unstranded tasks read the forward strand.
"""

from typing import Literal

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.background import built_card, drawn, with_background
from cislens.evaluation.tasks.card import Metric, Target
from cislens.evaluation.tasks.placing import BLOCK_BP, Placed, place, without_leaks
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome.codes import Codes, N
from cislens.genome.intervals import centered
from cislens.genome.reference import Genome
from cislens.signal.bigwig import read_windows
from cislens.signal.store import ProfileStore


def peaks(
    genome: Genome,
    intervals: pl.DataFrame,
    *,
    name: str,
    species: str,
    width: int = 512,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Peaks (around the summit if given, else the midpoint) against matched background."""
    everywhere = centered(intervals, width, genome.chrom_sizes)
    rows, report = with_background(genome, everywhere, intervals, limit, seed)
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy())
    card = built_card(placed, report, regions, name=name, species=species, window=width,
                 target=Target(names=["peak"]), assembly=genome.name)  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def accessibility(
    genome: Genome,
    intervals: pl.DataFrame,
    track: str,
    *,
    name: str,
    species: str,
    width: int = 512,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
    transform: Literal["identity", "log1p"] = "log1p",
) -> Task:
    """A track's mean over peak windows and matched background windows.

    Args:
        track: path of a bigWig; bases it does not cover count as 0.
    """
    everywhere = centered(intervals, width, genome.chrom_sizes)
    rows, report = with_background(genome, everywhere, intervals, limit, seed)
    values = read_windows(
        track, rows["chrom"].to_numpy(), rows["start"].to_numpy(), width, missing=0.0
    )
    mean = values.mean(1)
    if transform == "log1p":
        if (mean < 0).any():
            raise CislensError(f"{track} has negative values, which log1p does not take.")
        mean = np.log1p(mean)
    rows = rows.with_columns(y=pl.Series(mean[:, None].tolist()))
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy())
    target = Target(names=["accessibility"], transform=transform, unit="mean of the track")
    card = built_card(placed, report, regions, name=name, species=species, window=width,
                 kind="regression", target=target, metric=Metric(primary="pearson"),
                 assembly=genome.name)  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def profile_windows(
    store: ProfileStore,
    species: str,
    *,
    name: str,
    width: int = 512,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Pieces of a profile store's windows -> log1p of every track's mean over the piece.

    The part of each window that has targets is cut into pieces of `width` bp. The splits are the
    store's own; valid pieces with a homolog in train are dropped, and test pieces with one in
    any window of train or valid.

    Args:
        width: bp; a multiple of the store's bin size.
        limit: at most so many pieces, drawn by the seed.

    Raises:
        CislensError: if no piece of that width fits the store's bins.
    """
    bins = width // store.bin_size
    if width % store.bin_size or not 1 <= bins <= store.bins:
        raise CislensError(
            f"task {name}: a width of {width} bp does not fit the {store.bins} bins of "
            f"{store.bin_size} bp of {store.path}; choose a multiple of the bin size."
        )
    windows = store.windows(species).with_row_index("row")
    offsets = pl.DataFrame({"offset": range(0, (store.bins - bins + 1) * store.bin_size, width)})
    begin = pl.col("start") + store.crop * store.bin_size + pl.col("offset")
    pieces = windows.join(offsets, how="cross").with_columns(start=begin, end=begin + width)
    # Overlapping windows share pieces.
    pieces = pieces.unique(["chrom", "start"], keep="first", maintain_order=True)
    pieces = drawn(pieces, limit, seed)
    everything = store.sequence(species, np.arange(windows.height))[:, store.margin :]
    sequences, y = _cut(store, species, pieces, everything, width)
    rows = pieces.with_columns(
        example_id=pl.format("{}:{}-{}", "chrom", "start", "end"),
        y=pl.Series(y),
        cluster_id=pl.format("{}/{}", "chrom", "block"),
        block_id=pl.format("{}:{}", "chrom", pl.col("start") // BLOCK_BP * BLOCK_BP),
    )
    called = np.array([bool((codes != N).any()) for codes in sequences])
    placed = Placed(rows, sequences, {}).keep(called, "windows without a called base")
    seen = everything[(windows["split"] != "test").to_numpy(), : store.length]
    placed = without_leaks(placed, list(seen))
    frame = store.tracks(species).frame
    stranded = frame["strand"].is_in(["+", "-"]).any()
    tracks = frame["id"].to_list()
    target = Target(names=tracks, transform="log1p", unit="mean over the window")
    card = built_card(placed, {}, rows, name=name, species=species, window=width,
                 kind="multi_regression" if len(tracks) > 1 else "regression", target=target,
                 metric=Metric(primary="pearson"), negatives="none",
                 strand="stranded" if stranded else "unstranded")  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _cut(
    store: ProfileStore, species: str, pieces: pl.DataFrame, everything: Codes, width: int
) -> tuple[list[Codes], list[list[float]]]:
    """Sequence and log1p of every track's mean of pieces (`row, offset`) of the windows."""
    targets = store.targets(species, np.arange(len(everything))).astype(np.float32)
    bins = width // store.bin_size
    sequences, y = [], []
    for row, offset in pieces.select("row", "offset").iter_rows():
        first = store.crop * store.bin_size + offset
        sequences.append(everything[row, first : first + width])
        mean = targets[row, offset // store.bin_size :][:bins].mean(axis=0)
        y.append(np.log1p(np.maximum(mean, 0)).tolist())
    return sequences, y
