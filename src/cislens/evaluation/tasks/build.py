"""Tasks as a recipe asks for them."""

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.builders import accessibility, peaks, profile_windows, promoters
from cislens.evaluation.tasks.exposure import without_seen
from cislens.evaluation.tasks.registry import make_section
from cislens.evaluation.tasks.task import Task
from cislens.genome.annotation import read_genes
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome, open_genome
from cislens.recipes.schema import (
    AccessibilityTask,
    AnyTask,
    PeakTask,
    PromoterTask,
    SavedTask,
    WindowTask,
)
from cislens.signal.store import ProfileStore


def build_task(name: str, section: AnyTask, store: ProfileStore | None, seed: int) -> Task:
    """The task that a recipe's section describes.

    Args:
        store: whose windows give examples of its species their split; None to split them anew.

    Raises:
        CislensError: if a file does not fit, or a task on windows has no store.
    """
    match section:
        case SavedTask():
            return without_seen(Task.load(section.folder), store)
        case WindowTask():
            if store is None:
                raise CislensError(f"task {name}: windows need a profile store; add `store:`.")
            return profile_windows(
                store, section.species, name=name, width=section.width, limit=section.limit,
                seed=seed,
            )  # fmt: skip
        case PromoterTask() | PeakTask() | AccessibilityTask():
            return without_seen(_annotated(name, section, store, seed), store)
    return make_section(name, section, store, seed)


def _annotated(
    name: str,
    section: PromoterTask | PeakTask | AccessibilityTask,
    store: ProfileStore | None,
    seed: int,
) -> Task:
    genome = _genome(section.genome, section.species)
    fields: dict[str, Any] = {
        "name": name,
        "species": section.species,
        "width": section.width,
        "limit": section.limit,
        "regions": _regions(name, section, genome, store),
        "seed": seed,
    }
    match section:
        case PromoterTask():
            return promoters(genome, read_genes(section.genes), **fields)
        case PeakTask():
            return peaks(genome, read_intervals(section.peaks), **fields)
        case AccessibilityTask():
            return accessibility(
                genome, read_intervals(section.peaks), str(section.track), **fields
            )


def _regions(
    name: str,
    section: PromoterTask | PeakTask | AccessibilityTask,
    genome: Genome,
    store: ProfileStore | None,
) -> pl.DataFrame | None:
    """The windows that give the examples their part; None to part them anew."""
    if store is None or section.split == "anew":
        return None
    if section.species not in store.species:
        raise CislensError(
            f"task {name}: {store.path} has no species {section.species!r}, so its examples "
            f"cannot take a part from it. {nearest(section.species, store.species)} For a species "
            "that no run was trained on write `split: anew`."
        )
    for chrom, size in store.chrom_sizes(section.species).items():
        if genome.chrom_sizes.get(chrom, size) != size:
            raise CislensError(
                f"task {name}: {chrom} of {genome.path} has {genome.chrom_sizes[chrom]:,} bp, in "
                f"{store.path} {size:,} bp; they are different assemblies."
            )
    return store.windows(section.species)


@cache
def _genome(path: Path, name: str) -> Genome:
    return open_genome(path, name)
