"""Which split an example belongs to, so that nothing scored at test was seen before."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.homology import components, homology_pairs, leaking
from cislens.genome.reference import Genome
from cislens.genome.splits import balanced_folds

logger = logging.getLogger("cislens")

FRACTIONS = {"train": 0.7, "valid": 0.15, "test": 0.15}
_ROUNDS = 5
BLOCK_BP = 20_000  # neighboring examples share a bootstrap block


@dataclass(frozen=True)
class Placed:
    """Examples with `split, cluster_id, block_id`, their sequences, and what was dropped.

    `alternates` are the alternate alleles' sequences of variants, else None.
    """

    rows: pl.DataFrame
    sequences: list[Codes]
    report: dict[str, str | int | float]
    alternates: list[Codes] | None = None

    def keep(self, kept: npt.NDArray[np.bool_], reason: str) -> "Placed":
        """Without the examples that are not kept; their number is reported as `reason`."""
        dropped = int((~kept).sum())
        if dropped:
            logger.info("%d of %d examples dropped: %s", dropped, len(kept), reason)
        rows = np.flatnonzero(kept).tolist()
        return Placed(
            self.rows[rows],
            [self.sequences[row] for row in rows],
            {**self.report, reason: dropped},
            None if self.alternates is None else [self.alternates[row] for row in rows],
        )


def place(
    rows: pl.DataFrame,
    genome: Genome,
    seed: int,
    regions: pl.DataFrame | None,
    strata: npt.NDArray[np.int64],
    stranded: bool = False,
) -> Placed:
    """Give genomic examples (chrom, start, end) a split, a cluster and a block.

    With `regions` (`chrom,start,end,split,block`: the windows of pre-training) an example takes
    the split of the region that it lies in; one that lies in none is dropped. Where a column
    `read` is False, nothing was trained on the region, which gives parts alone. Without, examples
    that overlap or are homologous form clusters, dealt to the splits with balanced `strata`.
    Valid examples with a homolog among the training examples are then dropped, and test examples
    with one among train and valid; with regions, with one anywhere in those of train and valid.

    Args:
        rows: those of one `group`, where there is such a column, are one cluster and one block.
        stranded: read the sequence of the strand that `strand` names.
    """
    sequences = _sequences(genome, rows)
    if stranded:
        strands = rows["strand"].to_list()
        sequences = [
            reverse_complement(codes) if strand == "-" else codes
            for codes, strand in zip(sequences, strands, strict=True)
        ]
    block = pl.format(
        "{}:{}", "chrom", (pl.col("start") + pl.col("end")) // 2 // BLOCK_BP * BLOCK_BP
    )
    if "group" in rows.columns:
        block = pl.col("group")
    rows = rows.with_columns(block_id=block)
    if regions is None:
        cluster = cluster_examples(rows, sequences, seed)
        split = balanced_folds(cluster, FRACTIONS, seed, strata=strata)
        rows = rows.with_columns(
            split=pl.Series(list(split), dtype=pl.String),
            cluster_id=pl.Series([f"c{number}" for number in cluster]),
        )
        return without_leaks(Placed(rows, sequences, _largest(cluster)))
    segments = merge_regions(regions)
    rows = _within_segments(rows, segments)
    placed = Placed(rows, sequences, {})
    placed = placed.keep(
        rows["split"].is_not_null().to_numpy(), "examples outside the regions of pre-training"
    )
    read = regions.filter("read") if "read" in regions.columns else regions
    seen = merge_regions(read).filter(pl.col("split") != "test")
    return without_leaks(placed, _sequences(genome, seen))


def _largest(cluster: npt.NDArray[np.int64]) -> dict[str, str | int | float]:
    """Says so where a cluster was too large to be dealt, and so went to train."""
    largest = int(np.bincount(cluster).max())
    return {"examples in the largest cluster": largest} if largest > len(cluster) // 10 else {}


def without_leaks(placed: Placed, seen_before_test: Sequence[Codes] = ()) -> Placed:
    """Drop valid examples with a homolog in train, then test examples with one in train or
    valid, on either strand.

    Args:
        seen_before_test: further sequences that a test example must not resemble.
    """
    for split, before in (("valid", ("train",)), ("test", ("train", "valid"))):
        more = seen_before_test if split == "test" else ()
        # The fewer candidates are left, the lower the score that chance reaches; so once more.
        for _round in range(_ROUNDS):
            kept = _unlike(placed, split, before, more)
            reason = f"{split} examples with a homolog in {' or '.join(before)}"
            total = int(placed.report.get(reason, 0)) + int((~kept).sum())
            placed = placed.keep(kept, reason)
            placed.report[reason] = total
            if kept.all():
                break
    return placed


def _unlike(
    placed: Placed, split: str, before: tuple[str, ...], more: Sequence[Codes]
) -> npt.NDArray[np.bool_]:
    """False for examples of a split with a homolog in the parts before or in `more`."""
    mine = (placed.rows["split"] == split).to_numpy()
    known = placed.rows["split"].is_in(before).to_numpy()
    judged = [placed.sequences[row] for row in np.flatnonzero(mine)]
    seen = [*(placed.sequences[row] for row in np.flatnonzero(known)), *more]
    kept = np.ones(len(mine), dtype=bool)
    if judged and seen:
        kept[mine] = ~leaking(judged, seen)
    return kept


def merge_regions(regions: pl.DataFrame) -> pl.DataFrame:
    """Touching and overlapping regions of one chromosome, split and block as one.

    Raises:
        CislensError: if columns are missing or a base lies in two splits.
    """
    missing = {"chrom", "start", "end", "split", "block"} - set(regions.columns)
    if missing:
        raise CislensError(f"regions lack the column(s) {', '.join(sorted(missing))}.")
    group = ["chrom", "split", "block"]
    ordered = regions.sort(*group, "start")
    gap = pl.col("start") > pl.col("end").cum_max().shift(1).over(group)
    merged = (
        ordered.with_columns(run=gap.fill_null(True).cum_sum())
        .group_by(*group, "run")
        .agg(pl.col("start").min(), pl.col("end").max())
        .sort("chrom", "start")
    )
    overlap = merged.filter(
        (pl.col("start") < pl.col("end").shift(1).over("chrom"))
        & (pl.col("split") != pl.col("split").shift(1).over("chrom"))
    )
    if len(overlap):
        where = overlap.row(0, named=True)
        raise CislensError(
            f"regions of different splits overlap at {where['chrom']}:{where['start']}; part "
            "them so that no base lies in two splits."
        )
    return merged.drop("run")


def _within_segments(rows: pl.DataFrame, segments: pl.DataFrame) -> pl.DataFrame:
    """The split and cluster of the segment that holds each example wholly, else null."""
    number = np.full(len(rows), -1)
    chrom = rows["chrom"].to_numpy()
    start, end = rows["start"].to_numpy(), rows["end"].to_numpy()
    for name in segments["chrom"].unique():
        here = np.flatnonzero((segments["chrom"] == name).to_numpy())
        mine = np.flatnonzero(chrom == name)
        low, high = segments["start"].to_numpy()[here], segments["end"].to_numpy()[here]
        last = np.searchsorted(low, start[mine], side="right") - 1
        holds = (last >= 0) & (end[mine] <= high[np.maximum(last, 0)])
        number[mine[holds]] = here[last[holds]]
    names = segments["split"].to_list()
    return rows.with_columns(
        split=pl.Series([names[n] if n >= 0 else None for n in number], dtype=pl.String),
        cluster_id=pl.Series([f"s{n}" if n >= 0 else None for n in number], dtype=pl.String),
    )


def cluster_examples(
    rows: pl.DataFrame, sequences: Sequence[Codes], seed: int
) -> npt.NDArray[np.int64]:
    """Number of the cluster of each example: those that overlap (`chrom, start, end`), that have
    one `group`, or whose sequences are homologous."""
    pairs = [homology_pairs(sequences, seed).pairs]
    if {"chrom", "start", "end"} <= set(rows.columns):
        pairs.append(_overlaps(rows))
    if "group" in rows.columns:
        order = rows.select(row=pl.int_range(pl.len()), group="group").drop_nulls()
        before = order.with_columns(before=pl.col("row").shift(1).over("group")).drop_nulls()
        pairs.append(before.select("before", "row").to_numpy().astype(np.int64).reshape(-1, 2))
    return components(len(rows), *pairs)


def _overlaps(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    order = rows.select(row=pl.int_range(pl.len()), chrom="chrom", start="start", end="end")
    order = order.drop_nulls().sort("chrom", "start")
    # The interval that reaches furthest so far is not always the last one.
    reach = pl.col("end").cum_max().shift(1).over("chrom")
    run = (pl.col("start") >= reach).fill_null(value=True).cum_sum()
    joined = order.with_columns(run=run).with_columns(before=pl.col("row").shift(1).over("run"))
    pairs = joined.drop_nulls().select("before", "row").to_numpy()
    return pairs.astype(np.int64).reshape(-1, 2)


def _sequences(genome: Genome, rows: pl.DataFrame) -> list[Codes]:
    return [genome.fetch(*row) for row in rows.select("chrom", "start", "end").iter_rows()]


def store_regions(name: str, species: str, genome: Genome, store: TrainingStore) -> pl.DataFrame:
    """The store's windows that give examples of a task on `genome` their part.

    Raises:
        CislensError: if the store has no such species, or another assembly of it.
    """
    if species not in store.species:
        raise CislensError(
            f"task {name}: {store.path} has no species {species!r}, so its examples "
            f"cannot take a part from it. {nearest(species, store.species)} For a species "
            "that no run was trained on write `split: anew`."
        )
    store.require_placed(species, f"task {name}")
    for chrom, size in store.chrom_sizes(species).items():
        if genome.chrom_sizes.get(chrom, size) != size:
            raise CislensError(
                f"task {name}: {chrom} of {genome.path} has {genome.chrom_sizes[chrom]:,} bp, in "
                f"{store.path} {size:,} bp; they are different assemblies."
            )
    return store.windows(species)
