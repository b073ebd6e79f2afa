"""bigWig files in and out."""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.files import atomic_path, require_file

if TYPE_CHECKING:  # importing figwig loads numba, about 0.2 s
    from figwig import BigWigReader

_SUMMARY_AT = 44  # place in the header of the offset of the summary
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
    """A reader that serves many windows at once; it holds no open file and can be pickled.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is not a bigWig, or the file ends before its last parts do.
    """
    from figwig import BigWigReader

    path = require_file(path, "bigWig")
    with _readable(path):
        reader = BigWigReader(path)
        _check_whole(path)
    return reader


def summarize(path: str | os.PathLike[str]) -> BigWigSummary:
    """Check that every data block of a bigWig is there, and read its header's summary.

    Raises:
        CislensError: as `open_bigwig`, or if a data block lies beyond the end of the file.
    """
    reader = open_bigwig(path)
    if not reader.chrom_sizes:
        raise CislensError(f"bigWig {path} names no chromosome; write it again.")
    with _readable(path), Path(path).open("rb") as handle:
        reader.read(next(iter(reader.chrom_sizes)), [0], 1)  # loads and checks the index
        handle.seek(_SUMMARY_AT)
        offset = struct.unpack("<Q", handle.read(8))[0]
        # Version 1 files have no summary: nothing is known, so zeros are taken as measured.
        covered, low, high, total = 0, 0.0, 0.0, 0.0
        if offset:
            handle.seek(offset)
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
    names = np.full(starts.size, chroms) if isinstance(chroms, str) else np.asarray(chroms)
    sizes = np.array([reader.chrom_sizes.get(name, 0) for name in names], dtype=np.int64)
    inside = (starts >= 0) & (starts + width <= sizes)
    if inside.all():
        return _read_inside(reader, names, starts, width, missing, threads)
    values = np.full((starts.size, width), missing, dtype=np.float32)
    values[inside] = _read_inside(reader, names[inside], starts[inside], width, missing, threads)
    for row in np.flatnonzero(~inside):
        left, right = max(int(starts[row]), 0), min(int(starts[row]) + width, int(sizes[row]))
        if left < right:
            found = _read_inside(
                reader, names[row : row + 1], np.array([left]), right - left, missing, threads
            )
            values[row, left - starts[row] : right - starts[row]] = found[0]
    return values


def _read_inside(
    reader: "BigWigReader",
    names: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    width: int,
    missing: float,
    threads: int,
) -> npt.NDArray[np.float32]:
    with _readable(reader.path):
        values: npt.NDArray[np.float32] = reader.read(
            names.astype(np.str_), starts, width, n_jobs=threads, missing=missing
        )
    return values


@contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, struct.error) as error:
        raise CislensError(
            f"bigWig {path} cannot be read: {error} It may be truncated or of another format; "
            "fetch or write it again."
        ) from error


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
