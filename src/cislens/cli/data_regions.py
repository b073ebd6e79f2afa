"""`cislens data regions`: what is open in cell types, and which motifs are there, into a store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, Seed, Workers, answer
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.regions import RegionRecipe

_PACKAGED = "data"
SUFFIX = "-regions"  # of the names of packaged recipes
_NAMES = [name for name in packaged_names(_PACKAGED) if name.endswith(SUFFIX)]


def command(
    recipe: Annotated[
        str, typer.Argument(help=f"Recipe (YAML), or a packaged one: {', '.join(_NAMES)}.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Store to write (a folder).")],
    workers: Workers = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Peaks of cell types, a genome and motifs -> RegionStore. Resumes an interrupted build."""
    from cislens.motifs.build import build_regions
    from cislens.motifs.plan import describe_store, plan_regions

    read = read_recipe(recipe_path(_PACKAGED, recipe), RegionRecipe)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    result: dict[str, Any] = {"store": str(out)}
    if dry_run:
        result |= plan_regions(read).describe()
    else:
        store = build_regions(read, out, workers=workers)
        result |= describe_store(store)
        result |= {"digest": store.digest, "constants": store.constants_digest}
    answer(result, as_json)
