"""How imported examples come to train, valid and test, and which of them are too many."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.placing import (
    BLOCK_BP,
    FRACTIONS,
    Placed,
    cluster_examples,
    without_leaks,
)
from cislens.genome.splits import balanced_folds
from cislens.randomness import generator
from cislens.recipes.task_basics import Parting

_SPLITS = ("train", "valid", "test")
_LARGE_CLUSTER = 0.1


def draw(placed: Placed, limit: int | None, seed: int) -> Placed:
    """At most `limit` examples, drawn by the seed.

    Where the examples have a `split`, each part gets its share of `placing.FRACTIONS`, and what a
    smaller part leaves goes to train, or without one to valid.
    """
    n = placed.rows.height
    if limit is None or n <= limit:
        return placed
    order = generator(seed, "examples").permutation(n)
    kept = np.zeros(n, bool)
    if "split" in placed.rows.columns:
        split = placed.rows["split"].to_numpy()[order]
        present = [name for name in ("test", "valid", "train") if name in split]
        left = limit
        for name in present:
            share = left if name == present[-1] else round(limit * FRACTIONS[name])
            mine = order[split == name][:share]
            kept[mine] = True
            left -= len(mine)
    else:
        kept[order[:limit]] = True
    return placed.keep(kept, "examples beyond the limit")


def part(placed: Placed, how: Parting, strata: npt.NDArray[np.int64], seed: int) -> Placed:
    """Give examples `split, cluster_id, block_id`; leaks between the parts are dropped.

    Args:
        placed: rows may have `group` (examples of one group stay together and are one block),
            coordinates, and the column that `how` names.
        strata: number of the class, or of the quantile, of each example.

    Raises:
        CislensError: if a chromosome or value does not occur, or a part stays empty.
    """
    if how.by == "homology":
        return _anew(placed, strata, seed)
    column = "chrom" if how.by == "chromosome" else "parted_by"
    split = _by_value(placed, column, how)
    placed = Placed(
        placed.rows.with_columns(split=split), placed.sequences, placed.report, placed.alternates
    )
    placed = placed.keep(split.is_not_null().to_numpy(), "examples of no part")
    return predefined(placed, seed)


def predefined(placed: Placed, seed: int) -> Placed:
    """Examples that have a `split`: valid is carved from train where there is none, leaks and
    examples whose group is in an earlier part are dropped, clusters and blocks are named."""
    found = set(placed.rows["split"])
    if not {"train", "test"} <= found:
        lost = sorted({"train", "test"} - found)
        raise CislensError(f"no example is left for {lost[0]}; a task needs all parts.")
    if "valid" not in found:
        placed = carve(placed, "train", {"train": 0.85, "valid": 0.15}, seed)
    placed = _one_part_per_group(placed)
    return named_blocks(without_leaks(placed), seed)


def carve(placed: Placed, source: str, shares: Mapping[str, float], seed: int) -> Placed:
    """Divide the examples of one part by homology; nothing of another part is touched."""
    rows = np.flatnonzero((placed.rows["split"] == source).to_numpy())
    mine = placed.rows[rows]
    cluster = cluster_examples(mine, [placed.sequences[row] for row in rows], seed)
    y = np.array([values[0] for values in mine["y"]])
    folds = balanced_folds(cluster, shares, seed, strata=strata_of(y))
    split = placed.rows["split"].to_numpy().astype(object)
    split[rows] = folds
    report: dict[str, str | int | float] = {
        f"{name} examples carved from {source} by homology": int((folds == name).sum())
        for name in shares
        if name != source
    }
    return Placed(
        placed.rows.with_columns(split=pl.Series(split.tolist(), dtype=pl.String)),
        placed.sequences, {**placed.report, **report}, placed.alternates,
    )  # fmt: skip


def strata_of(y: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The number of the class where there are few values, else of the fifth of the values."""
    values, number = np.unique(np.nan_to_num(y, nan=-1.0), return_inverse=True)
    if len(values) > 20:
        edges = np.quantile(y[np.isfinite(y)], [0.2, 0.4, 0.6, 0.8])
        number = np.searchsorted(edges, np.nan_to_num(y))
    return number.astype(np.int64)


def named_blocks(placed: Placed, seed: int) -> Placed:
    """Clusters within each part, and the block of each example: its group, else its stretch of
    the genome, else its cluster."""
    rows = placed.rows
    if "group" in rows.columns and not rows["group"].null_count():
        return _with_blocks(placed, rows["group"])
    names = np.empty(rows.height, object)
    for split in _SPLITS:
        mine = np.flatnonzero((rows["split"] == split).to_numpy())
        numbers = cluster_examples(rows[mine], [placed.sequences[row] for row in mine], seed)
        names[mine] = [f"{split}.c{number}" for number in numbers]
    return _with_blocks(placed, pl.Series(names.tolist(), dtype=pl.String))


def _with_blocks(placed: Placed, cluster: pl.Series) -> Placed:
    rows = placed.rows.with_columns(cluster_id=cluster)
    block = pl.col("cluster_id")
    if "start" in rows.columns:
        place = (pl.col("start") + pl.col("end")) // 2 // BLOCK_BP * BLOCK_BP
        block = pl.coalesce(pl.format("{}:{}", "chrom", place), block)
    if "group" in rows.columns:
        block = pl.coalesce(pl.col("group"), block)
    rows = rows.with_columns(block_id=block)
    largest = int(rows["cluster_id"].value_counts()["count"].max() or 0)  # type: ignore[arg-type]
    report = {**placed.report, "clusters": rows["cluster_id"].n_unique()}
    if largest > _LARGE_CLUSTER * rows.height:
        report["examples in the largest cluster"] = largest
    return Placed(rows, placed.sequences, report, placed.alternates)


def _anew(placed: Placed, strata: npt.NDArray[np.int64], seed: int) -> Placed:
    cluster = cluster_examples(placed.rows, placed.sequences, seed)
    split = balanced_folds(cluster, FRACTIONS, seed, strata=strata)
    rows = placed.rows.with_columns(split=pl.Series(split.tolist(), dtype=pl.String))
    parted = Placed(rows, placed.sequences, placed.report, placed.alternates)
    return without_leaks(_with_blocks(parted, pl.Series([f"c{number}" for number in cluster])))


def _by_value(placed: Placed, column: str, how: Parting) -> pl.Series:
    """The part of each example by the value of a column; null for values of no part."""
    rows = placed.rows
    if column not in rows.columns or rows[column].null_count():
        raise CislensError(f"a split by {how.by} needs a value in every row.")
    present = rows[column].cast(pl.String).unique(maintain_order=True).to_list()
    for value in (*how.train, *how.valid, *how.test):
        if value not in present:
            raise CislensError(f"no example has {how.by} {value!r}. {nearest(value, present)}")
    parts = dict.fromkeys(how.test, "test") | dict.fromkeys(how.valid, "valid")
    rest = how.train or [value for value in present if value not in parts]
    parts |= dict.fromkeys(rest, "train")
    return rows[column].cast(pl.String).replace_strict(parts, default=None, return_dtype=pl.String)


def _one_part_per_group(placed: Placed) -> Placed:
    if "group" not in placed.rows.columns:
        return placed
    order = pl.col("split").replace_strict({"train": 0, "valid": 1, "test": 2})
    first = placed.rows.select(
        (order == order.min().over("group")) | pl.col("group").is_null()
    ).to_series()
    return placed.keep(first.to_numpy(), "examples whose block is in an earlier split")
