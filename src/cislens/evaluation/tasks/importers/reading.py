"""Reading the tables that tasks are imported from, and recording what was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.card import File
from cislens.files import file_digest, require_file
from cislens.genome.codes import Codes, ambiguous, encode
from cislens.genome.intervals import LONGEST
from cislens.untrusted import plain_bytes

_IUPAC = frozenset("RYSWKMBDHV.-*")
# What people call the columns, the usual name first.
ALIASES: dict[str, tuple[str, ...]] = {
    "sequence": ("sequence", "seq", "Sequence", "SEQUENCE", "dna", "x"),
    "label": ("label", "labels", "y", "target", "class", "activity", "mean_value", "expression"),
    "id": ("id", "ID", "name", "seq_id", "example_id"),
    "chrom": ("chrom", "chr", "chromosome", "#chrom", "seqnames", "seqname", "Chrom", "region"),
    "start": ("start", "chromStart", "Start"),
    "end": ("end", "chromEnd", "stop", "End"),
    "strand": ("strand", "Strand"),
    "block": ("block", "group", "gene", "cluster"),
    "split": ("split", "set", "fold"),
}


@dataclass(frozen=True)
class Table:
    """A delimited file as text; row i of `frame` is line i + `first` of the file."""

    path: Path
    frame: pl.DataFrame
    first: int = 2

    def error(self, row: int, what: str) -> CislensError:
        """An error that names the file and the line of a row."""
        return CislensError(f"{self.path} line {row + self.first}: {what}")

    def column(self, name: str) -> pl.Series:
        """A column by its name.

        Raises:
            CislensError: if there is none; the nearest name is given.
        """
        if name not in self.frame.columns:
            known = self.frame.columns
            raise CislensError(f"{self.path} has no column {name!r}. {nearest(name, known)}")
        return self.frame[name]

    def find(self, role: str, wanted: str | None, report: dict[str, str | int | float]) -> str:
        """The column of a role: the one wanted, else one of its usual names, which is reported."""
        found = self.optional(role, wanted, report)
        if found is None:
            raise CislensError(
                f"{self.path} has no column for the {role} (one of {', '.join(ALIASES[role])}); "
                f"it has {', '.join(self.frame.columns)}. Name the column in the recipe."
            )
        return found

    def optional(
        self, role: str, wanted: str | None, report: dict[str, str | int | float]
    ) -> str | None:
        """As `find`, but None where no column is wanted and none has a usual name."""
        if wanted is not None:
            self.column(wanted)
            return wanted
        for name in ALIASES[role]:
            if name in self.frame.columns:
                report[f"column of the {role}"] = name
                return name
        return None

    def numbers(self, name: str) -> pl.Series:
        """A column as Float64; NA, NaN and empty cells are null.

        Raises:
            CislensError: with file and line, for text that is no number.
        """
        text = self.column(name).str.strip_chars()
        text = text.set(text.str.to_lowercase().is_in(["", "na", "nan", "null", "none"]), None)
        values = text.cast(pl.Float64, strict=False)
        bad = (values.is_null() & text.is_not_null()).arg_true()
        if len(bad):
            row = int(bad[0])
            raise self.error(row, f"{name} is {text[row]!r}, expected a number.")
        return values.fill_nan(None)

    def positions(self, name: str) -> pl.Series:
        """A column as Int64; coordinates may be written as 1234.0 or 1.5e6.

        Raises:
            CislensError: with file and line, for what is missing or no whole number.
        """
        values = self.numbers(name)
        whole = (values == values.round(0)) & (values.abs() <= LONGEST)
        bad = (~whole).fill_null(value=True).arg_true()
        if len(bad):
            row = int(bad[0])
            raise self.error(row, f"{name} is {self.frame[name][row]!r}, expected a whole number.")
        return values.cast(pl.Int64)


def read_table(path: Path, what: str, header: Sequence[str] | None = None) -> Table:
    """Read CSV or TSV, plain or gzip; the first line tells which, and tabs win over commas.

    Args:
        header: names of the columns of a file without a header.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is no table, holds no row, or has another number of columns.
    """
    path = require_file(path, what)
    raw = plain_bytes(path)
    try:
        top = pl.read_csv(raw, has_header=False, separator="\x01", n_rows=1, quote_char=None)
        separator = "\t" if top.height and "\t" in str(top[0, 0]) else ","
        frame = pl.read_csv(raw, infer_schema=False, separator=separator, has_header=header is None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CislensError(f"{path} is no readable CSV or TSV table: {error}") from None
    if header is not None:
        if len(header) != frame.width:
            raise CislensError(
                f"{path} has {frame.width} columns, the header of the recipe {len(header)}."
            )
        frame.columns = list(header)
    if frame.is_empty():
        raise CislensError(f"{path} holds no row.")
    return Table(path, frame, 2 if header is None else 1)


def read_sequences(table: Table, name: str) -> tuple[list[Codes], dict[str, str | int | float]]:
    """The sequences of a column, and what was made of letters other than A, C, G, T and N.

    Raises:
        CislensError: with file and line, for an empty cell or letters that are no bases.
    """
    texts = table.column(name).str.strip_chars().to_list()
    letters: dict[str, int] = {}
    uracil = 0
    for row, text in enumerate(texts):
        if not text:
            raise table.error(row, f"{name} is empty; fill it or remove the line.")
        for symbol, count in ambiguous(text).items():
            if symbol not in _IUPAC:
                raise table.error(row, f"{name} holds {symbol!r}, which is no base: {text[:30]!r}.")
            letters[symbol] = letters.get(symbol, 0) + count
        uracil += "U" in text or "u" in text
    report: dict[str, str | int | float] = {}
    if uracil:
        report["sequences whose U was read as T"] = uracil
    if letters:
        found = ", ".join(f"{count} {symbol}" for symbol, count in sorted(letters.items()))
        report["letters read as N"] = found
    return [encode(text) for text in texts], report


def record(path: Path, role: str, rows: int | None, digests: Mapping[str, str]) -> File:
    """The card's entry of a file.

    Raises:
        CislensError: if its sha256 is not the expected one.
    """
    found = file_digest(path)
    wanted = digests.get(path.name)
    if wanted is not None and wanted != found:
        raise CislensError(
            f"{path} is not the file that the recipe was written for: its sha256 is {found}, "
            f"expected {wanted}; get the file again, or remove the entry if the change is wanted."
        )
    return File(role=role, name=path.name, bytes=path.stat().st_size, rows=rows, sha256=found)


def check_digests(digests: Mapping[str, str], files: Sequence[File]) -> None:
    """Refuse digests of files that the task does not read; most often a misspelled name."""
    names = [file.name for file in files]
    for name in digests:
        if name not in names:
            raise CislensError(f"sha256 names {name!r}, which is not read. {nearest(name, names)}")


def zero_based(
    table: Table, starts: pl.Series, ends: pl.Series, lengths: Sequence[int]
) -> tuple[pl.Series, int]:
    """Starts 0-based, and whether the file counts from 0 or 1, told by the sequences' lengths.

    Raises:
        CislensError: with file and line, where neither end - start nor end - start + 1 is the
            length of the sequence, or rows disagree.
    """
    excess = pl.Series(lengths, dtype=pl.Int64) - (ends - starts)
    base = int(excess[0])
    wrong = ((excess != base) | ~excess.is_in([0, 1])).arg_true()
    if len(wrong):
        row = int(wrong[0])
        expected = "" if base not in (0, 1) else f" (lines before count from {base})"
        raise table.error(
            row, f"{starts[row]}-{ends[row]} has {ends[row] - starts[row]} bp counted from 0 and "
            f"{ends[row] - starts[row] + 1} counted from 1, the sequence {lengths[row]}{expected}."
        )  # fmt: skip
    return starts - base, base
