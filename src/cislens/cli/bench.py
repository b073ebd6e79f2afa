"""`cislens bench`: representations x tasks -> results, verdicts and a report."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, Recipe, Seed, answer
from cislens.cli.report import show_verdicts, write
from cislens.errors import CislensError
from cislens.files import atomic_path, require_file
from cislens.recipes.reading import claim_folder, read_recipe
from cislens.recipes.schema import BenchRecipe

logger = logging.getLogger("cislens")

if TYPE_CHECKING:
    from cislens.evaluation.tasks.task import Task
    from cislens.report.inputs import ReportInput


def command(
    recipe: Recipe,
    out: Annotated[Path, typer.Option("--out", help="Folder of results, tables and report.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Judge trained runs against baselines. The same command again resumes."""
    read = read_recipe(recipe, BenchRecipe)
    if seed is not None:
        read = with_seed(read, seed)
    if dry_run:
        answer(plan(read), as_json)
        return
    page = out / "report.html"
    run = judge(read, out, page)
    result = {"report": str(page), "verdicts": run.verdicts.to_dicts()}
    if as_json:
        answer(result, as_json)
    else:
        show_verdicts(run)
        typer.echo(f"report: {page}")


def judge(recipe: BenchRecipe, out: Path, page: Path) -> "ReportInput":
    """Run the bench into `out`: recipe.yaml, results/, verdicts, scores; and write its page."""
    from cislens.evaluation.bench import run_bench
    from cislens.evaluation.verdict import arm_scores, verdicts

    claim_folder(out, recipe)
    results = run_bench(_tasks(recipe), _representations(recipe), recipe.settings, out / "results")
    for name, table in (("verdicts", verdicts(results)), ("scores", arm_scores(results))):
        with atomic_path(out / f"{name}.parquet") as aside:
            table.write_parquet(aside)
    return write(out, page)


def with_seed(recipe: BenchRecipe, seed: int) -> BenchRecipe:
    """The recipe with another seed for the drawing of examples, subsets and heads."""
    settings = recipe.settings.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"settings": settings})


def plan(recipe: BenchRecipe) -> dict[str, Any]:
    """What the bench would do: tasks with their splits and first bases, arms, fits."""
    from cislens.evaluation.bench import build_arms

    tasks, representations = _tasks(recipe), _representations(recipe)
    arms = {
        task.card.name: [arm.name for arm in build_arms(task, representations, recipe.settings)]
        for task in tasks
    }
    return {
        "tasks": {
            task.card.name: {
                "kind": task.card.kind,
                "metric": task.card.metric.primary,
                **dict(sorted(task.examples["split"].value_counts().iter_rows())),
                "first_sequence": task.examples["sequence"][0][:60],
                "arms": arms[task.card.name],
            }
            for task in tasks
        },
        "fits": recipe.settings.seeds * sum(len(names) for names in arms.values()),
    }


def _tasks(recipe: BenchRecipe) -> list["Task"]:
    from cislens.evaluation.tasks.build import build_task
    from cislens.signal.store import ProfileStore

    store = ProfileStore.open(recipe.store) if recipe.store else None
    if store is None:
        logger.warning("no store is named: nothing is known of what the runs were trained on")
    seed = recipe.settings.seed
    return [build_task(name, section, store, seed) for name, section in recipe.tasks.items()]


def _representations(recipe: BenchRecipe) -> list[Any]:
    from cislens.models.saving import load_model
    from cislens.representations.encoder import EncoderEmbedding

    for folder in recipe.runs.values():
        _require_same_store(recipe, folder)
    return [
        EncoderEmbedding(load_model(folder / "model").encoder, name)
        for name, folder in recipe.runs.items()
    ]


def _require_same_store(recipe: BenchRecipe, folder: Path) -> None:
    from cislens.signal.store import ProfileStore
    from cislens.training.fit import Run

    run = Run.open(require_file(folder, "run folder"))
    if run is None:
        raise CislensError(f"the run {folder} is not finished; train it to its end first.")
    if recipe.store is None:
        return
    store = ProfileStore.open(recipe.store)
    if run.manifest["store"]["digest"] != store.digest:
        raise CislensError(
            f"{folder} was trained on another store ({run.manifest['store']['path']}) than "
            f"{store.path}; its parts say nothing about what this run has seen. Name that store."
        )
