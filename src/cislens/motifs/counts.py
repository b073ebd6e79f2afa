"""Tables of counts, regions by cell types; every join is by the region, never by row order.

Dimensions: R region, C cell type.
"""

import io
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.reference import Genome
from cislens.motifs.cells import CellPeaks, collapse, in_order, on_genome
from cislens.motifs.fragments import require_inside
from cislens.motifs.openness import overlapping
from cislens.motifs.windows import Floats, Ints
from cislens.untrusted import plain_bytes

_REGION = r"^(.+):(\d+)-(\d+)$"
_PLACE = ("chrom", "start", "end")
_MOST_LOG = 64  # no count has so large a logarithm: the table has counts


@dataclass(frozen=True)
class CountTable:
    """Counts of cell types over regions of the user's.

    Attributes:
        path: the file, for errors.
        regions: `key` (`chrom:start-end` by the genome's names), `chrom`, `start`, `end`,
            `center`; sorted by the genome's chromosomes, then by place.
        counts_RC: at least 0.
        cells: names of the columns.
        report: numbers of rows read and left out.
    """

    path: Path
    regions: pl.DataFrame
    counts_RC: Floats
    cells: tuple[str, ...]
    report: dict[str, int]

    def peaks(self, genome: Genome) -> list[CellPeaks]:
        """Each cell type's regions with a count above 0, as its peaks.

        Raises:
            CislensError: naming a cell type without any.
        """
        found = []
        for column, cell in enumerate(self.cells):
            counts = self.counts_RC[:, column]
            above = self.regions.with_columns(score=counts).filter(counts > 0)
            if above.is_empty():
                raise CislensError(
                    f"{self.path}: cell type {cell!r} has no count above 0 in the "
                    f"{self.regions.height:,} regions on the genome; leave the column out."
                )
            report = dict(self.report)
            peaks = above.select("chrom", "start", "end", "center", "score")
            found.append(CellPeaks(cell, collapse(peaks, genome, report), None, report))
        return found

    def require_same(self, keys: Iterable[str], source: str) -> None:
        """Check that the table has exactly the regions `keys`, once each.

        Raises:
            CislensError: with numbers and examples of the missing and the unknown ones.
        """
        wanted, mine = set(keys), set(self.regions["key"])
        faults = {"missing from the table": wanted - mine, f"not in {source}": mine - wanted}
        told = [
            f"{len(some):,} {what} ({_examples(some)})" for what, some in faults.items() if some
        ]
        if told:
            raise CislensError(
                f"{self.path} and {source} do not list the same regions: {'; '.join(told)}. "
                "Rows are joined by their region, so each must be in both."
            )

    def counts(self, regions: pl.DataFrame, genome: Genome) -> Floats:
        """Counts (R, C) of regions that are sorted along the genome and of one width.

        With a column `key` each region takes its own row. A window around a row's center takes
        that row's counts (the largest, if rows share a center), any other window the largest of
        the rows that overlap it, 0 without any.
        """
        if "key" in regions.columns:
            rows_R = _rows_of(regions["key"], self.regions["key"])
            return np.asarray(self.counts_RC[rows_R])
        found_RC = np.zeros((regions.height, len(self.cells)))
        region, row = overlapping(regions, self.regions, genome)
        center = (regions["start"] + (regions["end"] - regions["start"]) // 2).to_numpy()
        own = self.regions["center"].to_numpy()[row] == center[region]
        has_own = np.zeros(regions.height, bool)
        has_own[region[own]] = True
        use = own | ~has_own[region]
        np.maximum.at(found_RC, region[use], self.counts_RC[row[use]])
        return found_RC


def _rows_of(keys: pl.Series, known: pl.Series) -> Ints:
    rows = {key: row for row, key in enumerate(known)}
    return np.array([rows[key] for key in keys], np.int64)


def place_key() -> pl.Expr:
    """The column `key`, `chrom:start-end`."""
    return pl.format("{}:{}-{}", "chrom", "start", "end").alias("key")


def read_counts(
    path: str | Path,
    genome: Genome,
    *,
    log_counts: bool = False,
    assembly: str = "",
    exclude: Collection[str] = (),
    cells: Collection[str] = (),
) -> CountTable:
    """Read a table of counts, tab- or comma-separated, plain or gzip, with a header line.

    The regions are in a column `region_id`, or else the first, as `chrom:start-end` (0-based
    half-open, `assembly:` may stand before it), or in `chrom, start, end`; every other column is a
    cell type. Regions on contigs that the genome does not have, or in `exclude`, are left out
    and counted.

    Args:
        log_counts: the values are log2(count + 1); those below 0 are taken as no count.
        cells: names that are taken already.

    Raises:
        CislensError: naming file and row, for an id that is no region, a duplicate region (with
            their number and examples), one beyond its chromosome's end, or a value that is no
            count; for a cell type in `cells`.
    """
    path = require_file(path, "count table")
    table = read_table(path, "count table").with_row_index("row", offset=1)
    table, names = _with_places(path, table, assembly)
    both = sorted(set(names) & set(cells))
    if both:
        raise CislensError(f"cell type {both[0]!r} is in `cells` and a column of {path}; keep one.")
    if not names:
        raise CislensError(f"{path} has no column of counts beside the regions.")
    report: dict[str, int] = {}
    table = on_genome(table, genome, str(path), exclude, report)
    require_inside(table, genome, path, "row")
    table = table.with_columns(place_key(), center=(pl.col("start") + pl.col("end")) // 2)
    _require_unique(path, table["key"])
    table = in_order(table, genome, "start", "end")
    if table.is_empty():
        raise CislensError(f"{path} has no region left on the genome ({report}).")
    counts = np.stack([_values(path, table, name, log_counts) for name in names], axis=1)
    places = table.select("key", *_PLACE, "center")
    return CountTable(path, places, counts, tuple(names), report)


def _with_places(path: Path, table: pl.DataFrame, assembly: str) -> tuple[pl.DataFrame, list[str]]:
    """The table with `chrom`, `start`, `end`, and the names of its other columns."""
    columns = [name for name in table.columns if name != "row"]
    if set(_PLACE) <= set(columns):
        column = None
        places = table.with_columns(pl.col("start", "end").cast(pl.Int64, strict=False))
    else:
        column = "region_id" if "region_id" in columns else columns[0]
        bare = table[column].cast(pl.String).str.strip_prefix(f"{assembly}:" if assembly else "")
        parts = [bare.str.extract(_REGION, group).alias(_PLACE[group - 1]) for group in (1, 2, 3)]
        places = table.with_columns(parts).with_columns(
            pl.col("start", "end").cast(pl.Int64, strict=False)
        )
    inside = (pl.col("start") >= 0) & (pl.col("start") < pl.col("end"))
    ill = places.filter(~inside.fill_null(False) | pl.col("chrom").is_null())
    if ill.height:
        given = ill[column] if column else ill.select(place_key()).to_series()
        raise CislensError(
            f"{path} row {ill['row'][0]}: no region in {column or 'chrom, start, end'} "
            f"({ill.height:,} rows are so: {_examples(given)}); expected `chrom:start-end` in a "
            "column `region_id`, or columns chrom, start, end, with 0 <= start < end."
        )
    return places, [name for name in columns if name not in (column, *_PLACE)]


def _require_unique(path: Path, keys: pl.Series) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise CislensError(
            f"{path} lists {len(repeated):,} regions more than once ({_examples(repeated)}); "
            "add up or remove the repeated rows."
        )


def _values(path: Path, table: pl.DataFrame, name: str, log_counts: bool) -> Floats:
    values = table[name].cast(pl.Float64, strict=False)
    fine = values.is_finite() & ((values < _MOST_LOG) if log_counts else (values >= 0))
    rows = (~fine).fill_null(True).arg_true()
    if len(rows):
        first = table.row(int(rows[0]), named=True)
        wanted = "a count from 0 on (or set `log_counts`)"
        if log_counts:
            wanted = f"log2 of a count, below {_MOST_LOG} (without `log_counts` counts are taken)"
        raise CislensError(
            f"{path} row {first['row']} ({first['key']}): {name} is {first[name]!r}, expected "
            f"{wanted}; {len(rows):,} rows are so."
        )
    counts = values.to_numpy()
    return np.maximum(np.exp2(counts) - 1, 0.0) if log_counts else counts


def _longer(raw: bytes, separator: str) -> str:
    """The first row with more fields than the header, which readers of tables do not name."""
    fields = [line.count(separator.encode()) + 1 for line in raw.splitlines()]
    expected = fields[0] if fields else 0
    for number, found in enumerate(fields):
        if found > expected:
            return (
                f"row {number} has {found} fields and the header names {expected} columns; name "
                "every column, also that of the rows' names."
            )
    return ""


def _examples(some: Iterable[object]) -> str:
    ordered = sorted(map(str, some))
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")


def read_table(path: str | Path, what: str) -> pl.DataFrame:
    """A table with a header line, tab- or comma-separated, plain or gzip.

    Lines that begin with `#` before the header are passed over. Numbers are read as numbers where
    a whole column is; `NA` and empty fields are null.

    Raises:
        CislensError: if the file is damaged, has no header or no rows, or a column twice.
    """
    path = require_file(path, what)
    raw = plain_bytes(path)
    try:
        while raw.startswith(b"#"):
            raw = raw[raw.find(b"\n") + 1 or len(raw) :]
        header = raw[: raw.find(b"\n")].decode().rstrip("\r")
    except UnicodeDecodeError as error:
        raise CislensError(f"{path} is not a text file: {error}.") from error
    separator = "\t" if "\t" in header else ","
    repeated = [name for name, count in Counter(header.split(separator)).items() if count > 1]
    if repeated:
        raise CislensError(f"{path} has {len(repeated)} columns twice ({_examples(repeated)}).")
    try:
        table = pl.read_csv(
            io.BytesIO(raw), separator=separator, null_values=["NA", ""], infer_schema_length=None
        )
    except pl.exceptions.PolarsError as error:
        told = _longer(raw, separator) or f"it is no readable table: {error}"
        raise CislensError(f"{what} {path}: {told}") from None
    if table.is_empty():
        raise CislensError(f"{what} {path} has no rows below its header.")
    return table
