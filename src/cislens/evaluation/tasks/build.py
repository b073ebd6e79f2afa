"""Tasks as a recipe asks for them."""

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.builders import accessibility, peaks, profile_windows, promoters
from cislens.evaluation.tasks.tables import Columns, labelled_tables
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
    TableTask,
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
            return Task.load(section.folder)
        case WindowTask():
            if store is None:
                raise CislensError(f"task {name}: windows need a profile store; add `store:`.")
            return profile_windows(
                store, section.species, name=name, width=section.width, limit=section.limit,
                seed=seed,
            )  # fmt: skip
        case TableTask():
            return _table_task(name, section, seed)
    genome = _genome(section.genome, section.species)
    fields: dict[str, Any] = {
        "name": name,
        "species": section.species,
        "width": section.width,
        "limit": section.limit,
        "regions": _regions(store, section.species),
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


def _table_task(name: str, section: TableTask, seed: int) -> Task:
    return labelled_tables(
        {"train": section.train, "valid": section.valid, "test": section.test},
        Columns(section.sequence, section.label, section.block),
        section.classes,
        name=name,
        species=section.species,
        stranded=section.stranded,
        limit=section.limit,
        source=section.source,
        licence=section.licence,
        seed=seed,
    )


def _regions(store: ProfileStore | None, species: str) -> pl.DataFrame | None:
    return store.windows(species) if store is not None and species in store.species else None


@cache
def _genome(path: Path, name: str) -> Genome:
    return open_genome(path, name)
