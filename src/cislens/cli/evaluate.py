"""`cislens evaluate`: how well models predict what they have not seen.

Of a profile store that is measured tracks of held-out windows, of a region store whether regions
are open in held-out cell types.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, DryRun, answer
from cislens.errors import CislensError
from cislens.files import manifest_format

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cislens.evaluation.profiles.run import EvaluateRecipe

_PARTS = ("train", "valid", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def command(
    arms: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN[,RUN...]...",
            help="Run or model folder, several with commas as seeds of one arm; the first arm is "
            "what the others are held against.",
        ),
    ],
    store: Annotated[
        Path, typer.Option("--store", help="Profile store, or region store with cell types.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of sums, tables and report.")],
    split: Annotated[
        str | None, typer.Option("--split", help="Part of a profile store [default: test].")
    ] = None,
    average: Annotated[
        str | None,
        typer.Option(
            "--average",
            help="Views of tracks averaged: rc, shift (-1, 0, 1 bp), both, or none [default].",
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=100, help="Bootstrap draws.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of draws and of what baselines are fitted on.")] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Judge predicted tracks, or embeddings of cell types.

    With intervals, beside baselines. The same command again resumes.
    """
    from cislens.motifs.store import FORMAT as REGIONS

    named = read_arms(arms)
    if manifest_format(store) == REGIONS:
        if split is not None or average is not None:
            raise CislensError(
                f"{store} is a region store: new regions and new cell types are judged together, "
                "and nothing is averaged. Leave out --split and --average; they are for profile "
                "stores."
            )
        _cells(named, store, out, draws, seed, dry_run, as_json)
    else:
        _profiles(
            named, store, out, split or "test", average or "none", draws, seed, dry_run, as_json
        )


def _cells(
    arms: dict[str, list[Path]], store: Path, out: Path, draws: int, seed: int, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from cislens.evaluation.cells.run import CellRecipe, evaluate_cells, plan
    from cislens.motifs.store import RegionStore
    from cislens.recipes.reading import read_section
    from cislens.report.cells import terminal_table, write_cells

    values = {
        "store": store.resolve(), "store_digest": RegionStore.open(store).digest, "arms": arms,
        "weights": _weights(arms), "draws": draws, "seed": seed,
    }  # fmt: skip
    recipe = read_section(values, CellRecipe, "the command line")
    if dry_run:
        answer(plan(recipe), as_json)
        return
    found = evaluate_cells(recipe, out)
    page = write_cells(found, out / "report.html")
    if as_json:
        tables = {"cells": found.scores.to_dicts(), "differences": found.differences.to_dicts()}
        answer({"report": str(page), **tables, "notes": found.notes}, as_json)
    else:
        _show(terminal_table(found), page)


def _profiles(
    arms: dict[str, list[Path]], store: Path, out: Path, split: str, average: str, draws: int,
    seed: int, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    from cislens.effects.averaging import read_averaging
    from cislens.evaluation.profiles.run import evaluate, plan
    from cislens.report.profiles import terminal_table, write_profiles

    averaging = read_averaging(average)
    recipe = _recipe(arms, store, split, str(averaging), draws, seed)
    if dry_run:
        answer(plan(recipe, averaging), as_json)
        return
    found = evaluate(recipe, averaging, out)
    page = write_profiles(found, out / "report.html")
    if as_json:
        groups = found.scores.filter(track="all")
        answer(
            {
                "report": str(page),
                "profiles": groups.filter(groups["seed"].is_null()).to_dicts(),
                "differences": found.differences.to_dicts(),
                "notes": found.notes,
            },
            as_json,
        )
    else:
        _show(terminal_table(found), page)


def read_arms(given: list[str]) -> dict[str, list[Path]]:
    """`NAME=RUN,RUN` or `RUN`, which is named after its folder, as name -> folders.

    Raises:
        CislensError: for a name that cannot name a folder, no folder, or one given twice.
    """
    arms: dict[str, list[Path]] = {}
    for text in given:
        name, equals, folders = text.partition("=")
        if not equals or Path(text).exists():
            path = Path(text.split(",")[0]).resolve()
            name, folders = (path.parent if path.name == "model" else path).name, text
        runs = [part.strip() for part in folders.split(",")]
        if not name or not all(runs):
            raise CislensError(f"{text!r} is not [NAME=]RUN[,RUN...].")
        if not _NAME.fullmatch(name):
            raise CislensError(
                f"arm {name!r}: names take letters, digits and . _ + - only, and begin with a "
                "letter or digit."
            )
        if name in arms:
            raise CislensError(
                f"{text!r}: {name} is the name of {arms[name][0]} already; give NAME=RUN with "
                "another name, or runs of one arm with commas."
            )
        arms[name] = [Path(run).resolve() for run in runs]
        twice = [run for run in arms[name] if arms[name].count(run) > 1]
        if twice:
            raise CislensError(f"{text!r}: {twice[0]} is given twice; seeds are different runs.")
    return arms


def _recipe(
    arms: dict[str, list[Path]], store: Path, split: str, average: str, draws: int, seed: int
) -> "EvaluateRecipe":
    from cislens.evaluation.profiles.run import EvaluateRecipe
    from cislens.recipes.reading import read_section
    from cislens.signal.store import ProfileStore

    if split not in _PARTS:
        raise CislensError(f"--split {split!r} is none of {', '.join(_PARTS)}.")
    opened = ProfileStore.open(store)
    values = {
        "store": opened.path.resolve(), "store_digest": opened.digest, "arms": arms,
        "weights": _weights(arms), "split": split, "average": average, "draws": draws, "seed": seed,
    }  # fmt: skip
    return read_section(values, EvaluateRecipe, "the command line")


def _weights(arms: dict[str, list[Path]]) -> dict[str, list[str]]:
    """sha256 of the weights of every run."""
    from cislens.evaluation.profiles.arms import Trained

    return {name: [Trained.find(run).digest for run in runs] for name, runs in arms.items()}


def _show(table: "RenderableType", page: Path) -> None:
    from rich.console import Console

    Console().print(table)
    typer.echo(f"report: {page}")
