"""What the builders on a genome share: opening it, its regions, the files of the card."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from cislens.evaluation.tasks.card import File, TaskCard
from cislens.evaluation.tasks.importers.reading import check_digests, record
from cislens.evaluation.tasks.placing import store_regions
from cislens.evaluation.tasks.task import Task
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome.chromosomes import match_names
from cislens.genome.reference import Genome, open_genome
from cislens.recipes.task_basics import GenomeSection, TaskSection


def opened(
    name: str, section: GenomeSection, store: TrainingStore | None
) -> tuple[Genome, pl.DataFrame | None]:
    """The section's genome, and the store's windows that part its examples (None: anew)."""
    genome = open_genome(section.genome, section.assembly or None)
    return genome, parting(name, section, genome, store)


def parting(
    name: str, section: GenomeSection, genome: Genome, store: TrainingStore | None
) -> pl.DataFrame | None:
    """What of the store gives examples on `genome` their parts; None to part them anew."""
    if store is None or section.split == "anew":
        return None
    if section.split == "auto" and section.species not in store.species:
        return None
    return store_regions(name, section.species, genome, store)


def on_genome(intervals: pl.DataFrame, genome: Genome, path: Path) -> pl.DataFrame:
    """Intervals under the genome's names of chromosomes; others are dropped, with a report."""
    found = intervals["chrom"].unique(maintain_order=True)
    return match_names(found, genome.chrom_sizes, str(path)).rename(intervals)


def several(role: str, paths: Path | list[Path]) -> dict[str, Path]:
    """One file or several of one role, as the card lists them."""
    if isinstance(paths, Path):
        return {role: paths}
    return {f"{role}.{number}": path for number, path in enumerate(paths, 1)}


def signed_off(
    task: Task, section: TaskSection, files: Mapping[str, Path], rows: Mapping[str, int]
) -> Task:
    """The task with the section's provenance and the files it was made from in its card.

    Raises:
        CislensError: if a file's sha256 is not the section's.
    """
    entries: list[File] = [
        record(path, role, rows.get(role), section.sha256) for role, path in files.items()
    ]
    check_digests(section.sha256, entries)
    card = task.card.model_dump() | {
        "revision": section.revision, "source": section.source, "licence": section.licence,
        "exposure": section.exposure, "files": entries,
        "assembly": section.assembly or task.card.assembly,
    }  # fmt: skip
    return Task(TaskCard(**card), task.examples)
