"""`cislens data task`: labelled examples with a card, from tables or from a user's own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, Seed, answer, packaged
from cislens.errors import CislensError, nearest
from cislens.files import require_file
from cislens.recipes.packaged import packaged_names

if TYPE_CHECKING:
    from cislens.evaluation.tasks.task import Task
    from cislens.evaluation.training_stores import TrainingStore
    from cislens.recipes.task_recipe import TaskRecipe

app = typer.Typer(
    help="Make tasks, labelled sequences to judge by.",
    no_args_is_help=True,
)
TaskFolder = Annotated[Path, typer.Argument(help="Task (a folder).")]
TaskFile = Annotated[
    str,
    packaged(packaged_names("tasks")),
]
_BASES = 60  # shown of a sequence


@app.command("build")
def build(
    recipe: TaskFile,
    out: Annotated[Path, typer.Option("--out", help="Folder; every task gets a folder in it.")],
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Build only this task; may be repeated.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Recipe of tasks -> a folder for each task."""
    from cislens.recipes.task_recipe import read_tasks
    from cislens.untrusted import inside

    read = read_tasks(recipe)
    sections = _chosen(read, name or [])
    if dry_run:
        answer(
            {task: {"kind": section.kind, "files": _files(section)}
             for task, section in sections.items()},
            as_json,
        )  # fmt: skip
        return
    store = _store(read)
    for task in sections:
        _require_place(inside(out, task, recipe))
    made = {}
    for task, section in sections.items():
        found = _make(task, section, store, read.seed if seed is None else seed)
        found.save(out / task)
        made[task] = {"folder": str(out / task), **_counts(found)}
        if not as_json:
            typer.echo(f"{task}: {_line(found)}")
    if as_json:
        answer(made, as_json)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="What is imported, e.g. table, mpra, gue, vcf.")],
    settings: Annotated[
        list[str], typer.Argument(help="Settings as in a recipe: file=my.tsv label=activity ...")
    ],
    out: Annotated[Path, typer.Option("--out", help="Task to write (a folder).")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """One task without a recipe. The folder's name becomes the task's."""
    from cislens.recipes.reading import read_section
    from cislens.recipes.task_recipe import OneTask

    values = {"kind": kind, **dict(_setting(text) for text in settings)}
    section = read_section({"task": values}, OneTask, f"task {out.name}").task
    if dry_run:
        answer({"kind": kind, "files": _files(section)}, as_json)
        return
    _require_place(out)
    task = _make(out.name, section, None, seed or 0)
    task.save(out)
    answer({"folder": str(out), **_counts(task)}, as_json, f"{out}: {_line(task)}")


@app.command("validate")
def validate(folder: TaskFolder, as_json: AsJson = False) -> None:
    """Check a task.

    Its card, its columns, leaks between its parts, and its recorded hash.
    """
    task = _load(folder)
    answer(
        {"folder": str(folder), "valid": True, "task_hash": task.task_hash, **_counts(task)},
        as_json,
        f"{folder}: valid; {_line(task)}; hash {task.task_hash[:12]}",
    )


@app.command("ls")
def ls(
    where: Annotated[
        str, typer.Argument(help="A folder of tasks, a recipe, or a packaged recipe.")
    ],
    as_json: AsJson = False,
) -> None:
    """List the tasks of a folder or of a recipe."""
    from cislens.recipes.task_recipe import read_tasks

    folder = Path(where)
    if folder.is_dir():
        cards = sorted(folder.glob("*/card.yaml"))
        if not cards:
            raise CislensError(f"{folder} holds no task (a folder with card.yaml).")
        found = {card.parent.name: _line(_load(card.parent)) for card in cards}
    else:
        found = {
            task: f"{section.kind}, {getattr(section, 'species', 'as saved')}"
            for task, section in read_tasks(where).tasks.items()
        }
    answer(dict(found), as_json)


@app.command("show")
def show(folder: TaskFolder, as_json: AsJson = False) -> None:
    """Show a task.

    Its card, how many examples each part and class has, and first bases.
    """
    task = _load(folder)
    card = task.card.model_dump(mode="json")
    first = [
        {"id": row["example_id"], "split": row["split"], "sequence": row["sequence"][:_BASES]}
        for row in task.examples.head(3).iter_rows(named=True)
    ]
    if as_json:
        answer({"card": card, **_counts(task), "first": first}, as_json)
        return
    answer({key: value for key, value in card.items() if value not in (None, "", [], {})}, False)
    for key, value in _counts(task).items():
        answer({key: value}, False)
    for row in first:
        typer.echo(f"{row['id']} ({row['split']}): {row['sequence']}")


def _chosen(recipe: "TaskRecipe", names: list[str]) -> dict[str, Any]:
    for name in names:
        if name not in recipe.tasks:
            raise CislensError(f"the recipe has no task {name!r}. {nearest(name, recipe.tasks)}")
    return {name: recipe.tasks[name] for name in names or recipe.tasks}


def _make(name: str, section: Any, store: "TrainingStore | None", seed: int) -> "Task":
    from cislens.evaluation.tasks.build import build_task

    return build_task(name, section, store, seed)


def _require_place(folder: Path) -> None:
    from cislens.evaluation.tasks.task import require_place

    require_place(folder)


def _store(recipe: "TaskRecipe") -> "TrainingStore | None":
    from cislens.evaluation.training_stores import open_training_store

    return None if recipe.store is None else open_training_store(recipe.store)


def _load(folder: Path) -> "Task":
    from cislens.evaluation.tasks.task import Task

    return Task.load(folder)


def _setting(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise CislensError(f"{text!r} is no setting; write key=value, e.g. label=activity.")
    return key, yaml.safe_load(value)


def _files(section: Any) -> list[str]:
    """The paths that a section names.

    Raises:
        MissingFileError: for one that does not exist.
    """
    from cislens.recipes.reading import Section

    if isinstance(section, Path):
        return [str(require_file(section, "file of the task"))]
    if isinstance(section, Section):
        return _files([getattr(section, key) for key in type(section).model_fields])
    if isinstance(section, dict):
        return _files(list(section.values()))
    if isinstance(section, list):
        return [path for part in section for path in _files(part)]
    return []


def _counts(task: "Task") -> dict[str, Any]:
    """Examples, blocks and, of classes, examples of each class by split."""
    import polars as pl

    frame, card = task.examples, task.card
    counts: dict[str, Any] = {"examples": dict(_by_split(frame, pl.len()))}
    counts["blocks"] = dict(_by_split(frame, pl.col("block_id").n_unique()))
    names = card.target.classes or (["0", "1"] if card.ranked else [])
    if names and card.kind != "multilabel":
        first = pl.col("y").list.first()
        counts["classes"] = {
            label: dict(_by_split(frame, (first == number).sum()))
            for number, label in enumerate(names)
        }
    return counts


def _by_split(frame: Any, count: Any) -> Any:
    order = {"train": 0, "valid": 1, "test": 2}
    rows = frame.group_by("split").agg(count.alias("n")).select("split", "n").iter_rows()
    return sorted(rows, key=lambda row: order[row[0]])


def _line(task: "Task") -> str:
    counts = _counts(task)["examples"]
    window = f"{task.card.window} bp" if task.card.window else "of several lengths"
    sizes = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    return f"{task.card.kind}, {window}, {sizes}"
