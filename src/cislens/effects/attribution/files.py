"""Attributions of many regions as files: TF-MoDISco's arrays, and a track for a genome browser.

`modisco motifs -s ohe.npz -a shap.npz` of modisco-lite reads the arrays; `modisco seqlet-bed -p
regions.bed` takes a window's middle, index L // 2 of the arrays, for the middle of its row.

Dimensions: n region, L base of its window, 4 channel A, C, G, T.
"""

import logging
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.files import atomic_path, write_atomic
from cislens.genome.chromosomes import match_names
from cislens.genome.intervals import centered, read_intervals, read_rows
from cislens.genome.reference import Genome

logger = logging.getLogger("cislens")

Maps = npt.NDArray[np.float32]
_ROWS_AT_ONCE_BYTES = 1 << 25
_BLOCK = 1 << 16  # bases of a chromosome that are put together at once
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the entries of a zip file, so that its bytes are the same


def read_windows(path: str | os.PathLike[str], genome: Genome, width: int) -> pl.DataFrame:
    """The windows of `width` bp around the regions of a BED or narrowPeak file, in its order.

    A window is centered on the summit, or else on the middle, which lies at index `width // 2`.
    What reaches over a chromosome's end will read as N; how many windows do is in the log.

    Returns:
        `chrom, start, end, name`: under the genome's names, 0-based half-open; start may be
        negative and end beyond the chromosome. Regions without a name are called by their place.

    Raises:
        CislensError: for a file without regions, one on a chromosome that the genome lacks, or
            beyond a chromosome's end, with file and line.
    """
    path = Path(path)
    frame = read_intervals(path)
    sizes = genome.chrom_sizes
    names = match_names(frame["chrom"].unique(maintain_order=True).to_list(), sizes, str(path))
    known = frame["chrom"].is_in(list(names.mapping))
    if not known.all():
        row = int(known.arg_min() or 0)
        raise _at_line(path, row, f"{genome.path} has no chromosome {frame['chrom'][row]!r}")
    frame = names.rename(frame)
    size = frame["chrom"].replace_strict(sizes, return_dtype=pl.Int64)
    beyond = frame["end"] > size
    if beyond.any():
        row = int(beyond.arg_max() or 0)
        place = "{chrom}:{start}-{end}".format(**frame.row(row, named=True))
        raise _at_line(path, row, f"{place} reaches beyond the chromosome, which ends at "
                       f"{size[row]} in {genome.path}")  # fmt: skip
    place_of = pl.format("{}:{}-{}", "chrom", "start", "end")
    given = [pl.col("name")] if "name" in frame.columns else []
    named = frame.with_columns(name=pl.coalesce(*given, place_of))
    named = named.with_columns(
        name=pl.when(pl.col("name").is_in([".", ""])).then(place_of).otherwise("name")
    )
    windows = centered(named, width).select("chrom", "start", "end", "name")
    padded = int(((windows["start"] < 0) | (windows["end"] > size)).sum())
    if padded:
        logger.warning(
            "%s: the windows of %d of %d regions reach over a chromosome's end; they are padded "
            "with N.", path, padded, len(windows),
        )  # fmt: skip
    return windows


def _at_line(path: Path, row: int, what: str) -> CislensError:
    line = read_rows(path, "regions").numbers[row]
    return CislensError(
        f"{path} line {line}: {what}; remove the region or give the genome it belongs to."
    )


def write_array(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    blocks: Iterable[npt.NDArray[Any]],
) -> None:
    """An npz file of one array `arr_0`, as `np.savez_compressed(path, array)` writes it.

    The array comes in blocks of rows and is never whole in memory; the same array gives the same
    bytes however it is cut.

    Raises:
        CislensError: if the blocks are not of this shape together.
    """
    kind = np.dtype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    rows = 0
    with atomic_path(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        entry = zipfile.ZipInfo("arr_0.npy", _EPOCH)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                if block.shape[1:] != shape[1:]:
                    raise CislensError(f"{path}: a block of shape {block.shape} in {shape}.")
                rows += len(block)
                file.write(np.ascontiguousarray(block, kind).tobytes())
        if rows != shape[0]:
            raise CislensError(f"{path}: {rows} rows were given for an array of shape {shape}.")


def write_modisco(
    folder: Path,
    windows: pl.DataFrame,
    hypothetical_n4L: Maps,
    one_hot_n4L: npt.NDArray[Any],
    chrom_sizes: Mapping[str, int],
) -> list[Path]:
    """`ohe.npz`, `shap.npz` and `regions.bed` for TF-MoDISco, row by row the same regions.

    Args:
        windows: `chrom, start, end, name`; see `read_windows`.
        hypothetical_n4L: what each base would contribute at each position; may be a memory map.
        one_hot_n4L: the base that is there; an N is all zeros.
    """
    shape = hypothetical_n4L.shape
    if shape != one_hot_n4L.shape or len(windows) != shape[0]:
        raise CislensError(
            f"attributions of shape {shape}, sequences of shape {one_hot_n4L.shape} and "
            f"{len(windows)} regions do not belong together."
        )
    write_array(folder / "ohe.npz", shape, np.int8, _rows(one_hot_n4L))
    write_array(folder / "shap.npz", shape, np.float32, _rows(hypothetical_n4L))
    write_atomic(folder / "regions.bed", regions_bed(windows, chrom_sizes))
    return [folder / name for name in ("ohe.npz", "shap.npz", "regions.bed")]


def regions_bed(windows: pl.DataFrame, chrom_sizes: Mapping[str, int]) -> str:
    """The windows as BED6. One that reaches over a chromosome's end loses as much on both sides.

    A row's middle, (start + end) // 2, is so always that of the window: base i of a window of L
    bp lies at middle - L // 2 + i.
    """
    size = pl.col("chrom").replace_strict(dict(chrom_sizes), return_dtype=pl.Int64)
    over = pl.max_horizontal(-pl.col("start"), pl.col("end") - size, 0)
    middle = (pl.col("start") + pl.col("end")) // 2
    start = pl.min_horizontal(pl.col("start") + over, middle)
    rows = windows.select(
        "chrom",
        start=start,
        end=pl.max_horizontal(pl.col("end") - over, middle + 1),
        name="name",
        score=pl.lit(0),
        strand=pl.lit("."),
    )
    return rows.write_csv(separator="\t", include_header=False)


def _rows(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    step = max(1, _ROWS_AT_ONCE_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), step):
        yield values[start : start + step]


def contributions(hypothetical_n4L: Maps, one_hot_n4L: npt.NDArray[Any]) -> Maps:
    """What the base at each position contributes, (n, L); 0 at N."""
    found: Maps = np.einsum(
        "ncl,ncl->nl", hypothetical_n4L, one_hot_n4L, dtype=np.float32, casting="unsafe"
    )
    return found


def write_dynseq(
    path: str | os.PathLike[str],
    windows: pl.DataFrame,
    hypothetical_n4L: Maps,
    one_hot_n4L: npt.NDArray[Any],
    chrom_sizes: Mapping[str, int],
) -> None:
    """A bigWig of one value a base, for a browser that scales letters by it (dynseq).

    A base in several windows gets the mean of what each says. Bases that no window covers have no
    value. Memory is that of a stretch of 65,536 bases and the windows over it.

    Raises:
        CislensError: for a window on a chromosome not in `chrom_sizes`, or a value that is not
            finite.
    """
    from figwig import BigWigWriter

    foreign = sorted(set(windows["chrom"]) - set(chrom_sizes))
    if foreign:
        raise CislensError(f"bigWig {path}: chromosome {foreign[0]!r} has no size.")
    order = windows.with_row_index("row").sort("start", "row")
    with atomic_path(path) as aside, BigWigWriter(aside, dict(chrom_sizes), n_jobs=1) as writer:
        for chrom, size in chrom_sizes.items():
            mine = order.filter(pl.col("chrom") == chrom)
            for first, values in _stretches(mine, size, hypothetical_n4L, one_hot_n4L):
                writer.write(chrom, [first], values[None], missing=np.nan)


def _stretches(
    mine: pl.DataFrame, size: int, hypothetical_n4L: Maps, one_hot_n4L: npt.NDArray[Any]
) -> Iterator[tuple[int, Maps]]:
    """Start and mean contribution of each stretch of a chromosome that a window touches.

    Args:
        mine: windows of one width, by start, with the `row` of the arrays.
    """
    starts, rows = mine["start"].to_numpy(), mine["row"].to_numpy()
    width = hypothetical_n4L.shape[2]
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        # Windows are of one width, so that those over a stretch follow each other.
        low, high = np.searchsorted(starts, first - width, "right"), np.searchsorted(starts, last)
        if low == high:
            continue
        total, count = np.zeros(last - first), np.zeros(last - first, np.int64)
        for start, row in zip(starts[low:high].tolist(), rows[low:high].tolist(), strict=True):
            left, right = max(start, first), min(start + width, last)
            inside = slice(left - start, right - start)
            here = slice(left - first, right - first)
            total[here] += contributions(
                hypothetical_n4L[row : row + 1, :, inside], one_hot_n4L[row : row + 1, :, inside]
            )[0]
            count[here] += 1
        covered = count > 0
        values = np.full(last - first, np.nan, np.float32)
        values[covered] = total[covered] / count[covered]
        if not np.isfinite(values[covered]).all():
            raise CislensError(f"an attribution near {mine['chrom'][0]}:{first} is not finite.")
        yield first, values
