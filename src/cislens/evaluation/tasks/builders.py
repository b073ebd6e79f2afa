"""Tasks made from a genome and what was annotated or measured on it.

Every example carries its sequence. Unstranded tasks read the forward strand.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.placing import BLOCK_BP, FRACTIONS, Placed, place
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

    Args:
        genes: as `annotation.read_genes` gives them; of windows that overlap the first is kept.
        regions: windows of pre-training with their split, see `placing.place`.
        limit: at most so many promoters, drawn by the seed.
    """
    upstream = 3 * width // 4
    everywhere = within(annotation.promoters(genes, upstream, width - upstream), genome.chrom_sizes)
    rows, report = _with_background(genome, everywhere, limit, seed)
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
    rows, report = _with_background(genome, everywhere, limit, seed)
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
    rows, report = _with_background(genome, everywhere, limit, seed)
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
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Windows of a profile store -> log1p of every track's mean over the central bins.

    The splits are the store's own, parted by blocks of the genome that are not homologous over a
    large part; the windows of its test split were never trained on.

    Args:
        limit: at most so many windows, drawn by the seed with the shares of `placing.FRACTIONS`.
    """
    windows = store.windows(species).with_row_index("row")
    kept = []
    for split, share in FRACTIONS.items():
        part = windows.filter(pl.col("split") == split)
        if limit is not None:
            part = _draw(part, round(limit * share), seed)
        kept.append(part)
    windows = pl.concat(kept).sort("row")
    index = windows["row"].to_numpy().astype(np.int64)
    padded = store.sequence(species, index)
    codes = padded[:, store.margin : store.margin + store.length]
    called = np.asarray((codes != N).any(axis=1))
    targets = store.targets(species, index).astype(np.float32).mean(axis=1)
    y = np.log1p(np.maximum(targets, 0))
    rows = windows.with_columns(
        example_id=pl.format("{}:{}-{}", "chrom", "start", "end"),
        y=pl.Series(y.tolist()),
        cluster_id=pl.format("{}/{}", "chrom", "block"),
        block_id=pl.format("{}:{}", "chrom", pl.col("start") // BLOCK_BP * BLOCK_BP),
    )
    placed = Placed(rows, list(codes), {}).keep(called, "windows without a called base")
    frame = store.tracks(species).frame
    tracks = frame["id"].to_list()
    stranded = frame["strand"].is_in(["+", "-"]).any()
    target = Target(names=tracks, transform="log1p", unit="mean over the central bins")
    card = _card(placed, {}, rows, name=name, species=species, window=store.length,
                 kind="multi_regression" if len(tracks) > 1 else "regression", target=target,
                 metric=Metric(primary="pearson"), negatives="none",
                 strand="stranded" if stranded else "unstranded")  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _with_background(
    genome: Genome, everywhere: pl.DataFrame, limit: int | None, seed: int
) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """Disjoint positives and as many matched windows away from every positive."""
    everywhere = everywhere.select("chrom", "start", "end").sort("chrom", "start")
    positives = _draw(_disjoint(everywhere), limit, seed)
    background = matched_background(genome, positives, seed, exclude=everywhere)
    columns = ["chrom", "start", "end"]
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
