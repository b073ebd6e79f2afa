"""`cislens data sequence`: genomes, and which windows of them may be read, into a store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, Seed, Workers, answer
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.sequence import SequenceRecipe, SequenceSplit

_PACKAGED = "data"
SUFFIX = "-sequence"  # of the names of packaged recipes
_NAMES = [name for name in packaged_names(_PACKAGED) if name.endswith(SUFFIX)]


def command(
    recipe: Annotated[
        str, typer.Argument(help=f"Recipe (YAML), or a packaged one: {', '.join(_NAMES)}.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Store to write (a folder).")],
    parts_of: Annotated[
        Path | None,
        typer.Option(
            "--parts-of",
            help="Profile, region or sequence store whose train, valid and test parts are taken "
            "over.",
        ),
    ] = None,
    workers: Workers = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Whole genomes, and where windows may be cut -> SequenceStore. Resumes an interrupted one."""
    from cislens.sequence.build import build_sequences
    from cislens.sequence.plan import plan_sequences

    read = read_recipe(recipe_path(_PACKAGED, recipe), SequenceRecipe)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    if parts_of is not None:
        split = SequenceSplit(store=parts_of.absolute(), exclude=read.split.exclude)
        read = read.model_copy(update={"split": split})
    result: dict[str, Any] = {"store": str(out)}
    if dry_run:
        result |= plan_sequences(read, workers).describe()
    else:
        store = build_sequences(read, out, workers=workers)
        result |= store.describe() | {"digest": store.digest}
    answer(result, as_json)
