"""`cislens data`: from genomes and measured tracks to what models train on."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli import data_basenji, data_regions, data_sequence, task
from cislens.cli.options import AsJson, DryRun, EngineName, PartOf, Seed, Workers, answer, packaged
from cislens.errors import CislensError, nearest
from cislens.recipes.packaged import packaged_names, recipe_path

if TYPE_CHECKING:
    from cislens.recipes.profiles import DataRecipe
    from cislens.signal.plan import ProfilePlan

_PACKAGED = "data"

app = typer.Typer(help="Build what models train on and are judged by.", no_args_is_help=True)
app.add_typer(task.app, name="task")
app.command("basenji")(data_basenji.command)
app.command("regions")(data_regions.command)
app.command("sequence")(data_sequence.command)

_OTHERS = (data_regions.SUFFIX, data_sequence.SUFFIX)
_NAMES = [name for name in packaged_names(_PACKAGED) if not name.endswith(_OTHERS)]


@app.command("profile")
def profile(
    recipe: Annotated[
        str,
        packaged(_NAMES),
    ],
    out: Annotated[
        str, typer.Option("--out", help="Store to write: a folder, or an address (s3://...).")
    ],
    engine: EngineName = "local",
    workers: Workers = 1,
    part: PartOf = "1/1",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Genomes and a track table -> ProfileStore. Resumes a build that was interrupted."""
    from cislens.recipes.profiles import DataRecipe
    from cislens.recipes.reading import read_recipe
    from cislens.scale.engines import engine_of
    from cislens.signal.build import build_part
    from cislens.signal.sharing import read_part
    from cislens.signal.store import ProfileStore

    by, share = engine_of(engine, workers), read_part(part)
    read = read_recipe(recipe_path(_PACKAGED, recipe), DataRecipe)
    plan = plan_store(read if seed is None else read.model_copy(update={"seed": seed}))
    result: dict[str, Any] = {"store": str(out), **plan.describe(workers)}
    if not dry_run:
        left = build_part(out, plan, by, share)
        result |= {"units_left": left.units} if left else {"digest": ProfileStore.open(out).digest}
    answer(result, as_json)


@app.command("verify")
def verify(
    store: Annotated[
        str, typer.Argument(help="Profile, region or sequence store; the first also an address.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare every file of a store with its digest.

    Damage is named, by file and windows.
    """
    from cislens.files import manifest_format
    from cislens.motifs.store import FORMAT as REGIONS
    from cislens.motifs.store import RegionStore
    from cislens.sequence.store import FORMAT as SEQUENCES
    from cislens.sequence.store import SequenceStore
    from cislens.signal.store import ProfileStore

    kinds: dict[str, Any] = {REGIONS: RegionStore, SEQUENCES: SequenceStore}
    opened = kinds.get(manifest_format(store) or "", ProfileStore).open(store)
    opened.verify()
    files = opened.manifest["files"].values()
    size = sum(entry["bytes"] for entry in files)
    answer({"store": store, "files": len(files), "bytes": size, "damaged": 0}, as_json)


def plan_store(recipe: "DataRecipe") -> "ProfilePlan":
    """The checked plan of a recipe's store."""
    from cislens.genome.reference import open_genome
    from cislens.signal.blacklist import read_blacklist
    from cislens.signal.plan import SplitSpec, plan_profile_store
    from cislens.signal.tracks import read_tracks

    split = recipe.split
    genomes = {name: open_genome(path, name) for name, path in recipe.genomes.items()}
    for name in recipe.blacklist:
        if name not in genomes:
            raise CislensError(
                f"the blacklist names species {name!r}, which has no genome. "
                f"{nearest(name, genomes)}"
            )
    return plan_profile_store(
        genomes,
        read_tracks(recipe.tracks),
        length=recipe.length,
        bin_size=recipe.bin_size,
        crop=recipe.crop,
        margin=recipe.margin,
        stride=recipe.stride,
        split=SplitSpec(split.fractions, split.block_bp, split.valid, split.test, split.exclude),
        seed=recipe.seed,
        blacklist={
            name: read_blacklist(path, genomes[name]) for name, path in recipe.blacklist.items()
        },
        values=recipe.values,
    )
