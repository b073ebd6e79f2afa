"""Positives, the background matched to them, and the card of what is built from both."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.evaluation.tasks.card import Metric, TaskCard
from cislens.evaluation.tasks.placing import BLOCK_BP, Placed
from cislens.genome.reference import Genome
from cislens.genome.sampling import matched_background
from cislens.randomness import generator

BLOCK = f"{BLOCK_BP // 1000} kb of genome"
BINARY = Metric(primary="auroc", secondary=["auprc"])
PLACE = ("chrom", "start", "end")


def with_background(
    genome: Genome,
    everywhere: pl.DataFrame,
    annotated: pl.DataFrame,
    limit: int | None,
    seed: int,
    keep: tuple[str, ...] = (),
) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """Disjoint positives and as many matched windows away from all that is annotated.

    Args:
        keep: columns of the positives that the rows keep; null in the background, but for
            `strand`, which a window has of the positive it was matched to.
    """
    positives, report = positives_of(everywhere, limit, seed, keep)
    columns = [*PLACE, *(["strand"] if "strand" in keep else [])]
    away_from = pl.concat([everywhere.select(PLACE), annotated.select(PLACE)])
    background = matched_background(genome, positives.select(columns), seed, exclude=away_from)
    rows = labelled(positives, background.intervals.select(columns))
    balance = {
        f"standardized difference of {row['covariate']}": round(float(row["after"]), 4)
        for row in background.balance.iter_rows(named=True)
    }
    return rows, {**report, **balance}


def positives_of(
    everywhere: pl.DataFrame, limit: int | None, seed: int, keep: tuple[str, ...] = ()
) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """Disjoint windows, at most `limit` of them drawn by the seed, and how many were left out."""
    order = ["chrom", "start", *(["strand"] if "strand" in keep else [])]
    ordered = everywhere.select(*PLACE, *keep).sort(order)
    apart = disjoint(ordered)
    return drawn(apart, limit, seed), {
        "overlapping positives left out": len(everywhere) - len(apart)
    }


def labelled(positives: pl.DataFrame, negatives: pl.DataFrame) -> pl.DataFrame:
    """Both as rows of a task, with `example_id`, `label` and `y`."""
    both = [positives.with_columns(label=1), negatives.with_columns(label=0)]
    return pl.concat(both, how="diagonal").with_columns(
        example_id=pl.format("{}:{}-{}", "chrom", "start", "end"),
        y=pl.col("label").cast(pl.Float32).reshape((-1, 1)).arr.to_list(),
    )


def disjoint(intervals: pl.DataFrame) -> pl.DataFrame:
    """Of sorted intervals those that begin after the last kept one's end."""
    kept, last = [], ("", 0)
    for chrom, start, end in intervals.select("chrom", "start", "end").iter_rows():
        keep = (chrom, start) >= last if chrom == last[0] else True
        kept.append(keep)
        if keep:
            last = (chrom, end)
    return intervals.filter(pl.Series(kept, dtype=pl.Boolean))


def drawn(rows: pl.DataFrame, limit: int | None, seed: int) -> pl.DataFrame:
    """At most `limit` rows, drawn by the seed, in their order."""
    if limit is None or len(rows) <= limit:
        return rows
    chosen: npt.NDArray[np.int64] = generator(seed, "examples").permutation(len(rows))[:limit]
    return rows[np.sort(chosen)]


def built_card(
    placed: Placed,
    report: dict[str, str | int | float],
    regions: pl.DataFrame | None,
    **fields: Any,
) -> TaskCard:
    """The card of a built task; by default binary, against genomic background."""
    defaults: dict[str, Any] = {
        "kind": "binary", "metric": BINARY, "block": BLOCK, "negatives": "genomic",
        "split": "homology" if regions is None else "regions",
    }  # fmt: skip
    return TaskCard(report={**report, **placed.report}, **{**defaults, **fields})
