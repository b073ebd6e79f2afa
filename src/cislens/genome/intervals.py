"""Tables of genomic intervals.

An interval table is a polars frame with `chrom` (String), `start` and `end` (Int64), 0-based and
half-open, and whatever else its file gives: `name`, `score`, `strand`, `summit` (an absolute
position, Int64) and more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.untrusted import plain_bytes

logger = logging.getLogger("cislens")

_BED = ("chrom", "start", "end", "name", "score", "strand")
_BED12 = ("thick_start", "thick_end", "item_rgb", "block_count", "block_sizes", "block_starts")
_PEAK = ("signal", "p_value", "q_value")
_INTEGERS = frozenset({"start", "end", "summit_offset", "thick_start", "thick_end", "block_count"})
_NUMBERS = frozenset({"score", *_PEAK})
_STRANDS = frozenset("+-.")
LONGEST = 1 << 40  # bp; no chromosome reaches it, and sums of a few such numbers do not overflow


@dataclass(frozen=True)
class Rows:
    """The data lines of a tab- or space-separated file, each with its line number."""

    path: Path
    numbers: list[int]
    fields: list[list[str]]

    def error(self, row: int, what: str) -> CislensError:
        """An error that names the file and the line of a row."""
        return CislensError(f"{self.path} line {self.numbers[row]}: {what}")


def is_whole(text: str) -> bool:
    """Whether a text is a number of digits 0 to 9, and one that a coordinate may be."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LONGEST


def read_rows(path: str | Path, what: str, separator: str | None = "\t") -> Rows:
    """Split a text file (plain or gzip) into fields; comments and browser lines are left out.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if the file cannot be unpacked or is no text.
    """
    path = require_file(path, what)
    try:
        text = plain_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise CislensError(f"{path} is not a text file: {error}.") from error
    numbers, fields = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith(("#", "track", "browser")) and not line.isspace():
            numbers.append(number)
            fields.append(line.split(separator))
    return Rows(path, numbers, fields)


def read_intervals(path: str | Path) -> pl.DataFrame:
    """Read BED (3 to 12 columns), narrowPeak or broadPeak, plain or gzip.

    narrowPeak (by its extension, or ten columns) gives `summit`, the absolute position of the
    peak's summit, null where column 10 is -1. Columns that do not fit the format at their place
    are kept as text under the name `column_<n>`.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line, for start >= end, a coordinate that is no whole number
            or is negative, a bad strand, or a line with another number of columns.
    """
    rows = read_rows(path, "interval file")
    if rows.fields and len(rows.fields[0]) == 1:
        rows = read_rows(path, "interval file", separator=None)
    if rows.fields and [field.lower() for field in rows.fields[0][1:3]] in (
        ["start", "end"], ["chromstart", "chromend"],
    ):  # fmt: skip
        rows = Rows(rows.path, rows.numbers[1:], rows.fields[1:])
    if not rows.fields:
        raise CislensError(f"{rows.path} holds no interval.")
    width = len(rows.fields[0])
    for row, fields in enumerate(rows.fields):
        if len(fields) != width or width < 3:
            raise rows.error(
                row, f"{len(fields)} columns, expected {max(width, 3)} separated by tabs."
            )
    names = _column_names(rows)
    columns = dict(zip(names, zip(*rows.fields, strict=True), strict=True))
    frame = pl.DataFrame({name: _typed(rows, name, values) for name, values in columns.items()})
    _check(rows, frame)
    if "summit_offset" in frame.columns:
        frame = _with_summit(rows, frame)
    return frame


def _column_names(rows: Rows) -> list[str]:
    first = rows.fields[0]
    width = len(first)
    name = rows.path.name.removesuffix(".gz").lower()
    peak = name.endswith(("narrowpeak", "broadpeak")) or width == 10
    expected: tuple[str, ...] = (*_BED, *_BED12)
    if peak:
        expected = (*_BED, *_PEAK, "summit_offset")
        needed = 9 if name.endswith("broadpeak") else 10
        if width != needed:
            raise rows.error(0, f"{width} columns, but a file of this kind has {needed}.")
    names: list[str] = []
    for place, value in enumerate(first):
        column = expected[place] if place < len(expected) else ""
        fits = (
            (column in _NUMBERS and (_is_number(value) or value == "."))
            or (column in ("thick_start", "thick_end", "block_count") and is_whole(value))
            or (column == "strand" and value in _STRANDS)
            or column in ("chrom", "start", "end", "name", "summit_offset")
            or (column in ("item_rgb", "block_sizes", "block_starts") and names[-1] in _BED12)
        )
        names.append(column if fits else f"column_{place + 1}")
    return names


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _typed(rows: Rows, name: str, values: tuple[str, ...]) -> pl.Series:
    series = pl.Series(name, values, dtype=pl.String)
    if name in _INTEGERS or name in _NUMBERS:
        if name in _NUMBERS:
            series = series.replace(".", None)
        kind = pl.Int64 if name in _INTEGERS else pl.Float64
        typed = series.cast(kind, strict=False)
        bad = (typed.is_null() & series.is_not_null()).arg_true()
        if len(bad):
            row = int(bad[0])
            expected = "a whole number" if name in _INTEGERS else "a number"
            raise rows.error(row, f"{name} is {values[row]!r}, expected {expected}.")
        return typed
    if name == "strand":
        bad = (~series.is_in(list(_STRANDS))).arg_true()
        if len(bad):
            row = int(bad[0])
            raise rows.error(row, f"strand is {values[row]!r}, expected '+', '-' or '.'.")
    return series


def _check(rows: Rows, frame: pl.DataFrame) -> None:
    start, end = frame["start"], frame["end"]
    bad = ((start < 0) | (start >= end) | (end > LONGEST)).arg_true()
    if len(bad):
        row = int(bad[0])
        raise rows.error(
            row, f"start {start[row]} and end {end[row]}, expected 0 <= start < end (0-based)."
        )


def _with_summit(rows: Rows, frame: pl.DataFrame) -> pl.DataFrame:
    offset = frame["summit_offset"]
    bad = ((offset < -1) | (offset >= frame["end"] - frame["start"])).arg_true()
    if len(bad):
        row = int(bad[0])
        raise rows.error(row, f"summit offset {offset[row]} lies outside the peak.")
    summit = pl.when(pl.col("summit_offset") >= 0).then(pl.col("start") + pl.col("summit_offset"))
    return frame.with_columns(summit=summit).drop("summit_offset")


@dataclass(frozen=True)
class Spans:
    """The union of intervals on one chromosome, for fast questions about overlap."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, intervals: pl.DataFrame) -> "Spans":
        """The union of intervals, whatever their chromosome."""
        ordered = intervals.select("start", "end").sort("start")
        starts, reach = ordered["start"].to_numpy(), ordered["end"].cum_max().to_numpy()
        opens = np.ones(len(starts), bool)
        opens[1:] = starts[1:] > reach[:-1]
        closes = np.append(opens[1:], True) if len(starts) else opens
        return cls(starts[opens], reach[closes])

    def overlap(
        self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether each of the intervals [start, end) shares a base with the union."""
        following = np.searchsorted(self.ends, starts, side="right")
        inside = following < len(self.starts)
        found = np.zeros(len(starts), bool)
        found[inside] = self.starts[following[inside]] < ends[inside]
        return found


def tile(chrom_sizes: Mapping[str, int], width: int, stride: int) -> pl.DataFrame:
    """Windows of `width` bp every `stride` bp, each wholly inside its chromosome.

    Raises:
        CislensError: if width or stride is not positive, or no chromosome is long enough.
    """
    if width <= 0 or stride <= 0:
        raise CislensError(f"width {width} and stride {stride} of a tiling must be positive.")
    longest = max(chrom_sizes.values(), default=0)
    if width > longest:
        raise CislensError(
            f"a window of {width} bp is longer than every chromosome (longest: {longest} bp); "
            f"choose a shorter window."
        )
    frames = [
        pl.select(
            chrom=pl.lit(chrom),
            start=pl.int_range(0, max(size - width + 1, 0), stride, dtype=pl.Int64),
        )
        for chrom, size in chrom_sizes.items()
    ]
    return pl.concat(frames).with_columns(end=pl.col("start") + width)


def centered(
    intervals: pl.DataFrame, width: int, chrom_sizes: Mapping[str, int] | None = None
) -> pl.DataFrame:
    """The window of `width` bp around each interval's summit, or else its midpoint.

    The center c lies at index `width // 2` of the window: start = c - width // 2. With
    `chrom_sizes`, windows that reach over a chromosome's end are dropped and counted in the log.

    Raises:
        CislensError: if width is not positive, or a chromosome is not in `chrom_sizes`.
    """
    if width <= 0:
        raise CislensError(f"the width of a window must be positive, not {width}.")
    center = (pl.col("start") + pl.col("end")) // 2
    if "summit" in intervals.columns:
        center = pl.coalesce(pl.col("summit"), center)
    start = center - width // 2
    windows = intervals.with_columns(start=start, end=start + width)
    if chrom_sizes is None:
        return windows
    return within(windows, chrom_sizes)


def within(intervals: pl.DataFrame, chrom_sizes: Mapping[str, int]) -> pl.DataFrame:
    """The intervals that lie wholly inside their chromosome; the log counts the others.

    Raises:
        CislensError: if a chromosome is not in `chrom_sizes`.
    """
    foreign = sorted(set(intervals["chrom"]) - set(chrom_sizes))
    if foreign:
        raise CislensError(
            f"the intervals lie on {foreign[0]!r}, which the genome does not have "
            f"(it has {', '.join(list(chrom_sizes)[:5])}, ...); match the names first."
        )
    size = pl.col("chrom").replace_strict(dict(chrom_sizes), return_dtype=pl.Int64)
    inside = intervals.filter((pl.col("start") >= 0) & (pl.col("end") <= size))
    lost = len(intervals) - len(inside)
    if lost:
        logger.info("%d of %d windows reach over a chromosome's end", lost, len(intervals))
    return inside
