"""One list of regions for all cell types, and in which of them each region is open.

Dimensions: R region, C cell type.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome
from cislens.motifs.cells import (
    MILLION,
    CellPeaks,
    in_order,
    nothing_left,
    on_genome,
    read_cell,
)
from cislens.motifs.counts import CountTable, place_key, read_counts
from cislens.motifs.fragments import require_inside
from cislens.motifs.openness import openness
from cislens.motifs.windows import Bools, Floats, Ints, WindowRules
from cislens.progress import track
from cislens.recipes.regions import RegionRecipe
from cislens.signal.blacklist import read_blacklist

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Consensus:
    """Regions of one width, and what each cell type shows there.

    Attributes:
        regions: `region_id` (`assembly:chrom:start-end`, 0-based half-open), `chrom`, `start`,
            `end` and `score`: of a window around a peak the peak's rank in its cell type (1 is
            the best), of a fixed region the largest accessibility in any cell type, in parts of
            a million over the regions. Sorted by the genome's chromosomes, then start.
        open_RC: whether the region is open in the cell type.
        access_RC: counts or scores, at least 0, not normalized.
        cells: names of the cell types.
        report: numbers of rows and windows read, left out and kept.
    """

    regions: pl.DataFrame
    open_RC: Bools
    access_RC: Floats
    cells: tuple[str, ...]
    report: dict[str, Any]


def build_consensus(recipe: RegionRecipe, genome: Genome) -> Consensus:
    """Read the recipe's cell types and choose its regions.

    Windows of `width` bp lie around the peaks' centers. Within a cell type the best scores come
    first (ties: by place), and a window that overlaps one already kept goes. What is left is
    ranked within its cell type, and the cell types are merged by the same rule on the ranks
    (iterative overlap removal, after Corces et al., Science 2018). With `regions` the windows
    around those are taken instead, overlapping or not. Windows over a chromosome's end, on the
    blacklist (with 20 bp at either side), with more than 5 % N or on excluded chromosomes are
    left out before any choice. The order of the rows of a file makes no difference.

    Raises:
        CislensError: as the readers of the files; for an excluded chromosome that the genome does
            not have, a cell type in both `cells` and `counts`, one with no peak left or open in no
            region, or if nothing says where the regions are.
    """
    _know(recipe.split.exclude, genome)
    exclude = recipe.split.exclude
    cells = [
        read_cell(name, section, genome, exclude)
        for name, section in track(recipe.cells.items(), "cell types", len(recipe.cells))
    ]
    assembly = recipe.assembly or genome.name
    table = None
    if recipe.counts is not None:
        table = read_counts(
            recipe.counts, genome, log_counts=recipe.log_counts, assembly=assembly,
            exclude=exclude, cells=list(recipe.cells),
        )  # fmt: skip
        cells += table.peaks(genome)
    report: dict[str, Any] = {"cells": {cell.cell: cell.report for cell in cells}}
    blacklist = read_blacklist(recipe.blacklist, genome) if recipe.blacklist else None
    rules = WindowRules(genome, recipe.width, blacklist)
    if recipe.regions is None:
        regions = _merged(cells, rules)
    else:
        regions, report["regions_file"] = _fixed(recipe, rules, table)
    open_RC, access_RC = _measured(recipe, genome, regions, cells, table)
    if recipe.regions is not None:
        regions = regions.with_columns(score=_best_share(access_RC))
    kept = _best(regions["score"].to_numpy(), recipe.max_regions)
    report |= {"beyond_max_regions": regions.height - len(kept), "regions": len(kept)}
    names = tuple(cell.cell for cell in cells)
    _require_open(names, open_RC[kept])
    logger.info("%d regions of %d cell types", len(kept), len(names))
    return Consensus(
        _with_ids(regions[kept], assembly), open_RC[kept], access_RC[kept],
        names, report,
    )  # fmt: skip


def _know(exclude: Sequence[str], genome: Genome) -> None:
    for chrom in exclude:
        if chrom not in genome.chrom_sizes:
            raise CislensError(
                f"`exclude` names {chrom!r}, which {genome.path} does not have. "
                f"{nearest(chrom, genome.chrom_sizes)}"
            )


def _merged(cells: Sequence[CellPeaks], rules: WindowRules) -> pl.DataFrame:
    kept = []
    for cell in cells:
        if cell.peaks.is_empty():
            continue
        windows = rules.windows(cell.peaks, cell.report)
        if windows.is_empty():
            raise nothing_left(cell.cell, cell.report)
        windows = rules.apart(windows)
        cell.report["windows"] = windows.height
        kept.append(windows.with_columns(score=pl.col("score").rank() / windows.height))
    if not kept:
        raise CislensError(
            f"nothing says where the regions are: {', '.join(cell.cell for cell in cells)} have "
            "fragments but no peaks. Give `peaks` of a cell type, or a BED file of `regions`."
        )
    return rules.apart(pl.concat(kept))


def _fixed(
    recipe: RegionRecipe, rules: WindowRules, table: CountTable | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Windows around the regions of the recipe's file, each with the `key` of its row there."""
    report: dict[str, int] = {}
    found = read_intervals(recipe.regions or "").with_row_index("row", offset=1)
    exclude = recipe.split.exclude
    found = on_genome(found, rules.genome, str(recipe.regions), exclude, report)
    require_inside(found, rules.genome, str(recipe.regions), "region")
    center = (pl.col("start") + pl.col("end")) // 2
    if "summit" in found.columns:
        center = pl.coalesce(pl.col("summit"), center)
    found = found.with_columns(place_key(), center=center)
    if table is not None:
        table.require_same(found["key"], str(recipe.regions))
    found = in_order(found, rules.genome, "start", "end")
    windows = rules.windows(found, report)
    distinct = windows.unique(["chrom", "start"], keep="first", maintain_order=True)
    report |= {"duplicates": windows.height - distinct.height, "windows": distinct.height}
    if distinct.is_empty():
        raise CislensError(f"no region of {recipe.regions} is left: {report}.")
    return in_order(distinct.select("chrom", "start", "end", "key"), rules.genome, "start"), report


def _measured(
    recipe: RegionRecipe,
    genome: Genome,
    regions: pl.DataFrame,
    cells: Sequence[CellPeaks],
    table: CountTable | None,
) -> tuple[Bools, Floats]:
    open_RC = np.zeros((regions.height, len(cells)), bool)
    access_RC = np.zeros((regions.height, len(cells)))
    for column, cell in enumerate(cells):
        if cell.cell in recipe.cells:
            signal = recipe.cells[cell.cell].signal
            open_RC[:, column], access_RC[:, column] = openness(
                cell, signal, regions, genome, recipe.split.exclude
            )
    if table is not None:
        access_RC[:, len(recipe.cells) :] = table.counts(regions, genome)
        open_RC[:, len(recipe.cells) :] = access_RC[:, len(recipe.cells) :] > 0
    return open_RC, access_RC


def _best_share(access_RC: Floats) -> Floats:
    total_C = access_RC.sum(axis=0)
    share_RC: Floats = access_RC / np.where(total_C > 0, total_C, 1.0) * MILLION
    return np.asarray(share_RC.max(axis=1))


def _best(scores: Floats, limit: int | None) -> Ints:
    """Rows of the best scores, of equal ones the first; in the order of the rows."""
    return np.sort(np.argsort(-scores, kind="stable")[:limit])


def _require_open(names: Sequence[str], open_RC: Bools) -> None:
    closed = [name for name, count in zip(names, open_RC.sum(axis=0), strict=True) if not count]
    if closed:
        raise CislensError(
            f"cell type {closed[0]!r} is open in none of the {len(open_RC):,} regions "
            f"({len(closed)} cell types are so); check that its files are of this genome, allow "
            "more regions, or leave it out."
        )


def _with_ids(regions: pl.DataFrame, assembly: str) -> pl.DataFrame:
    return regions.select(
        pl.format("{}:{}:{}-{}", pl.lit(assembly), "chrom", "start", "end").alias("region_id"),
        "chrom", "start", "end", "score",
    )  # fmt: skip
