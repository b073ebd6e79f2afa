"""Files of variants chunk by chunk, in the order of the file and in bounded memory."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import polars as pl

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.variant_files import (
    ROW,
    file_kind,
    find_columns,
    indexed_chromosomes,
    opened_bcf,
    require_complete,
    whole_numbers,
)
from cislens.parquet_pages import check_pages
from cislens.untrusted import memory

_BLOCK = 1 << 22  # bytes of text parsed at once
_RECORDS = 20_000  # records of a BCF parsed at once
_VCF_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT")
_MISSING = ["NA", "NaN", ""]
_SCHEMA = {
    "chrom": pl.String, "pos": pl.Int64, "ref": pl.String, "alt": pl.String, "id": pl.String,
    ROW: pl.Int64, "allele": pl.Int32,
}  # fmt: skip


@dataclass(frozen=True)
class VariantHeader:
    """What a VCF or BCF says of its reference; empty for a table.

    Attributes:
        contigs: lengths in bp of the `##contig` lines that give one.
        reference: the text of `##reference`, or None.
        assembly: the text of `##assembly`, or of the first contig's `assembly=`, or None.
        lines: the header's text, all lines up to and with `#CHROM`; None for a table.
    """

    contigs: dict[str, int] = field(default_factory=dict)
    reference: str | None = None
    assembly: str | None = None
    lines: str | None = None


def variant_header(path: str | Path) -> VariantHeader:
    """Contig lengths and the names of the reference in a VCF's or BCF's header.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is no readable file of variants.
    """
    path = require_file(path, "variant file")
    kind = file_kind(path)
    if kind == "bcf":
        with opened_bcf(path) as file:
            return _header(str(file.header))
    if kind == "vcf":
        with _opened(path) as handle:
            return _header(_vcf_lines(path, handle).decode(errors="replace"))
    return VariantHeader()


def stream_variants(
    path: str | Path, columns: Mapping[str, str] | None = None, chunk: int = 50_000
) -> Iterator[pl.DataFrame]:
    """Variants of VCF, BCF, TSV, CSV or parquet, text plain, gzip or bgzip, indexed or not.

    Nothing is judged here: alleles without a sequence, missing values and repeats come as the
    file has them. A record of several alternate alleles gives a row for each.

    Args:
        path: the file.
        columns: names of a table's columns for `chrom`, `pos`, `ref`, `alt` or `id`.
        chunk: about how many rows to give at once; alleles of a record stay together.

    Yields:
        Frames `chrom, pos` (1-based), `ref, alt, id, source_row` (record of a VCF, BCF or parquet
        file, from 1; line of a text table) and `allele` (0-based, within its record).

    Raises:
        MissingFileError: if there is no such file.
        CislensError: while reading, for a damaged or truncated file, a missing column, or a
            position that is no whole number, with the row.
    """
    path = require_file(path, "variant file")
    if chunk < 1:
        raise CislensError(f"the rows of a chunk must be positive, not {chunk}.")
    kind = file_kind(path)
    require_complete(path)
    if kind == "bcf":
        parts = _bcf_parts(path)
    elif kind == "parquet":
        parts = _parquet_parts(path, columns or {}, chunk)
    elif kind == "vcf":
        parts = _vcf_parts(path)
    else:
        parts = _table_parts(path, "," if kind == "csv" else "\t", columns or {})
    for records in _rechunked(parts, chunk):
        yield _split(path, records, kind)


def _rechunked(parts: Iterator[pl.DataFrame], chunk: int) -> Iterator[pl.DataFrame]:
    held: list[pl.DataFrame] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += part.height
        if rows >= chunk:
            whole = pl.concat(held)
            full = rows - rows % chunk
            for start in range(0, full, chunk):
                yield whole[start : start + chunk]
            held, rows = [whole[full:]], rows - full
    if rows:
        yield pl.concat(held)


def _split(path: Path, records: pl.DataFrame, kind: str) -> pl.DataFrame:
    """One row an allele, typed."""
    if not records["pos"].dtype.is_integer():
        given = records["pos"].fill_nan(None) if records["pos"].dtype.is_float() else records["pos"]
        pos = whole_numbers(given)
        wrong = pos.is_null() & given.is_not_null()
        if wrong.any():
            first = records.row(int(wrong.arg_true()[0]), named=True)
            unit = "record" if kind in ("vcf", "bcf", "parquet") else "line"
            raise CislensError(
                f"{path} {unit} {first[ROW]}: pos is {first['pos']!r}, expected a whole number; "
                "correct or remove it."
            )
        records = records.with_columns(pos=pos)
    several = pl.col("alt").str.contains(",", literal=True).fill_null(value=False)
    if records.select(several.any()).item():
        alts = pl.col("alt").str.split(",")
        numbers = pl.int_ranges(pl.coalesce(alts.list.len(), 1))
        records = records.with_columns(
            alt=pl.when(pl.col("alt").is_null()).then([None]).otherwise(alts), allele=numbers
        ).explode("alt", "allele")
    else:
        records = records.with_columns(allele=0)
    return records.select(pl.col(name).cast(kind_) for name, kind_ in _SCHEMA.items())


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The text of a file, whether it is compressed or not."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as handle:
            yield io.BufferedReader(handle, _BLOCK)
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        raise CislensError(
            f"{path} is truncated or damaged ({error}); copy or download it again."
        ) from None


def _blocks(handle: BinaryIO) -> Iterator[bytes]:
    """Whole lines, some MB at once; a line may be longer than a block."""
    rest: list[bytes] = []
    while block := handle.read(_BLOCK):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, block[:end]])
            rest = []
        rest.append(block[end:])
    if any(rest):
        yield b"".join(rest)


def _vcf_lines(path: Path, handle: BinaryIO) -> bytes:
    """The header of a VCF; the handle is left at the first record."""
    lines = []
    while True:
        line = handle.readline()
        lines.append(line)
        if not line.startswith(b"##"):
            break
    names = lines[-1].decode(errors="replace").rstrip("\r\n").upper().split("\t")
    if tuple(names[:5]) != _VCF_COLUMNS:
        raise CislensError(f"{path} has no VCF header line (#CHROM POS ID REF ALT ...).")
    return b"".join(lines)


def _vcf_parts(path: Path) -> Iterator[pl.DataFrame]:
    with _opened(path) as handle:
        _vcf_lines(path, handle)
        yield from _vcf_records(path, _blocks(handle))


def _bcf_parts(path: Path) -> Iterator[pl.DataFrame]:
    with opened_bcf(path) as file:
        # Written out and parsed at once, records are read in half the time of field by field.
        texts = (str(record) for record in file)
        blocks = iter(lambda: "".join(islice(texts, _RECORDS)).encode(), b"")
        yield from _vcf_records(path, blocks)


def _vcf_records(path: Path, blocks: Iterator[bytes]) -> Iterator[pl.DataFrame]:
    done = 0
    for block in blocks:
        part = _parsed(path, block, "\t", list(range(5)), ["chrom", "pos", "id", "ref", "alt"])
        if part["alt"].null_count():
            # Empty lines, as at the end of some files, are no records.
            part = part.filter(~pl.all_horizontal(pl.all().is_null()))
        if part["alt"].null_count():
            row = done + int(part["alt"].is_null().arg_true()[0]) + 1
            raise CislensError(
                f"{path} record {row} has no five columns separated by tabs; the file is "
                "truncated or no VCF."
            )
        part = part.with_columns(pl.col("id").replace(".", None))
        yield part.with_row_index(ROW, done + 1)
        done += part.height


def _table_parts(path: Path, separator: str, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    with _opened(path) as handle:
        line, done = handle.readline(), 1
        while line.startswith(b"##"):
            line, done = handle.readline(), done + 1
        try:
            header = pl.read_csv(io.BytesIO(line), separator=separator, infer_schema=False)
        except pl.exceptions.PolarsError as error:
            raise CislensError(f"{path} is no readable table of variants: {error}.") from None
        found = find_columns(path, header.columns, columns)
        numbers = {header.columns.index(name): role for name, role in found.items()}
        order = sorted(numbers)
        for block in _blocks(handle):
            part = _parsed(path, block, separator, order, [numbers[at] for at in order], _MISSING)
            part = part.with_row_index(ROW, done + 1)
            done += part.height
            if "id" not in part.columns:
                part = part.with_columns(id=pl.lit(None, pl.String))
            # Empty lines count as lines only.
            yield part.filter(~pl.all_horizontal(pl.exclude(ROW).is_null())).select(
                ROW, "chrom", "pos", "id", "ref", "alt"
            )


def _parsed(
    path: Path, block: bytes, separator: str, at: list[int], names: list[str],
    missing: list[str] | None = None,
) -> pl.DataFrame:  # fmt: skip
    # A first line of its own, for one that is empty or short would set the number of columns.
    roles = dict(zip(at, names, strict=True))
    header = separator.join(roles.get(column, f"_{column}") for column in range(max(at) + 1))
    try:
        return pl.read_csv(
            io.BytesIO(header.encode() + b"\n" + block), separator=separator, columns=names,
            infer_schema=False, truncate_ragged_lines=True,
            quote_char='"' if missing else None, null_values=missing,
        )  # fmt: skip
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]  # what follows is advice on polars
        raise CislensError(f"{path} is no readable table of variants: {why}.") from None


def _parquet_parts(path: Path, columns: Mapping[str, str], chunk: int) -> Iterator[pl.DataFrame]:
    try:
        check_pages(path, memory())
        lazy = pl.scan_parquet(path, glob=False)
        found = find_columns(path, lazy.collect_schema().names(), columns)
        total = int(lazy.select(pl.len()).collect().item())
        picked = lazy.select(pl.col(name).alias(role) for name, role in found.items())
        for start in range(0, total, chunk):
            part = picked.slice(start, chunk).collect().with_row_index(ROW, start + 1)
            if "id" not in part.columns:
                part = part.with_columns(id=pl.lit(None, pl.String))
            yield part.with_columns(pl.col("chrom", "id", "ref", "alt").cast(pl.String)).select(
                ROW, "chrom", "pos", "id", "ref", "alt"
            )
    except CislensError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise CislensError(f"{path} is no readable parquet table: {error}.") from None


def _header(text: str) -> VariantHeader:
    contigs: dict[str, int] = {}
    values: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("##contig="):
            name = re.search(r"[<,]ID=([^,>]+)", line)
            length = re.search(r"[<,]length=(\d{1,18})(?!\d)", line)
            if name and length:
                contigs[name[1]] = int(length[1])
            build = re.search(r"[<,]assembly=\"?([^,>\"]+)", line)
            if build:
                values.setdefault("contig", build[1])
        elif line.startswith(("##reference=", "##assembly=")):
            key, _, value = line[2:].partition("=")
            values[key] = value.strip()
    assembly = values.get("assembly", values.get("contig"))
    return VariantHeader(contigs, values.get("reference"), assembly, text)


def variant_chromosomes(path: str | Path, columns: Mapping[str, str] | None = None) -> list[str]:
    """Names of the chromosomes that have variants: from the file's index, or else by reading it.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: as `stream_variants`.
    """
    path = require_file(path, "variant file")
    if file_kind(path) in ("vcf", "bcf"):
        indexed = indexed_chromosomes(path)
        if indexed:
            return indexed
    if file_kind(path) == "bcf":
        with opened_bcf(path) as file:
            return list(dict.fromkeys(record.chrom for record in file))
    names: dict[str, None] = {}
    for part in stream_variants(path, columns):
        names.update(dict.fromkeys(part["chrom"].drop_nulls().unique(maintain_order=True)))
    return list(names)
