"""`cislens data sequence`: genomes, and which windows of them may be read, into a store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, EngineName, PartOf, Seed, Workers, answer, packaged
from cislens.recipes.packaged import packaged_names, recipe_path

_PACKAGED = "data"
SUFFIX = "-sequence"  # of the names of packaged recipes
_NAMES = [name for name in packaged_names(_PACKAGED) if name.endswith(SUFFIX)]


def command(
    recipe: Annotated[str, packaged(_NAMES)],
    out: Annotated[Path, typer.Option("--out", help="Store to write (a folder).")],
    parts_of: Annotated[
        Path | None,
        typer.Option(
            "--parts-of",
            help="Profile, region or sequence store whose train, valid and test parts are taken "
            "over.",
        ),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    part: PartOf = "1/1",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Whole genomes, and where windows may be cut -> SequenceStore. Resumes an interrupted one."""
    from cislens.recipes.reading import read_recipe
    from cislens.recipes.sequence import SequenceRecipe, SequenceSplit
    from cislens.remote import local, place
    from cislens.scale.engines import engine_of
    from cislens.sequence.build import build_part, finished_store
    from cislens.sequence.plan import plan_sequences
    from cislens.sequence.store import SequenceStore
    from cislens.signal.sharing import read_part

    out = local(out, "a sequence store")
    by, share = engine_of(engine, workers), read_part(part)
    read = read_recipe(recipe_path(_PACKAGED, recipe), SequenceRecipe)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    if parts_of is not None:
        split = SequenceSplit(store=place(parts_of).absolute(), exclude=read.split.exclude)
        read = read.model_copy(update={"split": split})
    result: dict[str, Any] = {"store": str(out)}
    if dry_run:
        answer(result | plan_sequences(read, workers).describe(), as_json)
        return
    if finished_store(read, out) is None:
        left = build_part(out, plan_sequences(read, workers), by, share)
        if left:
            answer(result | {"units_left": left.units}, as_json)
            return
    store = SequenceStore.open(out)
    answer(result | store.describe() | {"digest": store.digest}, as_json)
