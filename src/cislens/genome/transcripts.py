"""Genes as they are drawn: one transcript each with its exons and coding part, as BED12 rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from cislens.errors import CislensError
from cislens.genome.annotation import GFF3, GTF, before_sequence, read_genes
from cislens.genome.exons import read_blocks
from cislens.genome.intervals import Rows, is_whole, read_intervals, read_rows

_SCHEMA = {
    "chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "name": pl.String,
    "strand": pl.String, "thick_start": pl.Int64, "thick_end": pl.Int64,
    "block_sizes": pl.String, "block_starts": pl.String,
}  # fmt: skip
_Span = tuple[int, int]


def read_transcripts(path: str | Path) -> pl.DataFrame:
    """Columns of BED12 without score, color and count, 0-based half-open, in file order.

    Of each gene of GTF and GFF3 the transcript with the longest coding sequence, of those the one
    with the longest exons, of those the first; genes without exons whole. Each row of BED12.
    Rows of narrower BED whole. `thick_start` = `thick_end` = `end` where nothing is coding; whole
    rows are drawn as if they were.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line, for a line that is not of the format, or a file that
            holds no gene.
    """
    name = Path(path).name.removesuffix(".gz").lower()
    if name.endswith((".gtf", ".gff", ".gff3")):
        return _from_features(before_sequence(read_rows(path, "annotation file")), name)
    rows = read_intervals(path)
    if {"thick_start", "thick_end", "block_sizes", "block_starts", "strand"} <= set(rows.columns):
        read_blocks(path, rows)
        return rows.select(list(_SCHEMA))
    genes = read_genes(path)
    whole = [_row(*row) for row in genes.select("chrom", "start", "end", "name", "strand").rows()]
    return pl.DataFrame(whole, schema=_SCHEMA, orient="row")


@dataclass
class _Transcript:
    chrom: str
    strand: str
    gene: str
    exons: list[_Span] = field(default_factory=list)
    coding: list[_Span] = field(default_factory=list)

    def longest(self) -> tuple[int, int]:
        return tuple(sum(end - start for start, end in spans)
                     for spans in (self.coding, self.exons))  # type: ignore[return-value]  # fmt: skip


def _from_features(rows: Rows, name: str) -> pl.DataFrame:
    gtf = name.endswith("gtf")
    pattern = GTF if gtf else GFF3
    found: dict[tuple[str, str], _Transcript] = {}
    genes: dict[str, tuple[str, int, int, str]] = {}
    parents: dict[str, str] = {}
    names: dict[str, str] = {}
    for row, fields in enumerate(rows.fields):
        chrom, kind, (start, end), strand = _placed(rows, row)
        values = dict(pattern.findall(fields[8]))
        own = values.get("gene_id" if gtf else "ID", "")
        if own and kind.endswith("gene"):
            genes.setdefault(own, (chrom, start, end, strand))
        if called := values.get("gene_name") or values.get("Name"):
            names.setdefault(own, called)
        if not gtf and own and values.get("Parent"):
            parents[own] = values["Parent"]
        if kind not in ("exon", "CDS"):
            continue
        if strand not in ("+", "-"):
            raise rows.error(row, f"strand is {strand!r}, an exon needs '+' or '-'.")
        listed = values.get("transcript_id" if gtf else "Parent") or values.get("transcript_id")
        if not listed:
            raise rows.error(row, f"no transcript among the attributes {fields[8]!r}.")
        for one in [listed] if gtf else listed.split(","):
            of = found.setdefault(
                (chrom, one), _Transcript(chrom, strand, own if gtf and own else one)
            )
            (of.exons if kind == "exon" else of.coding).append((start, end))
    return _chosen(rows, found, genes, parents, names)


def _placed(rows: Rows, row: int) -> tuple[str, str, _Span, str]:
    fields = rows.fields[row]
    if len(fields) != 9:
        raise rows.error(row, f"{len(fields)} columns, expected 9 separated by tabs.")
    first, last = fields[3], fields[4]
    if not (is_whole(first) and is_whole(last) and 1 <= int(first) <= int(last)):
        raise rows.error(row, f"start {first!r} and end {last!r}, expected 1 <= start <= end.")
    return fields[0], fields[2], (int(first) - 1, int(last)), fields[6]


def _chosen(
    rows: Rows,
    found: Mapping[tuple[str, str], _Transcript],
    genes: Mapping[str, tuple[str, int, int, str]],
    parents: Mapping[str, str],
    names: Mapping[str, str],
) -> pl.DataFrame:
    best: dict[tuple[str, str], _Transcript] = {}
    for transcript in found.values():
        gene = transcript.gene if transcript.gene in genes else parents.get(
            transcript.gene, transcript.gene)  # fmt: skip
        before = best.get((transcript.chrom, gene))
        if before is None or transcript.longest() > before.longest():
            best[transcript.chrom, gene] = transcript
    drawn = []
    for (chrom, gene), one in best.items():
        # Bacterial genes and some others have coding parts alone.
        exons = sorted(one.exons or one.coding)
        label = unquote(names.get(gene, gene))
        drawn.append(_row(chrom, exons[0][0], exons[-1][1], label, one.strand, exons, one.coding))
    bare = [(*place, gene) for gene, place in genes.items() if (place[0], gene) not in best]
    drawn += [_row(chrom, start, end, unquote(names.get(gene, gene)), strand)
              for chrom, start, end, strand, gene in bare]  # fmt: skip
    if not drawn:
        raise CislensError(f"{rows.path} holds neither genes nor exons.")
    return pl.DataFrame(drawn, schema=_SCHEMA, orient="row")


def _row(
    chrom: str, start: int, end: int, name: str, strand: str,
    exons: list[_Span] | None = None, coding: list[_Span] | None = None,
) -> tuple[str, int, int, str, str, int, int, str, str]:  # fmt: skip
    thick = (start, end)
    if exons is not None:
        spans = coding or [(end, end)]
        thick = (min(s for s, _ in spans), max(e for _, e in spans))
    blocks = exons or [(start, end)]
    sizes = ",".join(str(e - s) for s, e in blocks)
    starts = ",".join(str(s - start) for s, _ in blocks)
    return chrom, start, end, name, strand, *thick, sizes, starts
