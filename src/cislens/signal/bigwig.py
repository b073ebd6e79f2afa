"""bigWig files in and out."""

import os
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.files import atomic_path, require_file

if TYPE_CHECKING:  # importing figwig loads numba, about 0.2 s
    from figwig import BigWigReader

_MAGIC = 0x888FFC26
_ZOOM = struct.Struct("<IIQQ")
_SUMMARY = struct.Struct("<Qdddd")
_ZOOM_INDEX_MAGIC = 0x2468ACE0


@dataclass(frozen=True)
class BigWigSummary:
    """What a bigWig's header says of its content.

    Attributes:
        chrom_sizes: length of each chromosome the file knows.
        covered: bases that have a value.
        minimum, maximum, total: of the values, over covered bases.
    """

    chrom_sizes: dict[str, int]
    covered: int
    minimum: float
    maximum: float
    total: float

    @property
    def leaves_zeros_out(self) -> bool:
        """Whether no base has the value 0, so that an uncovered base is one that counted 0."""
        return self.minimum > 0 or self.maximum < 0


def open_bigwig(path: str | os.PathLike[str]) -> "BigWigReader":
    """A reader whose `read` serves many windows at once; picklable and thread-safe.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is not a bigWig, or the file ends before its data or indexes do.
    """
    from figwig import BigWigReader

    path = require_file(path, "bigWig")
    try:
        reader = BigWigReader(path)
        _check_whole(path)
        # The public way to make the reader load its index, which checks every block's place.
        reader.read(next(iter(reader.chrom_sizes)), [0], 1)
    except StopIteration:
        raise CislensError(f"bigWig {path} names no chromosome; write it again.") from None
    except (ValueError, OSError, struct.error) as error:
        raise CislensError(
            f"bigWig {path} cannot be read: {error} It may be truncated or another format; "
            "fetch or write it again."
        ) from error
    return reader


def summarize(path: str | os.PathLike[str]) -> BigWigSummary:
    """Check a bigWig as `open_bigwig` does, and read its header's summary."""
    reader = open_bigwig(path)
    with Path(path).open("rb") as handle:
        offset = struct.unpack_from("<Q", handle.read(64), 44)[0]
        handle.seek(offset)
        # Version 1 files have no summary: nothing is known, so zeros are taken as measured.
        covered, low, high, total = 0, 0.0, 0.0, 0.0
        if offset:
            covered, low, high, total, _ = _SUMMARY.unpack(handle.read(_SUMMARY.size))
    return BigWigSummary(dict(reader.chrom_sizes), covered, low, high, total)


def read_windows(
    source: "str | os.PathLike[str] | BigWigReader",
    chroms: str | list[str] | npt.NDArray[Any],
    starts: Sequence[int] | npt.NDArray[np.int64],
    width: int,
    *,
    missing: float = np.nan,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Per-base values of many windows of one width, (n, width) float32.

    Coordinates are 0-based; a window may begin before its chromosome or reach beyond it. Bases
    that the file does not cover are `missing`, and so are bases outside the chromosome and
    chromosomes that the file does not hold (writers leave out those without data).

    Raises:
        CislensError: if the file cannot be read.
    """
    reader = open_bigwig(source) if isinstance(source, str | os.PathLike) else source
    starts = np.asarray(starts, dtype=np.int64)
    if starts.min(initial=0) < 0:  # figwig knows no negative start
        return _read_before_zero(reader, chroms, starts, width, missing, threads)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* windows are on chromosomes not in")
            values: npt.NDArray[np.float32] = reader.read(
                chroms, starts, width, n_jobs=threads, missing=missing
            )
    except (ValueError, OSError) as error:
        raise CislensError(f"bigWig {reader.path} cannot be read: {error}") from error
    shortest = min(reader.chrom_sizes.values(), default=0)
    if not np.isnan(missing) and starts.max(initial=0) + width > shortest:
        values[np.isnan(values)] = missing  # figwig's mark of bases outside the chromosome
    return values


def _read_before_zero(
    reader: "BigWigReader",
    chroms: str | list[str] | npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    width: int,
    missing: float,
    threads: int,
) -> npt.NDArray[np.float32]:
    values = read_windows(
        reader, chroms, np.maximum(starts, 0), width, missing=missing, threads=threads
    )
    for row in np.flatnonzero(starts < 0):
        outside = min(int(-starts[row]), width)
        values[row, outside:] = values[row, : width - outside].copy()
        values[row, :outside] = missing
    return values


def write_bigwig(
    path: str | os.PathLike[str],
    chrom_sizes: Mapping[str, int],
    chroms: str | list[str] | npt.NDArray[Any],
    starts: Sequence[int] | npt.NDArray[np.int64],
    ends: Sequence[int] | npt.NDArray[np.int64],
    values: npt.NDArray[np.floating[Any]],
) -> None:
    """Write intervals with one value each, (n,), 0-based half-open, in any order.

    Intervals must not overlap; one whose value is NaN is left out, zeros are written. The same
    input gives the same bytes, and `path` is written whole or not at all.

    Raises:
        CislensError: for a chromosome not in `chrom_sizes`, an interval beyond its end, an
            overlap or an infinite value.
    """
    from figwig import BigWigWriter

    with atomic_path(path) as aside:
        try:
            with BigWigWriter(aside, dict(chrom_sizes), n_jobs=1) as writer:
                writer.write(chroms, starts, values, ends=ends, missing=np.nan)
        except ValueError as error:
            raise CislensError(f"bigWig {path} cannot be written: {error}") from error


def _check_whole(path: Path) -> None:
    """Raise ValueError if a zoom level lies beyond the end of the file.

    Zoom levels are written last, so a file cut there has its data but ends too early.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        header = handle.read(64)
        zooms = struct.unpack_from("<H", header, 6)[0]
        table = handle.read(zooms * _ZOOM.size)
        if len(table) != zooms * _ZOOM.size:
            raise ValueError("the file ends inside its header.")
        for _, _, data, index in _ZOOM.iter_unpack(table):
            handle.seek(index)
            magic = handle.read(4)
            if data >= size or len(magic) < 4:
                raise ValueError(f"the file ends at byte {size:,}, before its zoom levels do.")
            if struct.unpack("<I", magic)[0] != _ZOOM_INDEX_MAGIC:
                raise ValueError("its zoom levels are damaged.")
