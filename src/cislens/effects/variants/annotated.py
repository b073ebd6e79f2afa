"""The input's own VCF records with what was found in their INFO fields.

Records and header stay as they are, byte for byte; lines of INFO are added to the header and
fields to the records. Input that is no VCF gives records of its scored variants.
"""

import gzip
import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pysam

from cislens.effects.variants.calibration import Values
from cislens.effects.variants.output import Columns, matrix_of
from cislens.files import atomic_path
from cislens.genome.reference import Genome

logger = logging.getLogger("cislens")

LEFT_OUT = "CISLENS_LEFT_OUT"
ELSEWHERE = "elsewhere"
_KEY = tuple[int, int]
_Row = tuple[dict[str, Any], dict[str, str]]
_HELD = 4096
_NAMES = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
# What separates values, keys and the parts of CISLENS_TOP may not occur in a value.
_ESCAPED = {ord(mark): f"%{ord(mark):02X}" for mark in "%|,;= \t"}
_TBI_LIMIT = 1 << 29
_BEST = "of the best track, against the best track of background variants"
_SCALARS = {"llr": "CISLENS_LLR", "embedding_l2": "CISLENS_EMBED"}


def info_fields(columns: Columns, calibrated: bool, genes: bool) -> dict[str, tuple[str, str]]:
    """Type and description of each field, in the order of the header; each has Number=A."""
    found: dict[str, tuple[str, str]] = {}
    if columns.headline is not None:
        found["CISLENS_TOP"] = (
            "String",
            f"Track that stands out most: track|{columns.headline}|percentile|q",
        )
        found["CISLENS_MAX"] = (
            "Float",
            f"{columns.headline} of the track where |score| is largest",
        )
        if calibrated:
            found["CISLENS_PCT"] = ("Float", f"Percentile, 0 to 100, {_BEST}")
            found["CISLENS_Q"] = ("Float", f"False discovery rate {_BEST}")
    for name, field in _SCALARS.items():
        if name in columns.scalars:
            found[field] = ("Float", "Log p(alt) - log p(ref)" if name == "llr" else "Embedding L2")
            if calibrated:
                found[f"{field}_PCT"] = ("Float", f"Percentile of |{field}|, 0 to 100")
    if genes:
        found["CISLENS_GENE"] = ("String", "Gene whose transcription start is nearest")
    found["CISLENS_NORM"] = ("String", "pos:ref:alt as scored, where trimmed or moved")
    return found


def field_values(
    table: pl.DataFrame, columns: Columns, calibrated: bool, genes: bool
) -> Iterator[tuple[_KEY, dict[str, str]]]:
    """Place in the source and text of each field of finished variants, fields without it absent."""
    numbers: dict[str, Values] = {}
    names = ["source_row", "allele", "pos", "ref", "alt", "given"]
    if columns.headline is not None:
        scores_mT = matrix_of(table[columns.headline])
        largest = np.where(np.isnan(scores_mT), -1, np.abs(scores_mT)).argmax(1)
        numbers["CISLENS_MAX"] = scores_mT[np.arange(len(scores_mT)), largest]
        names += ["top_1_track", "top_1_score"]
        if calibrated:
            numbers["CISLENS_PCT"] = matrix_of(table["any_percentile"])
            numbers["CISLENS_Q"] = matrix_of(table["any_q"])
            names += ["top_1_percentile", "top_1_q"]
    for name, field in _SCALARS.items():
        if name in columns.scalars:
            numbers[field] = matrix_of(table[name])
            if calibrated:
                numbers[f"{field}_PCT"] = matrix_of(table[f"{name}_percentile"])
    rows = table.select(*names, *(["gene"] if genes else []))
    for index, row in enumerate(rows.iter_rows(named=True)):
        values = {name: _number(column[index]) for name, column in numbers.items()}
        if columns.headline:
            parts = [row["top_1_track"].translate(_ESCAPED)]
            parts += [_number(row.get(f"top_1_{name}")) for name in ("score", "percentile", "q")]
            values["CISLENS_TOP"] = "|".join(parts)
        if genes and row["gene"] is not None:
            values["CISLENS_GENE"] = row["gene"].translate(_ESCAPED)
        scored = f"{row['pos']}:{row['ref']}:{row['alt']}"
        if not row["given"].upper().endswith(f":{scored}"):
            values["CISLENS_NORM"] = scored
        yield (row["source_row"], row["allele"]), values


def write_annotated(
    out: Path,
    source: Path,
    fields: Mapping[str, tuple[str, str]],
    scored: Iterator[tuple[_KEY, dict[str, str]]],
    left_out: Iterator[tuple[_KEY, str]],
    rest: str = "",
) -> bool:
    """Write a VCF's or BCF's records with the fields of their alleles, bgzip; index it.

    Args:
        scored, left_out: by record (from 1) and allele (from 0), ascending.
        rest: why alleles are in neither, as where only those near a gene are scored.

    Returns:
        Whether it was indexed, which needs records in the order of positions.
    """
    pending = _Merged(scored, left_out)
    header, records = _text_of(source)

    def lines() -> Iterator[str]:
        for number, line in enumerate(records, 1):
            yield _annotated(line, fields, pending.of(number), rest) + "\n"

    return _write(out, _header(header, fields), lines())


def write_own(
    out: Path,
    genome: Genome,
    fields: Mapping[str, tuple[str, str]],
    scored: Iterable[_Row],
) -> bool:
    """Write a record for each scored variant (`chrom, pos, ref, alt, id`), as `write_annotated`.

    Left-alignment moves some variants before their neighbors in the source; records that are
    less than 4,096 out of place on their chromosome are put in order.
    """
    header = ["##fileformat=VCFv4.3", f"##reference={genome.path.name}"]
    header += [f"##contig=<ID={name},length={n}>" for name, n in genome.chrom_sizes.items()]
    header.append("\t".join(_NAMES))

    def lines() -> Iterator[str]:
        for row, values in _by_position(scored):
            name = "_".join((row["id"] or ".").split())  # VCF has no blanks there
            start = [row["chrom"], str(row["pos"]), name or ".", row["ref"], row["alt"]]
            yield _annotated("\t".join(start), fields, {0: values}) + "\n"

    return _write(out, _header(header, fields), lines())


def _by_position(scored: Iterable[_Row]) -> Iterator[_Row]:
    held: list[tuple[int, int, _Row]] = []
    chrom = None
    for number, row in enumerate(scored):
        while held and (len(held) >= _HELD or row[0]["chrom"] != chrom):
            yield heapq.heappop(held)[2]
        chrom = row[0]["chrom"]
        heapq.heappush(held, (row[0]["pos"], number, row))
    while held:
        yield heapq.heappop(held)[2]


class _Merged:
    """Values of alleles by record, from two streams in the order of the source."""

    def __init__(
        self, scored: Iterator[tuple[_KEY, dict[str, str]]], left_out: Iterator[tuple[_KEY, str]]
    ) -> None:
        reasons = ((key, {LEFT_OUT: reason}) for key, reason in left_out)
        self._streams = (scored, reasons)
        self._heads = [next(stream, None) for stream in self._streams]

    def of(self, record: int) -> dict[int, dict[str, str]]:
        """Values by allele of one record; records are asked for in ascending order."""
        found: dict[int, dict[str, str]] = {}
        for index, stream in enumerate(self._streams):
            head = self._heads[index]
            while head is not None and head[0][0] <= record:
                if head[0][0] == record:
                    found[head[0][1]] = head[1]
                head = next(stream, None)
            self._heads[index] = head
        return found


def _annotated(
    line: str,
    fields: Mapping[str, tuple[str, str]],
    values: Mapping[int, dict[str, str]],
    rest: str = "",
) -> str:
    cells = _filled(line.split("\t"))
    alleles = cells[4].count(",") + 1
    kept = [part for part in cells[7].split(";") if not part.startswith("CISLENS_")]
    info = [part for part in kept if part not in ("", ".")]
    other = {LEFT_OUT: rest} if rest else {}
    names = (*fields, LEFT_OUT) if values or rest else ()
    given = [values.get(allele, other) for allele in range(alleles)]
    for name in names:
        text = ",".join([one.get(name, ".") for one in given])
        if text.strip(".,"):
            info.append(f"{name}={text}")
    cells[7] = ";".join(info) or "."
    return "\t".join(cells)


def _filled(cells: list[str]) -> list[str]:
    """The columns of a record up to INFO, which some files of sites leave out."""
    return cells + ["."] * (len(_NAMES) - len(cells))


def _header(lines: list[str], fields: Mapping[str, tuple[str, str]]) -> str:
    kept = [line for line in lines if not line.startswith("##INFO=<ID=CISLENS_")]
    added = [
        f'##INFO=<ID={name},Number=A,Type={kind},Description="{meaning}">'
        for name, (kind, meaning) in fields.items()
    ]
    added.append(
        f"##INFO=<ID={LEFT_OUT},Number=.,Type=String,"
        'Description="Why an alternate allele was not scored, one value per allele">'
    )
    names = kept[-1].split("\t")
    return "\n".join([*kept[:-1], *added, "\t".join([*names, *_NAMES[len(names) :]])]) + "\n"


def _text_of(source: Path) -> tuple[list[str], Iterator[str]]:
    """Header lines and records, without line ends."""
    lines = _lines(source)
    header: list[str] = []
    for line in lines:
        header.append(line)
        if not line.startswith("##"):
            break
    return header, (line for line in lines if line.strip())


def _lines(source: Path) -> Iterator[str]:
    if source.name.lower().endswith(".bcf"):
        with pysam.VariantFile(str(source)) as file:
            yield from str(file.header).splitlines()
            for record in file:
                yield str(record).rstrip("\n")
        return
    with source.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(source, "rb") if packed else source.open("rb") as handle:
        for line in handle:
            # Bytes that are no UTF-8 come out as they went in.
            yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _write(out: Path, header: str, lines: Iterator[str]) -> bool:
    order = _Order()
    for index in (out.with_name(out.name + ".tbi"), out.with_name(out.name + ".csi")):
        index.unlink(missing_ok=True)
    with atomic_path(out) as aside, pysam.BGZFile(str(aside), "wb", None) as handle:
        handle.write(header.encode("utf-8", "surrogateescape"))
        for line in lines:
            order.see(line)
            handle.write(line.encode("utf-8", "surrogateescape"))
    if not order.kept:
        logger.warning("%s is not indexed: its records are not sorted by position", out)
        return False
    pysam.tabix_index(str(out), preset="vcf", force=True, csi=order.furthest >= _TBI_LIMIT)
    return True


class _Order:
    """Whether records come by chromosome and position."""

    def __init__(self) -> None:
        self.kept, self.furthest = True, 0
        self._seen: set[str] = set()
        self._chrom, self._pos = "", 0

    def see(self, line: str) -> None:
        chrom, pos, _ = line.split("\t", 2)
        if chrom != self._chrom:
            self.kept &= chrom not in self._seen
            self._seen.add(chrom)
            self._chrom, self._pos = chrom, 0
        self.kept &= int(pos) >= self._pos
        self._pos = int(pos)
        self.furthest = max(self.furthest, self._pos)


def _number(value: float | None) -> str:
    return "." if value is None or value != value else f"{value:.5g}"
