"""From the folder of a bench to what its report shows."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from cislens.evaluation.contestants import training_stores
from cislens.evaluation.tasks.task import Task
from cislens.evaluation.training_stores import (
    TrainedRegions,
    TrainedSequences,
    TrainingStore,
)
from cislens.files import read_json, read_parquet, require_file
from cislens.genome.annotation import read_genes
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import open_genome
from cislens.models.saving import load_profile_model
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import BenchRecipe, Loci
from cislens.report.embedding_maps import embedding_maps
from cislens.report.expert_use import expert_use_of
from cislens.report.inputs import Locus, ReportInput
from cislens.report.loci import held_out_loci, learned_part
from cislens.report.words import interval, number
from cislens.signal.store import ProfileStore
from cislens.training.fit import Run

_EVIDENCE = ("ranks", "efficiency", "label_areas", "layers", "calibration", "costs")
TITLE = "What the representation carries"
_INTERVAL = (
    "Intervals cover which test examples were drawn (blocks of neighboring or related examples "
    "are resampled together), which training examples the heads saw, and the heads' "
    "initialization. They do not cover another training run of the encoder."
)


def collect(folder: Path, *, umap: bool = False) -> ReportInput:
    """Everything a bench folder and the runs it judged have to say.

    Args:
        umap: whether embeddings are also shown by UMAP.

    Raises:
        MissingFileError: if the folder, a table in it, or a run is missing.
        CislensError: if one of them is damaged.
    """
    recipe = read_recipe(require_file(folder, "bench folder") / "recipe.yaml", BenchRecipe)
    names = ("verdicts.parquet", "scores.parquet")
    verdicts, scores = (read_parquet(folder / name, "bench table") for name in names)
    store = next(iter(training_stores(recipe)), None)
    run = Run.open(next(iter(recipe.runs.values()))) if recipe.runs else None
    tasks = [Task.load(path) for path in sorted((folder / "results" / "tasks").iterdir())]
    return ReportInput(
        title=TITLE,
        verdicts=verdicts,
        scores=scores,
        **{name: _optional(folder / f"{name}.parquet") for name in _EVIDENCE},
        maps=embedding_maps(folder / "results", umap=umap),
        audits=audits_of(folder / "audits.json"),
        training=None if run is None else read_parquet(run.metrics_path, "metrics of the run"),
        loci=_loci(recipe, run, store) if run and isinstance(store, ProfileStore) else [],
        experts=expert_use_of(read_parquet(run.experts_path, "expert use of the run"))
        if run and run.experts_path.exists()
        else None,
        manifest=_manifest(recipe, run, store, tasks),
        notes=_notes(recipe, tasks),
    )


def loci_of(folder: Path) -> list[Locus]:
    """The held-out loci of a bench folder, as its report shows them; none without a trained run.

    Raises:
        MissingFileError: if the folder is none of a bench.
    """
    recipe = read_recipe(require_file(folder, "bench folder") / "recipe.yaml", BenchRecipe)
    store = next(iter(training_stores(recipe)), None)
    run = Run.open(next(iter(recipe.runs.values()))) if recipe.runs else None
    return _loci(recipe, run, store) if run and isinstance(store, ProfileStore) else []


def _optional(path: Path) -> pl.DataFrame | None:
    return read_parquet(path, "bench table") if path.exists() else None


def audits_of(path: Path) -> list[dict[str, Any]]:
    """Verdicts and checks of each task's audit; a check's measure in words."""
    audits = read_json(path, "audits of the bench") if path.exists() else {}
    return [
        {
            "task": task,
            "verdict": audit["verdict"],
            "leakage": audit["leakage"],
            "checks": [
                {
                    "name": check["name"],
                    "verdict": check["verdict"],
                    "found": f"{check['measure']}: "
                    + (
                        number(check["value"])
                        if check["low"] is None
                        else interval(check["value"], check["low"], check["high"])
                    ),
                }
                for check in audit["checks"]
            ],
        }
        for task, audit in audits.items()
    ]


def _loci(recipe: BenchRecipe, run: Run, store: ProfileStore) -> list[Locus]:
    model = load_profile_model(run.model_folder)
    found = []
    for species, wanted in recipe.loci.items():
        found += held_out_loci(
            model,
            open_genome(wanted.genome, species),
            learned_part(store, species, model),
            species,
            wanted.count,
            _annotations(wanted),
            wanted.annotated_as,
        )
    return found


def _annotations(wanted: Loci) -> pl.DataFrame | None:
    if wanted.annotations is None:
        return None
    genes = any(part in {".gtf", ".gff", ".gff3"} for part in wanted.annotations.suffixes)
    return read_genes(wanted.annotations) if genes else read_intervals(wanted.annotations)


def _manifest(
    recipe: BenchRecipe, run: Run | None, store: TrainingStore | None, tasks: list[Task]
) -> dict[str, Any]:
    manifest: dict[str, Any] = {"interval": _INTERVAL, "splits": _splits(store, tasks)}
    manifest["licences"] = [source.model_dump() for source in recipe.sources]
    manifest["dropped"] = {
        f"{task.card.name}: {reason}": count
        for task in tasks
        for reason, count in task.card.report.items()
        if isinstance(count, int) and count and ("examples" in reason or "windows" in reason)
    }
    if run is not None:
        ledger = run.manifest["ledger"]
        manifest["summary"] = {
            "Encoder": next(iter(recipe.runs)),
            "Parameters": f"{ledger['parameters']:,}",
            "Trained on": f"{ledger['bases'] / 1e6:.0f} Mb of windows",
            "Training time": f"{ledger['train_seconds']:.0f} s on {run.manifest['device']}",
        }
        manifest["training run"] = run.manifest
    if isinstance(store, ProfileStore):
        manifest["profile store"] = {"digest": store.digest, **store.manifest["params"]}
    elif store is not None:
        kind = "region store" if isinstance(store, TrainedRegions) else "sequence store"
        manifest[kind] = {"digest": store.digest, **store.store.manifest["settings"]}
    manifest["task hashes"] = {task.card.name: task.task_hash for task in tasks}
    manifest["bench recipe"] = json.loads(recipe.model_dump_json())
    return manifest


def _splits(store: TrainingStore | None, tasks: list[Task]) -> list[dict[str, Any]]:
    windows = [] if store is None else [_window_row(store, species) for species in store.species]
    return windows + [
        {"data": f"task {task.card.name}", **_parts(task.examples), "parted by": task.card.split}
        for task in tasks
    ]


def _window_row(store: TrainingStore, species: str) -> dict[str, Any]:
    if isinstance(store, TrainedRegions):
        regions = _parts(store.store.regions)
        return {"data": f"{species}, regions for training", **regions, "parted by": "blocks"}
    if isinstance(store, TrainedSequences):
        starts = store.store.starts.filter(species=species)
        bases = starts.with_columns(bp=pl.col("last") - pl.col("first"))
        found = {
            name: int(bases.filter(split=name)["bp"].sum()) for name in ("train", "valid", "test")
        }
        return {"data": f"{species}, starts of windows", **found, "parted by": "blocks"}
    split = store.manifest["params"]["split"]
    kind = "chromosome" if split["valid"] or split["test"] else "homology-aware blocks"
    parts = _parts(store.windows(species))
    return {"data": f"{species}, windows for training", **parts, "parted by": kind}


def _parts(rows: pl.DataFrame) -> dict[str, int]:
    return {name: rows.filter(split=name).height for name in ("train", "valid", "test")}


def _notes(recipe: BenchRecipe, tasks: list[Task]) -> list[str]:
    settings = recipe.settings
    return [
        f"Every arm was fitted {settings.seeds} times; each time on another "
        f"{settings.train_fraction:.0%} of the training blocks, the same for all arms.",
        "Heads on frozen features are ridge or logistic regression with the penalty chosen on "
        "the validation part; one-hot CNNs are trained from scratch.",
        "The untrained twin is the same network with fresh random weights, others for each fit.",
        "Loci are chosen by the measured signal alone: the test window that varies most, then "
        "those of lower ranks, each with the test windows that join it.",
        *(f"{task.card.name}: {task.card.exposure}" for task in tasks
          if task.card.exposure != "unknown"),
    ]  # fmt: skip
