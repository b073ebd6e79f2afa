"""Exons of transcripts, from GTF, GFF3 or BED12, and the introns between them."""

from pathlib import Path

import polars as pl

from cislens.errors import CislensError
from cislens.genome.annotation import GFF3, GTF, before_sequence
from cislens.genome.homology import components
from cislens.genome.intervals import Rows, is_whole, read_intervals, read_rows

_STRANDS = ("+", "-")
_SCHEMA = {
    "chrom": pl.String, "start": pl.Int64, "end": pl.Int64, "strand": pl.String,
    "transcript": pl.String,
}  # fmt: skip


def read_exons(path: str | Path) -> pl.DataFrame:
    """Exons as `chrom,start,end,strand,transcript,gene`, 0-based half-open.

    Transcripts of one strand whose exons overlap are of one gene, whatever the file calls them:
    some annotations name every transcript a gene of its own.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line, for a line that is not of the format, an exon without
            strand or transcript, or a file without exons.
    """
    name = Path(path).name.removesuffix(".gz").lower()
    if name.endswith((".gtf", ".gff", ".gff3")):
        exons = _from_features(read_rows(path, "annotation file"), name.endswith("gtf"))
    else:
        exons = read_blocks(path, read_intervals(path))
    if exons.is_empty():
        raise CislensError(f"{path} holds no exon.")
    return _with_genes(exons)


def introns(exons: pl.DataFrame) -> pl.DataFrame:
    """Introns as `chrom,start,end,strand,gene`, each once."""
    keys = ["chrom", "strand", "gene", "transcript"]
    ordered = exons.sort(*keys, "start")
    following = pl.col("start").shift(-1).over(keys)
    gaps = ordered.select(*keys, start=pl.col("end"), end=following)
    return (
        gaps.filter(pl.col("start") < pl.col("end"))
        .select("chrom", "start", "end", "strand", "gene")
        .unique(["chrom", "start", "end", "strand"], keep="first", maintain_order=True)
    )


def gene_spans(exons: pl.DataFrame) -> pl.DataFrame:
    """The genes as `chrom,start,end,strand,gene`."""
    return exons.group_by("chrom", "strand", "gene", maintain_order=True).agg(
        pl.col("start").min(), pl.col("end").max()
    ).select("chrom", "start", "end", "strand", "gene")  # fmt: skip


def _from_features(rows: Rows, gtf: bool) -> pl.DataFrame:
    pattern, keys = (GTF, ("transcript_id",)) if gtf else (GFF3, ("Parent", "transcript_id"))
    found = []
    rows = before_sequence(rows)
    for row, fields in enumerate(rows.fields):
        if len(fields) != 9:
            raise rows.error(row, f"{len(fields)} columns, expected 9 separated by tabs.")
        if fields[2] != "exon":
            continue
        first, last, strand = fields[3], fields[4], fields[6]
        if not (is_whole(first) and is_whole(last) and 1 <= int(first) <= int(last)):
            raise rows.error(row, f"start {first!r} and end {last!r}, expected 1 <= start <= end.")
        if strand not in _STRANDS:
            raise rows.error(row, f"strand is {strand!r}, an exon needs '+' or '-'.")
        values = dict(pattern.findall(fields[8]))
        transcript = next((values[key] for key in keys if values.get(key)), None)
        if transcript is None:
            raise rows.error(row, f"no {' or '.join(keys)} among the attributes {fields[8]!r}.")
        # An exon of GFF3 may be of several transcripts.
        found += [
            (fields[0], int(first) - 1, int(last), strand, parent)
            for parent in transcript.split(",")
        ]
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")


def read_blocks(path: str | Path, frame: pl.DataFrame) -> pl.DataFrame:
    """The blocks of BED12 rows as `chrom,start,end,strand,transcript`.

    Raises:
        CislensError: naming `path`, for rows that are no BED12, or a transcript whose blocks
            are not as many whole numbers in both columns.
    """
    if not {"block_sizes", "block_starts", "strand"} <= set(frame.columns):
        raise CislensError(f"{path}: exons are read from GTF, GFF3 or BED with twelve columns.")
    columns = ("chrom", "start", "strand", "name", "block_sizes", "block_starts")
    found = []
    for number, (chrom, start, strand, name, sizes, starts) in enumerate(
        frame.select(columns).iter_rows()
    ):
        if strand not in _STRANDS:
            raise CislensError(f"{path}: transcript {name!r} has no strand (+ or -).")
        offsets, lengths = starts.strip(",").split(","), sizes.strip(",").split(",")
        if len(offsets) != len(lengths) or not all(map(is_whole, [*offsets, *lengths])):
            raise CislensError(
                f"{path}: transcript {name!r} has blocks of {sizes!r} bp at {starts!r}, expected "
                "as many whole numbers in both."
            )
        found += [
            (chrom, start + int(offset), start + int(offset) + int(size), strand,
             f"{name}.{number}")
            for offset, size in zip(offsets, lengths, strict=True)
        ]  # fmt: skip
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")


def _with_genes(exons: pl.DataFrame) -> pl.DataFrame:
    order = exons.with_row_index("row").sort("chrom", "strand", "start")
    reach = pl.col("end").cum_max().shift(1).over("chrom", "strand")
    run = (pl.col("start") >= reach).fill_null(value=True).cum_sum()
    overlapping = order.with_columns(run=run).with_columns(
        before=pl.col("row").shift(1).over("run")
    )
    same = exons.with_row_index("row").with_columns(
        before=pl.col("row").shift(1).over("chrom", "strand", "transcript")
    )
    pairs = [
        frame.drop_nulls("before").select("before", "row").cast(pl.Int64).to_numpy().reshape(-1, 2)
        for frame in (overlapping, same)
    ]
    gene = components(exons.height, *pairs)
    return exons.with_columns(gene=pl.Series([f"g{number}" for number in gene]))
