"""Which bins of a genome are predicted, and the windows whose central bins they are.

Bins lie on a grid that starts at base 0 of each chromosome, and so do the windows: window t of a
chromosome serves its bins t * central to (t + 1) * central. The value of a bin is therefore a
function of the model and the genome alone.

Nothing here grows with the number of bins but arrays of one number a window.

Dimensions: R bin (row of the prediction), W window, K run of bins that join.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.genome.chromosomes import match_names
from cislens.genome.intervals import read_intervals, read_rows
from cislens.genome.reference import Genome

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """Regions of a genome and where each was written.

    Attributes:
        frame: `chrom, start, end`, 0-based half-open, names as the genome has them.
        places: how messages call each row.
    """

    frame: pl.DataFrame
    places: list[str]

    def require_inside(self, genome: Genome) -> None:
        """Refuse what is not inside its chromosome.

        Raises:
            CislensError: naming the first such region, for an unknown chromosome, start >= end
                or a position outside.
        """
        rows = self.frame.select("chrom", "start", "end").rows()
        for place, (chrom, start, end) in zip(self.places, rows, strict=True):
            size = genome.size(chrom)
            if not 0 <= start < end <= size:
                raise CislensError(
                    f"{place}, {chrom}:{start}-{end}: expected 0 <= start < end <= {size}, "
                    f"the length of {chrom} in {genome.path}."
                )

    def narrower(self, bin_size: int) -> tuple[int, str]:
        """How many regions are shorter than a bin, and how the first of them is called."""
        short = (self.frame["end"] - self.frame["start"] < bin_size).arg_true()
        return len(short), self.places[short[0]] if len(short) else ""


def whole_genome(genome: Genome) -> Regions:
    """Every chromosome."""
    sizes = genome.chrom_sizes
    frame = pl.DataFrame({"chrom": list(sizes), "start": 0, "end": list(sizes.values())})
    return Regions(frame, list(sizes))


def read_regions(path: str | os.PathLike[str], genome: Genome) -> Regions:
    """The intervals of a BED file under the genome's names, each known by its line.

    Raises:
        CislensError: as `read_intervals`, and naming file and line for a chromosome that the
            genome does not have or a region beyond its chromosome.
    """
    path = Path(path)
    frame = read_intervals(path)
    numbers = read_rows(path, "interval file").numbers[-frame.height :]
    places = [f"{path} line {number}" for number in numbers]
    names = match_names(frame["chrom"].unique().to_list(), list(genome.chrom_sizes), str(path))
    unmatched = (~frame["chrom"].is_in(list(names.mapping))).arg_true()
    if len(unmatched):
        raise CislensError(
            f"{places[unmatched[0]]}: chromosome {frame['chrom'][unmatched[0]]!r} is not in "
            f"{genome.path}; remove its intervals or give the genome they belong to."
        )
    regions = Regions(frame.with_columns(pl.col("chrom").replace(names.mapping)), places)
    regions.require_inside(genome)
    return regions


def as_regions(
    regions: "Regions | pl.DataFrame | str | os.PathLike[str] | None", genome: Genome
) -> Regions:
    """Regions from a table, a BED file, or the whole genome where there is neither.

    Raises:
        CislensError: for a table without the columns or with other values than names and whole
            numbers, or a region that is empty or not inside a chromosome of the genome.
    """
    if regions is None:
        return whole_genome(genome)
    if isinstance(regions, str | os.PathLike):
        return read_regions(regions, genome)
    if isinstance(regions, pl.DataFrame):
        places = [f"region {number}" for number in range(1, regions.height + 1)]
        regions = Regions(_typed(regions, places), places)
    regions.require_inside(genome)
    return regions


def _typed(frame: pl.DataFrame, places: list[str]) -> pl.DataFrame:
    for name in ("chrom", "start", "end"):
        if name not in frame.columns:
            raise CislensError(
                f"the table of regions has no column {name!r}; it has {', '.join(frame.columns)}."
            )
        lost = frame[name].is_null().arg_true()
        if len(lost):
            raise CislensError(f"{places[lost[0]]} has no {name}; give it one or remove it.")
        kind = frame.schema[name]
        if frame.height and name != "chrom" and not kind.is_integer():
            raise CislensError(
                f"column {name!r} of the table of regions is {kind}, expected whole numbers."
            )
    return frame.with_columns(
        pl.col("chrom").cast(pl.String), pl.col("start", "end").cast(pl.Int64)
    )


@dataclass(frozen=True)
class Tiling:
    """Bins to predict, in genome order, each once, and the windows that hold them.

    Attributes:
        chrom_sizes: of the genome.
        bin_size: bp. length: bp of a window. trim: bins at either end of it that are not used.
        chroms: names; the other arrays hold places in it.
        run_K, first_K, stop_K, row_K: chromosome, bins and first row of each run of bins.
        chrom_W, tile_W: chromosome and number of each window.
        row_W: first row of each window, and the number of all rows, (W + 1,).
    """

    chrom_sizes: Mapping[str, int]
    bin_size: int
    length: int
    trim: int
    chroms: tuple[str, ...]
    run_K: Integers
    first_K: Integers
    stop_K: Integers
    row_K: Integers
    chrom_W: Integers
    tile_W: Integers
    row_W: Integers

    @property
    def central(self) -> int:
        """Bins that a window serves."""
        return self.length // self.bin_size - 2 * self.trim

    @property
    def windows(self) -> int:
        return len(self.tile_W)

    @property
    def rows(self) -> int:
        """Bins that are predicted."""
        return int(self.row_W[-1])

    def starts(self) -> Integers:
        """(W,) first base of each window; below 0 where it reaches over the chromosome's start."""
        starts_W: Integers = (self.tile_W * self.central - self.trim) * self.bin_size
        return starts_W

    @property
    def padded(self) -> int:
        """Windows that reach over an end of their chromosome, where they hold N."""
        sizes = np.array([self.chrom_sizes[name] for name in self.chroms], np.int64)
        starts_W = self.starts()
        over = (starts_W < 0) | (starts_W + self.length > sizes[self.chrom_W])
        return int(over.sum())

    def names(self, windows: slice) -> list[str]:
        """Chromosome of each of some windows."""
        return [self.chroms[place] for place in self.chrom_W[windows]]

    def bins(self, first: int, stop: int) -> pl.DataFrame:
        """`chrom, start, end` of the rows first to stop.

        The last bin of a chromosome ends where the chromosome does.
        """
        chrom_R, bin_R = self._bins(first, stop)
        sizes = np.array([self.chrom_sizes[name] for name in self.chroms], np.int64)
        start_R = bin_R * self.bin_size
        end_R = np.minimum(start_R + self.bin_size, sizes[chrom_R] if len(chrom_R) else 0)
        names = pl.Series(self.chroms, dtype=pl.String)
        return pl.DataFrame({"chrom": names.gather(chrom_R), "start": start_R, "end": end_R})

    def places(self, windows: slice) -> tuple[Integers, Integers]:
        """Window (counted from the first of `windows`) and bin in it, of each of their rows."""
        first, stop = windows.start, windows.stop
        counts = np.diff(self.row_W[first : stop + 1])
        window_R = np.repeat(np.arange(stop - first), counts)
        _, bin_R = self._bins(int(self.row_W[first]), int(self.row_W[stop]))
        return window_R, bin_R - self.tile_W[first + window_R] * self.central

    def _bins(self, first: int, stop: int) -> tuple[Integers, Integers]:
        """Chromosome and bin of the rows first to stop."""
        row_R = np.arange(first, stop)
        run_R = np.searchsorted(self.row_K, row_R, side="right") - 1
        bin_R = self.first_K[run_R] + row_R - self.row_K[run_R]
        return self.run_K[run_R], bin_R


def tile_regions(
    genome: Genome, regions: pl.DataFrame, *, bin_size: int, length: int, trim: int
) -> Tiling:
    """The bins that regions touch, and the windows that predict them.

    Args:
        regions: `chrom, start, end` inside their chromosomes; they may overlap.
        length: bp of a window, a multiple of bin_size.
        trim: bins at either end of a window that are not used.

    Raises:
        CislensError: if no bin is left of a window.
    """
    central = length // bin_size - 2 * trim
    if length % bin_size or central < 1:
        raise CislensError(
            f"length {length} must be a multiple of the model's bin_size {bin_size} and longer "
            f"than the {2 * trim} bins that are trimmed; give the length that the model was "
            "trained on, or trim less."
        )
    chroms = tuple(genome.chrom_sizes)
    run_K, first_K, stop_K = _runs(regions, chroms, bin_size)
    # A run's part in one window; parts of several runs may be in the same window.
    tiles_K = (stop_K - 1) // central - first_K // central + 1
    run_P = np.repeat(np.arange(len(run_K)), tiles_K)
    inside_P = np.arange(len(run_P)) - np.repeat(np.cumsum(tiles_K) - tiles_K, tiles_K)
    tile_P = first_K[run_P] // central + inside_P
    low_P = np.maximum(first_K[run_P], tile_P * central)
    count_P = np.minimum(stop_K[run_P], (tile_P + 1) * central) - low_P
    new_P = np.ones(len(run_P), bool)
    new_P[1:] = (np.diff(tile_P) != 0) | (np.diff(run_K[run_P]) != 0)
    row_P = np.cumsum(count_P) - count_P
    return Tiling(
        genome.chrom_sizes, bin_size, length, trim, chroms, run_K, first_K, stop_K,
        np.cumsum(stop_K - first_K) - (stop_K - first_K), run_K[run_P][new_P], tile_P[new_P],
        np.append(row_P[new_P], count_P.sum()),
    )  # fmt: skip


def _runs(
    regions: pl.DataFrame, chroms: tuple[str, ...], bin_size: int
) -> tuple[Integers, Integers, Integers]:
    """Chromosome, first bin and end of the runs of bins that regions touch, in genome order."""
    order = {chrom: rank for rank, chrom in enumerate(chroms)}
    touched = (
        regions.select(
            chrom=pl.col("chrom").replace_strict(order, return_dtype=pl.Int64),
            first=pl.col("start").cast(pl.Int64) // bin_size,
            stop=(pl.col("end").cast(pl.Int64) - 1) // bin_size + 1,
        )
        .sort("chrom", "first")
        .with_columns(reach=pl.col("stop").cum_max().over("chrom"))
    )
    before = pl.col("reach").shift().over("chrom")
    opens = (before.is_null() | (pl.col("first") > before)).cum_sum()
    runs = touched.group_by(opens.alias("run"), maintain_order=True).agg(
        pl.col("chrom").first(), pl.col("first").first(), pl.col("stop").max()
    )
    return runs["chrom"].to_numpy(), runs["first"].to_numpy(), runs["stop"].to_numpy()
