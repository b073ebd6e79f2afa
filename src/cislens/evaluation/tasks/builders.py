"""Tasks made from a genome and what was annotated or measured on it.

Every example carries its sequence. Unstranded tasks read the forward strand.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.placing import BLOCK_BP, Placed, place, without_leaks
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome import annotation
from cislens.genome.codes import N
from cislens.genome.intervals import centered, within
from cislens.genome.reference import Genome
from cislens.genome.sampling import matched_background
from cislens.randomness import generator
from cislens.signal.bigwig import read_windows
from cislens.signal.store import ProfileStore

_BLOCK = f"{BLOCK_BP // 1000} kb of genome"
_BINARY = Metric(primary="auroc", secondary=["auprc"])


def promoters(
    genome: Genome,
    genes: pl.DataFrame,
    *,
    name: str,
    species: str,
    width: int = 512,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Promoters (three quarters of the window upstream of the TSS) against matched background.

    Each window is moved at random by up to an eighth of its width: where the annotation begins a
    gene at its start codon, an ATG at a fixed position would tell the classes apart.

    Args:
        genes: as `annotation.read_genes` gives them; of windows that overlap the first is kept.
        regions: windows of pre-training with their split, see `placing.place`.
        limit: at most so many promoters, drawn by the seed.
    """
    upstream = 3 * width // 4
    windows = annotation.promoters(genes, upstream, width - upstream)
    reach = width // 8
    shift = generator(seed, "promoters").integers(-reach, reach + 1, len(windows))
    windows = windows.with_columns(start=pl.col("start") + shift, end=pl.col("end") + shift)
    everywhere = within(windows, genome.chrom_sizes)
    rows, report = _with_background(genome, everywhere, windows, limit, seed)
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy())
    card = _card(placed, report, regions, name=name, species=species, window=width,
                 target=Target(names=["promoter"]), assembly=genome.name)  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


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
    rows, report = _with_background(genome, everywhere, intervals, limit, seed)
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy())
    card = _card(placed, report, regions, name=name, species=species, window=width,
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
) -> Task:
    """log1p of a track's mean over peak windows and matched background windows.

    Args:
        track: path of a bigWig; bases it does not cover count as 0.
    """
    everywhere = centered(intervals, width, genome.chrom_sizes)
    rows, report = _with_background(genome, everywhere, intervals, limit, seed)
    values = read_windows(
        track, rows["chrom"].to_numpy(), rows["start"].to_numpy(), width, missing=0.0
    )
    mean = values.mean(1)
    if (mean < 0).any():
        raise CislensError(f"{track} has negative values, which log1p does not take.")
    rows = rows.with_columns(y=pl.Series(np.log1p(mean)[:, None].tolist()))
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy())
    target = Target(names=["accessibility"], transform="log1p", unit="mean of the track")
    card = _card(placed, report, regions, name=name, species=species, window=width,
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
    pieces = _draw(pieces, limit, seed)
    everything = store.sequence(species, np.arange(windows.height))[:, store.margin :]
    targets = store.targets(species, np.arange(windows.height)).astype(np.float32)
    sequences, y = [], []
    for row, offset in pieces.select("row", "offset").iter_rows():
        first = store.crop * store.bin_size + offset
        sequences.append(everything[row, first : first + width])
        mean = targets[row, offset // store.bin_size :][:bins].mean(axis=0)
        y.append(np.log1p(np.maximum(mean, 0)).tolist())
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
    card = _card(placed, {}, rows, name=name, species=species, window=width,
                 kind="multi_regression" if len(tracks) > 1 else "regression", target=target,
                 metric=Metric(primary="pearson"), negatives="none",
                 strand="stranded" if stranded else "unstranded")  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _with_background(
    genome: Genome,
    everywhere: pl.DataFrame,
    annotated: pl.DataFrame,
    limit: int | None,
    seed: int,
) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """Disjoint positives and as many matched windows away from all that is annotated."""
    columns = ["chrom", "start", "end"]
    everywhere = everywhere.select(columns).sort("chrom", "start")
    positives = _draw(_disjoint(everywhere), limit, seed)
    away_from = pl.concat([everywhere, annotated.select(columns)])
    background = matched_background(genome, positives, seed, exclude=away_from)
    rows = pl.concat(
        [
            positives.select(columns).with_columns(label=1),
            background.intervals.select(columns).with_columns(label=0),
        ]
    ).with_columns(
        example_id=pl.format("{}:{}-{}", "chrom", "start", "end"),
        y=pl.col("label").cast(pl.Float32).reshape((-1, 1)).arr.to_list(),
    )
    balance = {
        f"standardized difference of {row['covariate']}": round(float(row["after"]), 4)
        for row in background.balance.iter_rows(named=True)
    }
    return rows, {"overlapping positives left out": len(everywhere) - len(positives), **balance}


def _disjoint(intervals: pl.DataFrame) -> pl.DataFrame:
    """Of sorted intervals those that begin after the last kept one's end."""
    kept, last = [], ("", 0)
    for chrom, start, end in intervals.iter_rows():
        keep = (chrom, start) >= last if chrom == last[0] else True
        kept.append(keep)
        if keep:
            last = (chrom, end)
    return intervals.filter(pl.Series(kept, dtype=pl.Boolean))


def _draw(rows: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    if limit is None or len(rows) <= limit:
        return rows
    chosen: npt.NDArray[np.int64] = generator(seed, "examples").permutation(len(rows))[:limit]
    return rows[np.sort(chosen)]


def _card(
    placed: Placed,
    report: dict[str, str | int | float],
    regions: pl.DataFrame | None,
    **fields: Any,
) -> TaskCard:
    defaults: dict[str, Any] = {
        "kind": "binary", "metric": _BINARY, "block": _BLOCK, "negatives": "genomic",
        "split": "homology" if regions is None else "regions",
    }  # fmt: skip
    return TaskCard(report={**report, **placed.report}, **{**defaults, **fields})
