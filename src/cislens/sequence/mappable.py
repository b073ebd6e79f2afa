"""Where windows may begin: wholly in one part, with few enough N and repeats.

Dimensions: L base pair, R run of starts.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.genome.codes import N
from cislens.genome.intervals import Spans
from cislens.genome.reference import Genome

Bools = npt.NDArray[np.bool_]

SCHEMA = {
    "chrom": pl.String, "first": pl.Int64, "last": pl.Int64, "split": pl.String, "block": pl.Int64,
}  # fmt: skip
_PIECE = 1 << 22  # starts looked at together


@dataclass(frozen=True)
class Limits:
    """What a window may hold; see `recipes.sequence.SequenceRecipe`.

    Attributes:
        avoided: by chromosome, what no window may touch.
    """

    window: int
    most_n: float
    most_repeats: float
    avoided: Mapping[str, Spans]


def valid_starts(genome: Genome, tiles: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Runs `chrom, first, last, split, block` of 0-based starts [first, last) of valid windows.

    Args:
        tiles: `chrom, start, end, split, block` in genomic order, not overlapping. Tiles that
            join and lie in one part are one stretch; a run ends where the block of a window's
            first base does.
    """
    rows: list[tuple[str, int, int, str, int]] = []
    for chrom, first, last, split, block in _candidates(tiles, limits.window).iter_rows():
        for begin, end in _runs(genome, chrom, first, last, limits):
            if rows and rows[-1][2] == begin and rows[-1][0::3] == (chrom, split):
                before = rows[-1]
                if before[4] == block:
                    rows[-1] = (chrom, before[1], end, split, block)
                    continue
            rows.append((chrom, begin, end, split, block))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _candidates(tiles: pl.DataFrame, window: int) -> pl.DataFrame:
    """Starts of windows that lie wholly in one part, by block."""
    joined = (pl.col("start") == pl.col("end").shift(1)) & (
        pl.struct("chrom", "split") == pl.struct("chrom", "split").shift(1)
    )
    stretch = (~joined.fill_null(value=False)).cum_sum()
    runs = (
        tiles.with_columns(stretch=stretch)
        .with_columns(reach=pl.col("end").max().over("stretch"))
        .with_columns(run=pl.struct("stretch", "block").rle_id())
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("chrom").first(), first=pl.col("start").min(), end=pl.col("end").max(),
            reach=pl.col("reach").first(), split=pl.col("split").first(),
            block=pl.col("block").first(),
        )
    )  # fmt: skip
    last = pl.min_horizontal("end", pl.col("reach") - window + 1)
    runs = runs.with_columns(last=last).filter(pl.col("first") < pl.col("last"))
    return runs.select(*SCHEMA)


def _runs(
    genome: Genome, chrom: str, first: int, last: int, limits: Limits
) -> Iterator[tuple[int, int]]:
    for left in range(first, last, _PIECE):
        right = min(left + _PIECE, last)
        valid = _valid(genome, chrom, left, right, limits)
        edges = np.flatnonzero(np.diff(valid, prepend=False, append=False))
        yield from zip((edges[::2] + left).tolist(), (edges[1::2] + left).tolist(), strict=True)


def _valid(genome: Genome, chrom: str, left: int, right: int, limits: Limits) -> Bools:
    """Which of the windows that start in [left, right) may be read."""
    end = right + limits.window - 1
    valid = np.ones(right - left, bool)
    uncalled_L = genome.fetch(chrom, left, end) == N
    valid &= _few(uncalled_L, limits.window, limits.most_n)
    if limits.most_repeats < 1:
        repeat_L = genome.soft_mask(chrom, left, end)
        valid &= _few(repeat_L, limits.window, limits.most_repeats)
    spans = limits.avoided.get(chrom)
    if spans is not None:
        starts = np.arange(left, right)
        valid &= ~spans.overlap(starts, starts + limits.window)
    return valid


def _few(marked_L: Bools, window: int, most: float) -> Bools:
    """Whether each window has at most a share of marked bases."""
    if not marked_L.any():
        return np.ones(len(marked_L) - window + 1, bool)
    total = np.append(0, np.cumsum(marked_L, dtype=np.int32))
    few: Bools = total[window:] - total[:-window] <= math.floor(most * window + 1e-9)
    return few
