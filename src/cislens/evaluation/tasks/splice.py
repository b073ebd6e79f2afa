"""Splice sites of an annotation against decoys of the same genes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.background import BINARY, built_card, drawn
from cislens.evaluation.tasks.card import Metric, Target
from cislens.evaluation.tasks.genomic import on_genome, opened, several, signed_off
from cislens.evaluation.tasks.placing import place
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome import codes as dna
from cislens.genome.codes import Codes, gc_content, reverse_complement
from cislens.genome.exons import gene_spans, introns, read_exons
from cislens.genome.reference import Genome
from cislens.genome.sampling import standardized_difference
from cislens.randomness import generator
from cislens.recipes.task_sections import SpliceTask

Ints = npt.NDArray[np.int64]

CLASSES = ["donor", "acceptor", "neither"]
_MOST = 0.9  # of the sites that are wrong, if one mistake explains them
_PAIRS = {"donor": (dna.G, dna.T), "acceptor": (dna.A, dna.G)}
_SCHEMA = {
    "chrom": pl.String, "boundary": pl.Int64, "strand": pl.String, "gene": pl.String,
    "site": pl.String,
}  # fmt: skip


def build_splice(name: str, section: SpliceTask, store: TrainingStore | None, seed: int) -> Task:
    """A stranded task of splice sites; see `SpliceTask` and `splice_sites`."""
    genome, regions = opened(name, section, store)
    paths = several("genes", section.genes)
    exons = _exons(paths, genome)
    task = splice_sites(
        genome, exons, name=name, species=section.species, reach=section.reach,
        binary=section.binary, decoys=section.decoys, apart=section.apart, alike=section.alike,
        least_canonical=section.least_canonical, regions=regions, limit=section.limit, seed=seed,
    )  # fmt: skip
    rows = {"genes": exons.height} if len(paths) == 1 else {}
    return signed_off(task, section, {"genome": section.genome, **paths}, rows)


def _exons(paths: Mapping[str, Path], genome: Genome) -> pl.DataFrame:
    """Exons of one or several files; genes of different files are different genes."""
    tables = [on_genome(read_exons(path), genome, path) for path in paths.values()]
    if len(tables) == 1:
        return tables[0]
    return pl.concat(
        table.with_columns(pl.format("{}.{}", pl.lit(number), "gene").alias("gene"))
        for number, table in enumerate(tables, 1)
    )


def splice_sites(
    genome: Genome,
    exons: pl.DataFrame,
    *,
    name: str,
    species: str,
    reach: int = 200,
    binary: Literal["donor", "acceptor"] | None = None,
    decoys: int = 1,
    apart: int = 0,
    alike: bool = False,
    least_canonical: float = 0.95,
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
        apart: a decoy lies at least so many bp from any annotated site, on either strand.
        alike: of a gene's decoys those are taken that are nearest to its sites in GC.

    Raises:
        CislensError: if a smaller share than `least_canonical` of the annotated donors reads GT,
            or of the acceptors AG.
    """
    every = _sites(exons, ["donor", "acceptor"])
    _require_canonical(name, genome, every, least_canonical)
    sites = every.filter(pl.col("site") == binary) if binary else every
    canonical = _canonical(genome, sites)
    report: dict[str, str | int | float] = {
        "sites that are not GT or AG": sites.height - int(canonical.sum())
    }
    known = every if apart else sites
    sites = drawn(sites.filter(pl.Series(canonical)), limit, seed)
    if sites.is_empty():
        raise CislensError(f"task {name}: the annotation has no intron that begins with GT.")
    spans = gene_spans(exons).filter(pl.col("gene").is_in(sites["gene"].unique().to_list()))
    fakes = _decoys(genome, spans, sites, _Choice(known, decoys, apart, alike, reach, seed))
    report["decoys"] = fakes.height
    if alike:
        apart_gc = standardized_difference(*(_gc(genome, each, reach) for each in (sites, fakes)))
        report["standardized difference of gc"] = round(apart_gc, 4)
    rows = _windows(pl.concat([sites, fakes]), genome, reach)
    label = _labels(rows["site"], binary is not None)
    y = pl.Series(label[:, None].tolist(), dtype=pl.List(pl.Float32))
    rows = rows.with_columns(label=pl.Series(label), y=y)
    placed = place(rows, genome, seed, regions, label, stranded=True)
    target = Target(names=[binary or "site"], classes=[] if binary else CLASSES)
    metric = BINARY if binary else Metric(primary="macro_auroc", secondary=["accuracy", "mcc"])
    card = built_card(
        placed, report, regions, name=name, species=species, window=2 * reach, block="gene",
        kind="binary" if binary else "multiclass", target=target, metric=metric,
        assembly=genome.name, strand="stranded",
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _labels(site: pl.Series, binary: bool) -> Ints:
    """Numbers of the classes, or whether it is a site at all."""
    label = np.array([CLASSES.index(name) for name in site], np.int64)
    return (label != CLASSES.index("neither")).astype(np.int64) if binary else label


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


def _require_canonical(name: str, genome: Genome, sites: pl.DataFrame, least: float) -> None:
    """Refuse an annotation whose sites are not where the genome has GT and AG."""
    for site, pair in (("donor", "GT"), ("acceptor", "AG")):
        mine = sites.filter(pl.col("site") == site)
        if mine.is_empty():
            continue
        right = _canonical(genome, mine)
        share = right.mean()
        if share >= least:
            continue
        hint = (
            "it may be of another assembly or strand, or name other gaps introns (then lower "
            "`least_canonical`)."
        )
        wrong = mine.filter(pl.Series(~right))
        for shift in (-1, 1):
            moved = wrong.with_columns(boundary=pl.col("boundary") + shift)
            if _canonical(genome, moved).mean() >= _MOST:
                hint = (
                    f"but the others do when they are moved by {shift:+d} bp: its coordinates are "
                    "off by one (GTF and GFF3 count from 1 and include the end, BED counts from 0 "
                    "and does not)."
                )
        raise CislensError(
            f"task {name}: only {share:.1%} of {mine.height} annotated {site}s read {pair} in "
            f"{genome.path} (at least {least:.0%} must); the annotation does not fit "
            f"the genome, {hint}"
        )


@dataclass(frozen=True)
class _Choice:
    """How decoys are chosen; `known` are the sites that no decoy may be at, or near to."""

    known: pl.DataFrame
    count: int
    apart: int
    alike: bool
    reach: int
    seed: int


def _decoys(genome: Genome, spans: pl.DataFrame, sites: pl.DataFrame, how: _Choice) -> pl.DataFrame:
    """GT and AG of the genes that no annotated intron begins or ends at, as many of each as sites
    of the gene times `count`."""
    annotated = set(how.known.select("chrom", "boundary", "strand").iter_rows())
    near = {
        str(chrom): np.sort(part["boundary"].to_numpy())
        for (chrom,), part in how.known.group_by("chrom")
    }
    groups = dict(sites.group_by("gene", "site"))
    found: list[tuple[str, int, str, str, str]] = []
    for chrom, start, end, strand, gene in spans.iter_rows():
        codes = genome.fetch(chrom, start, end)
        if strand == "-":
            codes = reverse_complement(codes)
        for site in _PAIRS:
            mine = groups.get((gene, site))
            if mine is None:
                continue
            offsets = _offsets(codes, site)
            bounds = start + offsets if strand == "+" else end - offsets
            if how.apart:
                bounds = bounds[_distance(bounds, near[chrom]) >= how.apart]
            free = [b for b in bounds.tolist() if (chrom, b, strand) not in annotated]
            order = generator(how.seed, "decoys", gene, site).permutation(len(free))
            n = mine.height * how.count
            if how.alike and len(free) > n:
                order = _like(genome, mine, np.array(free)[order], order, how)
            found += [(chrom, free[at], strand, gene, "neither") for at in np.sort(order[:n])]
    return pl.DataFrame(found, schema=_SCHEMA, orient="row").unique(
        ["chrom", "boundary", "strand"], keep="first", maintain_order=True
    )


def _like(genome: Genome, mine: pl.DataFrame, free: Ints, order: Ints, how: _Choice) -> Ints:
    """Of the free places, `order` numbers them, for each site in turn the nearest in GC."""
    table = pl.DataFrame({"boundary": free}).with_columns(chrom=pl.lit(mine["chrom"][0]))
    gc = _gc(genome, table, how.reach)
    open_ = np.ones(len(free), bool)
    taken = []
    for wanted in np.tile(_gc(genome, mine, how.reach), how.count):
        at = int(np.argmin(np.where(open_, np.abs(gc - wanted), np.inf)))
        open_[at] = False
        taken.append(at)
    chosen: Ints = order[taken]
    return chosen


def _gc(genome: Genome, sites: pl.DataFrame, reach: int) -> npt.NDArray[np.float64]:
    codes = genome.windows(sites["chrom"], sites["boundary"].to_numpy() - reach, 2 * reach)
    return np.asarray(gc_content(codes), np.float64)


def _distance(places: Ints, known: Ints) -> Ints:
    """Bases from each place to the next known one; `known` is sorted and not empty."""
    at = np.searchsorted(known, places)
    right = np.abs(known[np.minimum(at, len(known) - 1)] - places)
    left = np.abs(known[np.maximum(at - 1, 0)] - places)
    nearest: Ints = np.minimum(left, right)
    return nearest


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
