"""Genes and their promoters, from GTF, GFF3 or BED."""

import re
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from cislens.errors import CislensError
from cislens.genome.intervals import Rows, is_whole, read_intervals, read_rows

_STRANDS = ("+", "-")
# Key and value of each attribute in column 9.
GTF = re.compile(r'(\w+)\s+"?([^";]*)"?')
GFF3 = re.compile(r"([^=;\s]+)=([^;]*)")
_NAMES = ("gene_name", "Name", "gene_id", "ID", "Parent")
_TYPES = ("gene_type", "gene_biotype", "biotype")


def read_genes(path: str | Path) -> pl.DataFrame:
    """Genes as `chrom,start,end,name,strand,gene_type`, 0-based half-open, in file order.

    GTF and GFF3 (by extension, plain or gzip) give their gene features; where there is none, as
    in the tables of the UCSC browser, the exons of a gene_id on one chromosome and strand make a
    gene. BED needs a strand column; a text column after it is the gene type. Without a type,
    `gene_type` is "".

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line, for a line that is not of the format, a gene without a
            strand, or a file without genes.
    """
    name = Path(path).name.removesuffix(".gz").lower()
    if name.endswith((".gtf", ".gff", ".gff3")):
        return _features(path, GTF if name.endswith("gtf") else GFF3)
    intervals = read_intervals(path)
    if "strand" not in intervals.columns:
        raise CislensError(f"{path}: genes need a strand in column 6.")
    kind = pl.col("column_7") if "column_7" in intervals.columns else pl.lit("")
    genes = intervals.select("chrom", "start", "end", "name", "strand", gene_type=kind)
    bare = genes.filter(~pl.col("strand").is_in(_STRANDS))
    if len(bare):
        raise CislensError(f"{path}: gene {bare['name'][0]!r} has no strand (+ or -).")
    return genes


def _features(path: str | Path, attribute: re.Pattern[str]) -> pl.DataFrame:
    rows = before_sequence(read_rows(path, "annotation file"))
    for row, fields in enumerate(rows.fields):
        if len(fields) != 9:
            raise rows.error(row, f"{len(fields)} columns, expected 9 separated by tabs.")
    picked = [row for row, fields in enumerate(rows.fields) if fields[2].endswith("gene")]
    whole = bool(picked)
    if not whole:
        picked = [row for row, fields in enumerate(rows.fields) if fields[2] == "exon"]
    if not picked:
        raise CislensError(f"{rows.path} holds neither genes nor exons.")
    genes = pl.DataFrame(
        [_gene(rows, row, attribute, whole) for row in picked],
        schema={"chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "name": pl.String,
                "strand": pl.String, "gene_type": pl.String},
        orient="row",
    )  # fmt: skip
    if whole:
        return genes
    keys = ["chrom", "name", "strand"]
    merged = genes.group_by(keys, maintain_order=True).agg(
        pl.col("start").min(), pl.col("end").max(), pl.col("gene_type").first()
    )
    return merged.select(genes.columns)


def before_sequence(rows: Rows) -> Rows:
    """GFF3 may carry the genome itself at its end."""
    for row, fields in enumerate(rows.fields):
        if fields[0].startswith(">"):
            return Rows(rows.path, rows.numbers[:row], rows.fields[:row])
    return rows


def _gene(
    rows: Rows, row: int, attribute: re.Pattern[str], whole: bool
) -> tuple[str, int, int, str, str, str]:
    chrom, _source, _feature, first, last, _score, strand, _phase, text = rows.fields[row]
    if not (is_whole(first) and is_whole(last) and 1 <= int(first) <= int(last)):
        raise rows.error(row, f"start {first!r} and end {last!r}, expected 1 <= start <= end.")
    if strand not in _STRANDS:
        raise rows.error(row, f"strand is {strand!r}, a gene needs '+' or '-'.")
    values = dict(attribute.findall(text))
    # Exons are joined by the gene they name; their own name is another.
    names = _NAMES if whole else ("gene_id", "Parent")
    name = next((values[key] for key in names if values.get(key)), None)
    if name is None:
        raise rows.error(row, f"no {' or '.join(names)} among the attributes {text!r}.")
    kind = next((values[key] for key in _TYPES if values.get(key)), "")
    return chrom, int(first) - 1, int(last), unquote(name), strand, kind


def promoters(genes: pl.DataFrame, upstream: int, downstream: int) -> pl.DataFrame:
    """The windows from `upstream` bp before to `downstream` bp after each gene's first base.

    The first base, kept as `tss`, counts as downstream, so a window has upstream + downstream bp.
    Windows of genes near a chromosome's end may reach over it; see `intervals.within`.

    Raises:
        CislensError: if the windows would be empty.
    """
    if upstream + downstream <= 0:
        raise CislensError(f"promoters of {upstream} + {downstream} bp are empty.")
    forward = pl.col("strand") == "+"
    tss = pl.when(forward).then(pl.col("start")).otherwise(pl.col("end") - 1)
    placed = genes.with_columns(tss=tss)
    start = (
        pl.when(forward)
        .then(pl.col("tss") - upstream)
        .otherwise(pl.col("tss") + 1 - downstream)
    )  # fmt: skip
    placed = placed.with_columns(start=start)
    return placed.with_columns(end=pl.col("start") + upstream + downstream)
