"""What was measured in one cell type: its peaks, and its cut sites where it has fragments."""

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.genome.chromosomes import match_names
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome
from cislens.motifs.fragments import read_cuts, require_inside
from cislens.recipes.regions import CellSection

MILLION = 1e6


@dataclass(frozen=True)
class CellPeaks:
    """The peaks of a cell type, whatever the order of the rows in its files.

    Attributes:
        cell: name of the cell type.
        peaks: `chrom` by the genome's names, `start`, `end`, `center` (the summit, or else the
            midpoint), all 0-based half-open, and `score`: parts of a million, over the cell
            type's peaks. Sorted by the genome's chromosomes, then by place; no two rows have the
            same place and center. Empty for a cell type of fragments alone.
        cuts: as `fragments.read_cuts` gives them, one row for each end of a fragment; None
            without fragments.
        report: numbers of rows read, left out and kept.
    """

    cell: str
    peaks: pl.DataFrame
    cuts: pl.DataFrame | None
    report: dict[str, int]


def read_cell(
    name: str, section: CellSection, genome: Genome, exclude: Collection[str] = ()
) -> CellPeaks:
    """Read what a recipe names for one cell type.

    Peaks on chromosomes that the genome does not have, or that are in `exclude`, are left out
    and counted; duplicates are collapsed to the best score and counted.

    Raises:
        CislensError: naming the cell type, the file and the row, for a peak beyond its
            chromosome's end, an unknown column, a pattern without peaks, a score that is no
            number from 0 on, or a cell type with no peak left.
    """
    report: dict[str, int] = {}
    peaks = _no_peaks()
    if section.peaks is not None:
        files = section.peaks if isinstance(section.peaks, list) else [section.peaks]
        tables = [_read_peaks(name, path, section, genome, exclude, report) for path in files]
        peaks = collapse(pl.concat(tables), genome, report)
        if peaks.is_empty():
            raise nothing_left(name, report)
    cuts = None
    if section.fragments is not None:
        cuts = read_cuts(section.fragments, genome, shifted=section.shifted)
        cuts = cuts.filter(~pl.col("chrom").cast(pl.String).is_in(list(exclude)))
        report["cut_sites"] = cuts.height
    return CellPeaks(name, peaks, cuts, report)


def nothing_left(name: str, report: dict[str, int]) -> CislensError:
    """The error for a cell type all of whose peaks went, and where they went."""
    went = [
        f"{count:,} {reason.replace('_', ' ')}"
        for reason, count in report.items()
        if count and reason not in ("read", "duplicates", "peaks", "cut_sites")
    ]
    return CislensError(
        f"cell type {name!r} has no peak left of {report.get('read', 0):,} read "
        f"({', '.join(went) or 'none was there'}); check its files against the genome, the "
        "blacklist and the excluded chromosomes, or leave the cell type out."
    )


def collapse(peaks: pl.DataFrame, genome: Genome, report: dict[str, int]) -> pl.DataFrame:
    """Peaks sorted and without duplicates, their scores parts of a million; counts duplicates."""
    keys = ["chrom", "start", "end", "center"]
    distinct = peaks.group_by(keys).agg(pl.col("score").max())
    # The sum of floats depends on their order, so they are sorted first.
    distinct = in_order(distinct, genome, "start", "end", "center")
    report["duplicates"] = report.get("duplicates", 0) + peaks.height - distinct.height
    report["peaks"] = distinct.height
    total = float(distinct["score"].to_numpy().sum())
    score = pl.col("score") * (MILLION / total) if total > 0 else pl.lit(0.0)
    return distinct.with_columns(score=score)


def in_order(table: pl.DataFrame, genome: Genome, *columns: str) -> pl.DataFrame:
    """Rows sorted by the genome's order of chromosomes, then by columns."""
    place = {chrom: rank for rank, chrom in enumerate(genome.chrom_sizes)}
    rank = pl.col("chrom").replace_strict(place, return_dtype=pl.Int64)
    return table.sort(rank, *columns, maintain_order=True)


def on_genome(
    table: pl.DataFrame,
    genome: Genome,
    source: str,
    exclude: Collection[str],
    report: dict[str, int],
) -> pl.DataFrame:
    """Rows on the genome's chromosomes but for `exclude`, renamed; counts what is left out."""
    found = table["chrom"].unique(maintain_order=True)
    known = match_names(found, genome.chrom_sizes, source).rename(table)
    kept = known.filter(~pl.col("chrom").is_in(list(exclude)))
    _count(report, "read", table.height)
    _count(report, "on_foreign_contigs", table.height - known.height)
    _count(report, "on_excluded_chromosomes", known.height - kept.height)
    return kept


def _count(report: dict[str, int], what: str, number: int) -> None:
    report[what] = report.get(what, 0) + number


def _no_peaks() -> pl.DataFrame:
    places = dict.fromkeys(("start", "end", "center"), pl.Int64)
    return pl.DataFrame(schema={"chrom": pl.String, **places, "score": pl.Float64})


def _read_peaks(
    name: str,
    path: Path,
    section: CellSection,
    genome: Genome,
    exclude: Collection[str],
    report: dict[str, int],
) -> pl.DataFrame:
    table = read_intervals(path).with_row_index("row", offset=1)
    if section.named is not None:
        table = _named(path, table, section.named, section.column)
    table = _with_center(path, table, section.summit)
    table = table.with_columns(score=_scores(path, table, section.score))
    source = f"{path} (cell type {name!r})"
    table = on_genome(table, genome, source, exclude, report)
    require_inside(table, genome, source, "peak")
    return table.select("chrom", "start", "end", "center", "score")


def _named(path: Path, table: pl.DataFrame, pattern: str, column: str) -> pl.DataFrame:
    if column not in table.columns:
        raise CislensError(
            f"{path} has no column {column!r} of names. {nearest(column, table.columns[1:])}"
        )
    names = table[column].cast(pl.String).drop_nulls().unique().to_list()
    chosen = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not chosen:
        raise CislensError(f"{path} has no peak named {pattern!r}. {nearest(pattern, names)}")
    return table.filter(pl.col(column).cast(pl.String).is_in(chosen))


def _with_center(path: Path, table: pl.DataFrame, summit: str | None) -> pl.DataFrame:
    middle = (pl.col("start") + pl.col("end")) // 2
    if summit is None:
        found = pl.col("summit") if "summit" in table.columns else pl.lit(None, pl.Int64)
        return table.with_columns(center=pl.coalesce(found, middle))
    if summit not in table.columns:
        raise CislensError(
            f"{path} has no column {summit!r} of summit offsets. "
            f"{nearest(summit, table.columns[1:])}"
        )
    offset = table[summit].cast(pl.Int64, strict=False)
    length = table["end"] - table["start"]
    _refuse(
        path, table, offset.is_null() | (offset < -1) | (offset > length), summit,
        "an offset of the summit from the peak's start (or -1 for none)",
    )  # fmt: skip
    # Some callers put the summit right behind the last base (ENCODE's sets from SPP do).
    known = pl.when(offset >= 0).then(pl.min_horizontal(table["start"] + offset, table["end"] - 1))
    return table.with_columns(center=pl.coalesce(known, middle))


def _scores(path: Path, table: pl.DataFrame, column: str | None) -> pl.Series:
    """The scores of the peaks; 1 each where the file has none above 0."""
    if column is None:
        column = next((name for name in ("signal", "score") if _tells(table, name)), None)
        if column is None:
            return pl.Series("score", [1.0]).new_from_index(0, table.height)
    elif column not in table.columns:
        raise CislensError(
            f"{path} has no column {column!r} of scores. {nearest(column, table.columns[1:])}"
        )
    scores = table[column].cast(pl.Float64, strict=False)
    bad = scores.is_null() | ~scores.is_finite() | (scores < 0)
    _refuse(path, table, bad, column, "a score from 0 on (name another column as `score`)")
    return scores


def _tells(table: pl.DataFrame, column: str) -> bool:
    return column in table.columns and bool((table[column] > 0).any())


def _refuse(path: Path, table: pl.DataFrame, bad: pl.Series, column: str, expected: str) -> None:
    rows = bad.arg_true()
    if len(rows):
        first = table.row(int(rows[0]), named=True)
        raise CislensError(
            f"{path}, peak {first['row']} ({first['chrom']}:{first['start']}-{first['end']}): "
            f"{column} is {first[column]!r}, expected {expected}; {len(rows):,} peaks are so."
        )
