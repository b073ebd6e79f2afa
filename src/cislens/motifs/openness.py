"""In which regions a cell type is open, and how accessible they are.

Dimensions: R region.
"""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.genome.reference import Genome
from cislens.motifs.cells import CellPeaks
from cislens.motifs.windows import Bools, Floats, Ints, flat
from cislens.signal.bigwig import read_windows, summarize
from cislens.signal.inputs import chromosome_names
from cislens.signal.tracks import Track

logger = logging.getLogger("cislens")

# Chance that a region of a cell type without peaks has as many cut sites as it takes to be open,
# were the sites thrown on the genome at random.
_CHANCE = 1e-5
_WINDOWS = 4096  # windows of a bigWig held at a time


def openness(
    cell: CellPeaks,
    signal: Path | None,
    regions: pl.DataFrame,
    genome: Genome,
    exclude: Collection[str] = (),
) -> tuple[Bools, Floats]:
    """Whether each region is open in a cell type (R,), and its accessibility (R,), at least 0.

    A region is open if a peak overlaps it; in a cell type of fragments alone, if it has more cut
    sites than a Poisson law of their mean density allows (p < 1e-5). Accessibility is the mean of
    the bigWig `signal` (bases that it leaves out are 0), else the number of cut sites, else the
    largest score of the peaks over the region, 0 without any.

    Args:
        regions: `chrom`, `start`, `end`, all of one width, sorted along the genome.
        exclude: chromosomes without regions, which the mean density leaves out.
    """
    region, peak = overlapping(regions, cell.peaks, genome)
    opened = np.zeros(regions.height, bool)
    opened[region] = True
    access = np.zeros(regions.height)
    np.maximum.at(access, region, cell.peaks["score"].to_numpy()[peak])
    if cell.cuts is not None:
        inside = _cuts_inside(regions, cell.cuts, genome)
        access = inside.astype(np.float64)
        if cell.peaks.is_empty():
            opened = _crowded(inside, cell.cuts.height, regions, genome, exclude)
    if signal is not None:
        access = _signal_mean(cell.cell, signal, regions, genome)
    return opened, access


def overlapping(
    regions: pl.DataFrame, intervals: pl.DataFrame, genome: Genome
) -> tuple[Ints, Ints]:
    """All pairs (row of a region, row of an interval) that share a base.

    The regions have one width and are sorted along the genome; the intervals need neither.
    """
    first = np.searchsorted(flat(regions, "end", genome), flat(intervals, "start", genome), "right")
    last = np.searchsorted(flat(regions, "start", genome), flat(intervals, "end", genome), "left")
    count = np.maximum(last - first, 0)
    interval = np.repeat(np.arange(intervals.height), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return first[interval] + within, interval


def _cuts_inside(regions: pl.DataFrame, cuts: pl.DataFrame, genome: Genome) -> Ints:
    places = flat(cuts, "position", genome)
    left = np.searchsorted(places, flat(regions, "start", genome), "left")
    right = np.searchsorted(places, flat(regions, "end", genome), "left")
    return right - left


def _crowded(
    cuts_R: Ints, total: int, regions: pl.DataFrame, genome: Genome, exclude: Collection[str]
) -> Bools:
    from scipy.stats import poisson

    width = int((regions["end"] - regions["start"])[0])
    mean = total * width / sum(n for name, n in genome.chrom_sizes.items() if name not in exclude)
    return np.asarray(poisson.sf(cuts_R - 1, mean) < _CHANCE)


def _signal_mean(cell: str, path: Path, regions: pl.DataFrame, genome: Genome) -> Floats:
    track = Track(id=cell, file=str(path), species="")
    names, _ = chromosome_names(track, summarize(path), genome)
    absent = regions.filter(~pl.col("chrom").is_in(list(names)))
    if absent.height:
        logger.warning(
            "%s names no %s: the accessibility of %d regions there is 0 in %s",
            path, ", ".join(absent["chrom"].unique(maintain_order=True)), absent.height, cell,
        )  # fmt: skip
    chroms = regions["chrom"].replace(names).to_numpy()
    starts = regions["start"].to_numpy()
    width = int((regions["end"] - regions["start"])[0])
    means = np.zeros(regions.height)
    for begin in range(0, regions.height, _WINDOWS):
        rows = slice(begin, begin + _WINDOWS)
        values = read_windows(path, chroms[rows], starts[rows], width, missing=0.0)
        means[rows] = values.mean(axis=1, dtype=np.float64)
    below = int((means < 0).sum())
    if below:
        raise CislensError(
            f"the signal {path} of cell type {cell!r} is below 0 on the mean of {below:,} regions; "
            "accessibility is a count or a density from 0 on, so give such a track."
        )
    return means
