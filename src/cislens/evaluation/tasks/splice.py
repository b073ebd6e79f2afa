"""Splice sites of an annotation against decoys of the same genes."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.background import BINARY, built_card, drawn
from cislens.evaluation.tasks.card import Metric, Target
from cislens.evaluation.tasks.genomic import on_genome, opened, signed_off
from cislens.evaluation.tasks.placing import place
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome import codes as dna
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.exons import gene_spans, introns, read_exons
from cislens.genome.reference import Genome
from cislens.randomness import generator
from cislens.recipes.task_sections import SpliceTask
from cislens.signal.store import ProfileStore

CLASSES = ["donor", "acceptor", "neither"]
_PAIRS = {"donor": (dna.G, dna.T), "acceptor": (dna.A, dna.G)}
_SCHEMA = {
    "chrom": pl.String, "boundary": pl.Int64, "strand": pl.String, "gene": pl.String,
    "site": pl.String,
}  # fmt: skip


def build_splice(name: str, section: SpliceTask, store: ProfileStore | None, seed: int) -> Task:
    """A stranded task of splice sites; see `SpliceTask` and `splice_sites`."""
    genome, regions = opened(name, section, store)
    exons = on_genome(read_exons(section.genes), genome, section.genes)
    task = splice_sites(
        genome, exons, name=name, species=section.species, reach=section.reach,
        binary=section.binary, decoys=section.decoys, regions=regions, limit=section.limit,
        seed=seed,
    )  # fmt: skip
    files = {"genome": section.genome, "genes": section.genes}
    return signed_off(task, section, files, {"genes": exons.height})


def splice_sites(
    genome: Genome,
    exons: pl.DataFrame,
    *,
    name: str,
    species: str,
    reach: int = 200,
    binary: Literal["donor", "acceptor"] | None = None,
    decoys: int = 1,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Donors (GT) and acceptors (AG) of introns against GT and AG elsewhere in the same genes.

    A window holds `reach` bp at either side of the boundary between exon and intron, read on the
    gene's strand; so GT lies at index `reach` and AG before it. Sites that are not GT or AG are
    left out, for the two bases would tell them from the decoys. A gene is a block.

    Args:
        exons: as `exons.read_exons` gives them.
        binary: only sites of this kind; None for donor, acceptor and neither.
        decoys: how many for each site, as far as the gene has them.
    """
    kinds: list[str] = [binary] if binary else ["donor", "acceptor"]
    sites = _sites(exons, kinds)
    canonical = _canonical(genome, sites)
    report: dict[str, str | int | float] = {
        "sites that are not GT or AG": sites.height - int(canonical.sum())
    }
    known = sites
    sites = drawn(sites.filter(pl.Series(canonical)), limit, seed)
    if sites.is_empty():
        raise CislensError(f"task {name}: the annotation has no intron that begins with GT.")
    spans = gene_spans(exons).filter(pl.col("gene").is_in(sites["gene"].unique().to_list()))
    fakes = _decoys(genome, spans, sites, known, decoys, seed)
    report["decoys"] = fakes.height
    rows = _windows(pl.concat([sites, fakes]), genome, reach)
    label = rows["site"].replace_strict(
        {site: number for number, site in enumerate(CLASSES)}, return_dtype=pl.Int64
    ).to_numpy()  # fmt: skip
    if binary:
        label = (label != CLASSES.index("neither")).astype(np.int64)
    rows = rows.with_columns(
        label=pl.Series(label), y=pl.Series(label[:, None].tolist(), dtype=pl.List(pl.Float32))
    )
    placed = place(rows, genome, seed, regions, label, stranded=True)
    target = Target(names=[binary or "site"], classes=[] if binary else CLASSES)
    metric = BINARY if binary else Metric(primary="macro_auroc", secondary=["accuracy", "mcc"])
    card = built_card(
        placed, report, regions, name=name, species=species, window=2 * reach, block="gene",
        kind="binary" if binary else "multiclass", target=target, metric=metric,
        assembly=genome.name, strand="stranded",
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _sites(exons: pl.DataFrame, kinds: list[str]) -> pl.DataFrame:
    """Boundaries of introns: the position of the first base after the boundary, forward."""
    found = introns(exons)
    forward = pl.col("strand") == "+"
    ends = {
        "donor": pl.when(forward).then(pl.col("start")).otherwise(pl.col("end")),
        "acceptor": pl.when(forward).then(pl.col("end")).otherwise(pl.col("start")),
    }
    tables = [
        found.select("chrom", "strand", "gene", boundary=ends[kind], site=pl.lit(kind))
        for kind in kinds
    ]
    unique = pl.concat(tables).unique(["chrom", "boundary", "strand", "site"], keep="first")
    return unique.select(list(_SCHEMA)).sort("chrom", "boundary", "strand", "site")


def _canonical(genome: Genome, sites: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether the two bases of the intron at each boundary are GT, or AG."""
    right = np.zeros(sites.height, bool)
    for row, (chrom, boundary, strand, _gene, site) in enumerate(sites.iter_rows()):
        # On the strand of the gene the donor's bases lie after the boundary, the acceptor's before.
        after = (site == "donor") == (strand == "+")
        pair = genome.fetch(chrom, boundary, boundary + 2) if after else genome.fetch(
            chrom, boundary - 2, boundary
        )  # fmt: skip
        bases = reverse_complement(pair) if strand == "-" else pair
        right[row] = tuple(bases.tolist()) == _PAIRS[site]
    return right


def _decoys(
    genome: Genome, spans: pl.DataFrame, sites: pl.DataFrame, known: pl.DataFrame, count: int,
    seed: int,
) -> pl.DataFrame:  # fmt: skip
    """GT and AG of the genes that no annotated intron begins or ends at, as many of each as sites
    of the gene times `count`."""
    annotated = set(known.select("chrom", "boundary", "strand").iter_rows())
    wanted = {(gene, site): n for gene, site, n in sites.group_by("gene", "site").len().iter_rows()}
    found: list[tuple[str, int, str, str, str]] = []
    for chrom, start, end, strand, gene in spans.iter_rows():
        codes = genome.fetch(chrom, start, end)
        if strand == "-":
            codes = reverse_complement(codes)
        for site in _PAIRS:
            n = wanted.get((gene, site), 0) * count
            if not n:
                continue
            offsets = _offsets(codes, site)
            bounds = start + offsets if strand == "+" else end - offsets
            free = [b for b in bounds.tolist() if (chrom, b, strand) not in annotated]
            order = generator(seed, "decoys", gene, site).permutation(len(free))[:n]
            found += [(chrom, free[at], strand, gene, "neither") for at in np.sort(order)]
    return pl.DataFrame(found, schema=_SCHEMA, orient="row").unique(
        ["chrom", "boundary", "strand"], keep="first", maintain_order=True
    )


def _offsets(codes: Codes, site: str) -> npt.NDArray[np.int64]:
    """Boundaries, counted on the strand of the gene, at which a decoy of the site lies."""
    first, second = _PAIRS[site]
    at = np.flatnonzero((codes[:-1] == first) & (codes[1:] == second))
    return at if site == "donor" else at + 2


def _windows(sites: pl.DataFrame, genome: Genome, reach: int) -> pl.DataFrame:
    rows = sites.with_columns(
        start=pl.col("boundary") - reach, end=pl.col("boundary") + reach, group=pl.col("gene")
    )
    size = pl.col("chrom").replace_strict(genome.chrom_sizes, return_dtype=pl.Int64)
    rows = rows.filter((pl.col("start") >= 0) & (pl.col("end") <= size))
    return rows.with_columns(
        example_id=pl.format("{}:{}({}){}", "chrom", "boundary", "strand", "site")
    )
