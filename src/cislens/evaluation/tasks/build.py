"""Tasks as a recipe asks for them."""

from functools import cache
from pathlib import Path
from typing import Any

from cislens.errors import CislensError
from cislens.evaluation.attribution import attribution_task
from cislens.evaluation.tasks.builders import accessibility, peaks, profile_windows
from cislens.evaluation.tasks.exposure import without_seen
from cislens.evaluation.tasks.genomic import parting, signed_off
from cislens.evaluation.tasks.registry import make_section
from cislens.evaluation.tasks.task import Task
from cislens.evaluation.training_stores import TrainingStore, require_profiles
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome, open_genome
from cislens.motifs.sites import consensus_motif, find_motif, read_meme
from cislens.recipes.schema import (
    AccessibilityTask,
    AnyTask,
    AttributionTask,
    PeakTask,
    SavedTask,
    WindowTask,
)


def build_task(name: str, section: AnyTask, store: TrainingStore | None, seed: int) -> Task:
    """The task that a recipe's section describes.

    Args:
        store: whose windows give examples of its species their split; None to split them anew.

    Raises:
        CislensError: if a file does not fit, or a task on windows has no store.
    """
    match section:
        case SavedTask():
            return without_seen(Task.load(section.folder), store, inherited=False)
        case WindowTask():
            if store is None:
                raise CislensError(f"task {name}: windows need a profile store; add `store:`.")
            profiles = require_profiles(store, f"task {name}")
            return profile_windows(
                profiles, section.species, name=name, width=section.width, limit=section.limit,
                seed=seed,
            )  # fmt: skip
        case AttributionTask():
            return _attribution(name, section, store, seed)
        case PeakTask() | AccessibilityTask():
            return without_seen(_annotated(name, section, store, seed), store)
    return make_section(name, section, store, seed)


def _attribution(
    name: str, section: AttributionTask, store: TrainingStore | None, seed: int
) -> Task:
    labelled = build_task(name, section.of, store, seed)
    if section.motifs is None:
        motif = consensus_motif(section.motif)
    else:
        motif = find_motif(read_meme(section.motifs), section.motif)
    return attribution_task(
        labelled, motif, name=name, p_value=section.p_value, limit=section.limit, seed=seed
    )


def _annotated(
    name: str,
    section: PeakTask | AccessibilityTask,
    store: TrainingStore | None,
    seed: int,
) -> Task:
    genome = _genome(section.genome, section.species)
    regions = parting(name, section, genome, store)
    fields: dict[str, Any] = {
        "name": name,
        "species": section.species,
        "width": section.width,
        "limit": section.limit,
        "regions": regions,
        "seed": seed,
    }
    files = {"genome": section.genome}
    match section:
        case PeakTask():
            files["peaks"] = section.peaks
            task = peaks(genome, read_intervals(section.peaks), **fields)
        case AccessibilityTask():
            files |= {"peaks": section.peaks, "track": section.track}
            task = accessibility(
                genome, read_intervals(section.peaks), str(section.track),
                transform=section.transform, **fields,
            )  # fmt: skip
    return signed_off(task, section, files, {})


@cache
def _genome(path: Path, name: str) -> Genome:
    return open_genome(path, name)
