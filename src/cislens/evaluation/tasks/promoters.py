"""Promoters against other sequence of the same genome, or against themselves rearranged."""

from pathlib import Path

import polars as pl

from cislens.evaluation.tasks.accessible import open_windows, with_open_background
from cislens.evaluation.tasks.background import built_card, with_background
from cislens.evaluation.tasks.card import Target
from cislens.evaluation.tasks.genomic import on_genome, parting, several, signed_off
from cislens.evaluation.tasks.placing import place
from cislens.evaluation.tasks.shuffled import segment_twin
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.tasks.tss import read_promoter_genes, tata_motif, tata_sites
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome import annotation
from cislens.genome.intervals import read_intervals, within
from cislens.genome.reference import Genome, open_genome
from cislens.randomness import generator
from cislens.recipes.promoters import PromoterTask, TataBox


def build_promoters(
    name: str, section: PromoterTask, store: TrainingStore | None, seed: int
) -> Task:
    """A binary task of promoters; see `PromoterTask` and `promoters`."""
    genome = open_genome(section.genome, section.species)
    regions = parting(name, section, genome, store)
    paths = several("genes", section.genes)
    files: dict[str, Path] = {"genome": section.genome, **paths}
    peaks = None
    if section.open is not None:
        files["open"] = section.open
        peaks = on_genome(read_intervals(section.open), genome, section.open)
    if section.tata is not None and section.tata.motifs is not None:
        files["motifs"] = section.tata.motifs
    task = promoters(
        genome, read_promoter_genes(list(paths.values()), section.collapse), name=name,
        species=section.species, width=section.width, downstream=section.downstream,
        jitter=section.jitter, peaks=peaks, away=section.away, tata=section.tata,
        stranded=section.stranded, regions=regions, limit=section.limit, seed=seed,
    )  # fmt: skip
    if section.negatives == "shuffled":
        task = segment_twin(task, seed=seed, name=name)
    return signed_off(task, section, files, {})


def promoters(
    genome: Genome,
    genes: pl.DataFrame,
    *,
    name: str,
    species: str,
    width: int = 512,
    downstream: int | None = None,
    jitter: bool = True,
    peaks: pl.DataFrame | None = None,
    away: int = 2000,
    tata: TataBox | None = None,
    stranded: bool = False,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Promoters (three quarters of the window upstream of the TSS) against matched background.

    Each window is moved at random by up to an eighth of its width: where the annotation begins a
    gene at its start codon, an ATG at a fixed position would tell the classes apart.

    Args:
        genes: as `annotation.read_genes` gives them; of windows that overlap the first is kept.
        downstream: bp from the TSS on, which counts; a quarter of the window unless given.
        jitter: if false, windows are not moved and the TSS lies at index width - downstream.
        peaks: accessible regions to draw the background from, at least `away` bp from any TSS;
            by default it is of the whole genome.
        tata: with it, `sites` of promoters are their TATA boxes, and one class may be kept.
        stranded: read windows on the promoter's strand.
        regions: windows of pre-training with their split, see `placing.place`.
        limit: at most so many promoters, drawn by the seed.
    """
    downstream = width - 3 * width // 4 if downstream is None else downstream
    windows = annotation.promoters(genes, width - downstream, downstream)
    if jitter:
        reach = width // 8
        shift = generator(seed, "promoters").integers(-reach, reach + 1, len(windows))
        windows = windows.with_columns(start=pl.col("start") + shift, end=pl.col("end") + shift)
    everywhere = within(windows, genome.chrom_sizes)
    keep: tuple[str, ...] = ("strand",) if stranded else ()
    found: dict[str, str | int | float] = {}
    if tata is not None:
        everywhere, found = _with_boxes(everywhere, genome, tata, stranded)
        keep = (*keep, "sites")
    if peaks is None:
        rows, report = with_background(genome, everywhere, windows, limit, seed, keep)
    else:
        candidates = open_windows(genome, peaks, width, _at_promoters(windows, away))
        rows, report = with_open_background(genome, everywhere, candidates, limit, seed, keep)
    placed = place(rows, genome, seed, regions, rows["label"].to_numpy(), stranded=stranded)
    card = built_card(
        placed, {**found, **report}, regions, name=name, species=species, window=width,
        target=Target(names=["promoter"]), assembly=genome.name,
        negatives="genomic" if peaks is None else "accessible",
        strand="stranded" if stranded else "unstranded",
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _at_promoters(windows: pl.DataFrame, away: int) -> pl.DataFrame:
    """What an open negative may not touch: promoters, and `away` bp around every TSS."""
    near = windows.select("chrom", start=pl.col("tss") - away, end=pl.col("tss") + 1 + away)
    return pl.concat([near, windows.select(near.columns)])


def _with_boxes(
    windows: pl.DataFrame, genome: Genome, tata: TataBox, stranded: bool
) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """The windows with their TATA boxes as `sites`, those of the class that is kept."""
    sites = tata_sites(windows, genome, tata_motif(tata), tata.p_value, stranded)
    has = sites.list.len() > 0
    report: dict[str, str | int | float] = {
        "promoters with a TATA box": int(has.sum()),
        "promoters without": int((~has).sum()),
    }
    windows = windows.with_columns(sites)
    if tata.keep is not None:
        windows = windows.filter(has if tata.keep == "only" else ~has)
    return windows, report
