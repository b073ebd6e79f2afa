"""Predicted tracks over regions as an annotated table: a row per track, a column per region.

That is how scATAC-seq tools lay out cells and peaks, so that what a model predicts for biosamples
lies beside what was measured in cells.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import read_json, require_file, undamaged
from cislens.genome.intervals import read_intervals
from cislens.progress import track
from cislens.representations.h5ad import Annotated, Block, Matrix
from cislens.signal.bigwig import open_bigwig, read_windows
from cislens.untrusted import inside

_BASES = 1 << 24  # that are held at once


def predicted_regions(folder: Path, regions: Path) -> Annotated:
    """X is the mean predicted signal per base of a region; the layer `spread` that of ensembles.

    Args:
        folder: of `cislens predict`, with bigWigs.
        regions: BED or narrowPeak; where nothing was predicted the mean is NaN.

    Raises:
        CislensError: if the folder is not finished or has no bigWigs, or a region lies on a
            chromosome that its genome does not have, or beyond its end.
    """
    with undamaged("folder of predictions", folder):
        return _table(folder, regions)


def _table(folder: Path, regions: Path) -> Annotated:
    manifest = read_json(
        require_file(folder / "manifest.json", "manifest of the predictions"), "manifest"
    )
    tracks = pl.read_csv(folder / "tracks.tsv", separator="\t", quote_char=None, infer_schema=False)
    if "file" not in tracks.columns:
        raise CislensError(
            f"{folder} holds no bigWigs; run the same `cislens predict` with --format bigwig."
        )
    names = tracks["file"].to_list()
    spread = [f"{name.removesuffix('.bw')}.spread.bw" for name in names]
    there = set(manifest["files"])
    # Peaks with several summits are listed once for each.
    intervals = read_intervals(regions).unique(
        ["chrom", "start", "end"], keep="first", maintain_order=True
    )
    known = open_bigwig(inside(folder, names[0], folder / "tracks.tsv")).chrom_sizes
    for chrom in intervals["chrom"].unique(maintain_order=True):
        if chrom not in known:
            raise CislensError(f"{regions} has regions on {chrom!r}. {nearest(chrom, known)}")
    ends = intervals["chrom"].replace_strict(known, return_dtype=pl.Int64)
    beyond = intervals.filter(intervals["end"] > ends)
    if beyond.height:
        chrom, start, end = beyond.select("chrom", "start", "end").row(0)
        raise CislensError(
            f"{regions} has {beyond.height} regions beyond the end of their chromosome, the first "
            f"{chrom}:{start}-{end} ({chrom} has {known[chrom]:,} bases); take those of its genome."
        )
    layers = {}
    if set(spread) <= there:
        layers["spread"] = _means(folder, spread, intervals)
    uns = {
        "genome": manifest["genome"], "species": manifest["settings"]["species"],
        "bin_size": manifest["bin_size"], "unit": "mean predicted signal per base",
    }  # fmt: skip
    obs = tracks.select(name for name in tracks.columns if not tracks[name].is_null().all())
    return Annotated(obs, _named(intervals), _means(folder, names, intervals), layers, {}, {}, uns)


def _means(folder: Path, files: list[str], intervals: pl.DataFrame) -> Matrix:
    def blocks() -> Iterator[Block]:
        for name in track(files, "average tracks over regions"):
            yield region_means(inside(folder, name, folder / "tracks.tsv"), intervals)[None]

    return Matrix(intervals.height, blocks)


def region_means(path: Path, intervals: pl.DataFrame) -> Block:
    """Mean of a bigWig's values over the bases of each interval (n,); NaN where it has none."""
    reader = open_bigwig(path)
    chroms, starts = intervals["chrom"].to_numpy(), intervals["start"].to_numpy()
    width_n = (intervals["end"] - intervals["start"]).to_numpy()
    found = np.empty(len(starts), np.float32)
    for width in np.unique(width_n):
        at = np.flatnonzero(width_n == width)
        for rows in np.array_split(at, -(-len(at) * int(width) // _BASES)):
            values = read_windows(reader, chroms[rows], starts[rows], int(width))
            count = np.isfinite(values).sum(1)
            total = np.nansum(values, axis=1, dtype=np.float64)
            found[rows] = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return found


def _named(intervals: pl.DataFrame) -> pl.DataFrame:
    """Regions as `chrom:start-end` (0-based half-open)."""
    name = pl.format("{}:{}-{}", "chrom", "start", "end").alias("region")
    about = [each for each in ("chrom", "start", "end", "name") if each in intervals.columns]
    return intervals.select(name, *about)
