"""Transcription starts of annotations, and the TATA boxes upstream of them."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from cislens.genome.annotation import read_genes
from cislens.genome.codes import reverse_complement
from cislens.genome.exons import read_exons
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome
from cislens.motifs.sites import Motif, consensus_motif, find_motif, read_meme, scan
from cislens.recipes.promoters import TataBox

# A TATA box begins in this part of a promoter, the TSS being 0 (both ends count).
TATA_FROM, TATA_TO = -40, -20


def read_promoter_genes(paths: Sequence[Path], collapse: int | None) -> pl.DataFrame:
    """Genes of one or several files, or with `collapse` the starts of their transcripts.

    Returns:
        As `annotation.read_genes`; with `collapse` see `collapsed`.
    """
    if collapse is None:
        return pl.concat([read_genes(path) for path in paths])
    return collapsed(pl.concat([read_starts(path) for path in paths]), collapse)


def read_starts(path: Path) -> pl.DataFrame:
    """First bases of all transcripts as `chrom,start,end,name,strand,gene_type`, one bp each.

    Transcripts of GTF, GFF3 and BED12 are found by their exons; in shorter BED, as in a list of
    TSSs, every row begins at its own first base.
    """
    if _without_exons(path):
        spans = read_genes(path)
    else:
        exons = read_exons(path)
        keys = ["chrom", "strand", "transcript"]
        spans = exons.group_by(keys, maintain_order=True).agg(
            pl.col("start").min(), pl.col("end").max()
        ).with_columns(name=pl.col("transcript"), gene_type=pl.lit(""))  # fmt: skip
    first = pl.when(pl.col("strand") == "+").then(pl.col("start")).otherwise(pl.col("end") - 1)
    return spans.select(
        "chrom", start=first, end=first + 1, name="name", strand="strand", gene_type="gene_type"
    )


def _without_exons(path: Path) -> bool:
    if Path(path).name.removesuffix(".gz").lower().endswith((".gtf", ".gff", ".gff3")):
        return False
    return "block_sizes" not in read_intervals(path).columns


def collapsed(starts: pl.DataFrame, reach: int) -> pl.DataFrame:
    """Of starts within `reach` bp on one strand the one that most transcripts have.

    Of equally supported ones the first in the direction of transcription stays. `support` counts
    the transcripts that begin at exactly that base.
    """
    counted = starts.group_by("chrom", "strand", "start", "end", maintain_order=True).agg(
        pl.col("name", "gene_type").first(), support=pl.len()
    )
    downstream = pl.when(pl.col("strand") == "+").then(pl.col("start")).otherwise(-pl.col("start"))
    ranked = counted.with_columns(downstream=downstream).sort(
        "chrom", "strand", "support", "downstream", descending=[False, False, True, False]
    )
    kept, taken, of = [], list[int](), ("", "")
    for chrom, strand, start in ranked.select("chrom", "strand", "start").iter_rows():
        if (chrom, strand) != of:
            taken, of = [], (chrom, strand)
        at = bisect_left(taken, start)
        near = any(abs(other - start) <= reach for other in taken[max(at - 1, 0) : at + 1])
        kept.append(not near)
        if not near:
            insort(taken, start)
    columns = ["chrom", "start", "end", "name", "strand", "gene_type", "support"]
    return ranked.filter(pl.Series(kept)).select(columns).sort("chrom", "start", "strand")


def tata_motif(section: TataBox) -> Motif:
    """The motif that a section names."""
    if section.motifs is None:
        return consensus_motif(section.motif)
    return find_motif(read_meme(section.motifs), section.motif)


def tata_sites(
    windows: pl.DataFrame, genome: Genome, motif: Motif, p_value: float, stranded: bool
) -> pl.Series:
    """The TATA boxes of promoters as `{"start", "end"}` in the window; an empty list for none.

    A box is a hit of the motif on the promoter's strand that begins in -40 .. -20 of the TSS.

    Args:
        windows: `chrom,start,end,strand,tss`.
        stranded: whether the windows are read on the promoter's strand, else forward.
    """
    size, reach = len(motif), len(motif) + TATA_TO - TATA_FROM
    forward = (windows["strand"] == "+").to_numpy()
    tss = windows["tss"].to_numpy()
    first = np.where(forward, tss + TATA_FROM, tss - TATA_FROM + 1 - reach)
    codes = genome.windows(windows["chrom"], first, reach)
    codes[~forward] = reverse_complement(codes[~forward])
    sites: list[list[dict[str, int]]] = [[] for _ in tss]
    width = int(windows["end"][0] - windows["start"][0]) if windows.height else 0
    left = windows["start"].to_numpy()
    hits = scan(list(codes), motif, p_value, stranded=True)
    for row, at in hits.select("sequence", "start").iter_rows():
        here = first[row] + (at if forward[row] else reach - at - size)
        begin = int(here - left[row])
        if stranded and not forward[row]:
            begin = width - begin - size
        site = {"start": max(begin, 0), "end": min(begin + size, width)}
        if site["start"] < site["end"]:
            sites[row].append(site)
    struct = pl.Struct({"start": pl.Int64, "end": pl.Int64})
    return pl.Series("sites", sites, dtype=pl.List(struct))
