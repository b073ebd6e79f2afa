"""The job of `cislens bench`: its recipe with what the command line adds, its plan, its run."""

import fnmatch
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cislens.cli.report import write
from cislens.errors import CislensError, nearest
from cislens.files import atomic_path, claimed, clear_partial, read_json, require_file, write_atomic
from cislens.logs import LOG, logged, told
from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import check_claim, claim_folder, read_recipe
from cislens.recipes.schema import BenchRecipe
from cislens.recipes.task_recipe import read_tasks

if TYPE_CHECKING:
    from cislens.evaluation.bench import Results
    from cislens.evaluation.tasks.task import Task
    from cislens.report.inputs import ReportInput

PACKAGED = "bench"
_MAY_GROW = ("runs", "models", "embeddings", "tasks")


def judge(recipe: BenchRecipe, out: Path, page: Path) -> "ReportInput":
    """Run the bench into `out`: recipe.yaml, results/, audits.json, tables; and write its page."""
    from cislens.evaluation.bench import require_sources, run_bench
    from cislens.evaluation.contestants import load_representations

    check_claim(out, recipe, _MAY_GROW)
    tasks, representations = _tasks(recipe), load_representations(recipe)
    require_sources(tasks, representations)
    with claimed(out, "judging into"):
        clear_partial(out)
        # What cannot be opened does not become part of the folder's recipe.
        claim_folder(out, recipe, _MAY_GROW)
        with logged(out / LOG), told("bench"):
            results = run_bench(tasks, representations, recipe.settings, out / "results")
            leaky = _audit(tasks, out) if recipe.audit else set()
            for name, table in _tables(results, recipe, leaky).items():
                with atomic_path(out / f"{name}.parquet") as aside:
                    table.write_parquet(aside)
            return write(out, page)


def with_seed(recipe: BenchRecipe, seed: int) -> BenchRecipe:
    """The recipe with another seed for the drawing of examples, subsets and heads."""
    settings = recipe.settings.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"settings": settings})


def plan(recipe: BenchRecipe) -> dict[str, Any]:
    """What the bench would do: tasks with their splits and first bases, arms, fits."""
    from cislens.evaluation.arms.contract import Ground
    from cislens.evaluation.arms.lineup import build_arms
    from cislens.evaluation.bench import require_sources
    from cislens.evaluation.contestants import load_representations

    tasks, representations = _tasks(recipe), load_representations(recipe)
    require_sources(tasks, representations)
    settings = recipe.settings
    arms = {}
    for task in tasks:
        ground = Ground(task, settings.train_fraction, settings.seed)
        arms[task.card.name] = build_arms(ground, representations, settings)
    sizes = 1 + len(settings.labels)
    bases = sum(int(task.examples["length"].sum()) for task in tasks)
    return {
        "tasks": {
            task.card.name: {
                "kind": task.card.kind,
                "metric": task.card.metric.primary,
                **dict(sorted(task.examples["split"].value_counts().iter_rows())),
                "first_sequence": task.examples["sequence"][0][:60],
                "arms": [arm.name for arm in arms[task.card.name]],
            }
            for task in tasks
        },
        "fits": settings.seeds * sizes * sum(len(names) for names in arms.values()),
        "bases_to_embed": bases,
    }


def bench_recipe(name: str | None, out: Path, runs: list[str], resume: bool) -> BenchRecipe:
    """The recipe, or that of the bench in `out`, with the runs that the command line adds.

    Raises:
        CislensError: if there is none, it is wrong, or it has no task.
    """
    if name is None:
        if not resume:
            raise CislensError("name a recipe, or give --resume to go on with the bench in --out.")
        known = read_recipe(require_file(out, "bench folder") / "recipe.yaml", BenchRecipe)
        return _with_runs(known, runs)
    read = read_recipe(recipe_path(PACKAGED, name), BenchRecipe)
    tasks: dict[str, Any] = {}
    for suite in read.suites:
        tasks |= _suite(suite, read.only)
    tasks |= read.tasks
    if not tasks:
        raise CislensError(f"{name} names no task; add `tasks` or `suites`.")
    return _with_runs(read.model_copy(update={"tasks": tasks, "suites": [], "only": ["*"]}), runs)


def _suite(name: str, only: list[str]) -> dict[str, Any]:
    """The tasks of a suite that are asked for; what else its file says would be lost: refused."""
    suite = read_tasks(name)
    lost = sorted({"store", "seed"} & suite.model_fields_set)
    if lost:
        raise CislensError(
            f"the suite {name} has {' and '.join(lost)} of its own; in a bench the recipe says "
            "them, so put them there and leave them out of the suite."
        )
    for pattern in only:
        if not fnmatch.filter(suite.tasks, pattern):
            raise CislensError(
                f"no task of the suite {name} is named like {pattern!r} (only). "
                f"{nearest(pattern, suite.tasks)}"
            )
    return {
        task: section
        for task, section in suite.tasks.items()
        if any(fnmatch.fnmatchcase(task, pattern) for pattern in only)
    }


def _with_runs(recipe: BenchRecipe, runs: list[str]) -> BenchRecipe:
    added = dict(recipe.runs)
    for given in runs:
        arm, _, folder = given.partition("=")
        if not arm or not folder:
            raise CislensError(f"--run {given!r} is not NAME=FOLDER.")
        path = Path(folder).resolve()
        if added.get(arm, path) != path:
            raise CislensError(
                f"--run {given}: {arm} is the name of {added[arm]} already; choose another name."
            )
        added[arm] = path
    return recipe.model_copy(update={"runs": added})


def _tasks(recipe: BenchRecipe) -> list["Task"]:
    """The tasks, without test examples that any run has seen; the first store gives the parts."""
    from cislens.evaluation.contestants import training_stores
    from cislens.evaluation.tasks.build import build_task
    from cislens.evaluation.tasks.exposure import without_seen

    stores = training_stores(recipe)
    first = next(iter(stores), None)
    tasks = []
    for name, section in recipe.tasks.items():
        task = build_task(name, section, first, recipe.settings.seed)
        for store in stores[1:]:
            task = without_seen(task, store, inherited=False)
        tasks.append(task)
    return tasks


def _audit(tasks: list["Task"], out: Path) -> set[str]:
    """Audit every task, once; names of those that leak."""
    from cislens.evaluation.audit.run import audit_task

    path = out / "audits.json"
    audits = read_json(path, "audits of the bench") if path.exists() else {}
    for task in tasks:
        name = task.card.name
        if audits.get(name, {}).get("task_hash") != task.task_hash:
            audits[name] = {"task_hash": task.task_hash, **audit_task(task).to_dict()}
            write_atomic(path, json.dumps(audits, indent=1))
    return {name for name, found in audits.items() if found["leakage"] == "fail"}


def _tables(results: "Results", recipe: BenchRecipe, leaky: set[str]) -> dict[str, Any]:
    """Every table that the report is made from, by its name."""
    from cislens.evaluation.calibration import calibration
    from cislens.evaluation.efficiency import label_efficiency
    from cislens.evaluation.ranks import ranks
    from cislens.evaluation.suite import Suite
    from cislens.evaluation.tables import costs, layer_scores
    from cislens.evaluation.verdict import arm_scores, verdicts

    suite = Suite(results.whole)
    suite.leave_out_unmeasured()
    tables = {
        "verdicts": verdicts(suite, leaky=leaky),
        "scores": arm_scores(suite),
        "ranks": ranks(suite),
        "calibration": calibration(suite),
        "layers": layer_scores(results.whole),
        "costs": costs(results.whole),
    }
    if results.by_labels:
        tables["efficiency"], tables["label_areas"] = label_efficiency(
            suite, results.by_labels, fraction=recipe.settings.train_fraction
        )
    return tables
