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
    from cislens.motifs.build import build_planned
    from cislens.motifs.plan import plan_regions

    read = read_recipe(recipe_path(_PACKAGED, recipe), RegionRecipe)
    plan = plan_regions(read if seed is None else read.model_copy(update={"seed": seed}))
    result: dict[str, Any] = {"store": str(out), **plan.describe()}
    if not dry_run:
        store = build_planned(out, plan, workers=workers)
        result |= {"digest": store.digest, "constants": store.constants_digest}
    answer(result, as_json)
