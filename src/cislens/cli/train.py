"""`cislens train`: a recipe to a trained representation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cislens.cli.options import AsJson, DryRun, Seed, answer, packaged
from cislens.recipes.packaged import packaged_names

if TYPE_CHECKING:
    from cislens.training.fit import Run

# As `recipes.ablations.PARTS`, which knows the recipes and takes longer to load than help may.
PARTS = (
    "experts",
    "decoder",
    "information",
    "species",
    "masked",
    "next",
    "match",
    "contrast",
    "regions",
    "motifs",
    "latent",
    "pooled",
    "koleo",
)


def command(
    recipe: Annotated[
        str,
        packaged(packaged_names("train")),
    ],
    out: Annotated[Path, typer.Option("--out", help="Run folder.")],
    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            help="Replaces the store of the recipe. Of a mixture OBJECTIVE=STORE replaces that of "
            "one part; give --store again for each.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Replaces the number of steps of the recipe.")
    ] = None,
    match: Annotated[
        Path | None,
        typer.Option(
            "--match",
            help="Finished run: train for as many steps as spend its FLOPs, in place of --steps.",
        ),
    ] = None,
    without: Annotated[
        str | None,
        typer.Option("--without", help=f"Train the control without one part: {', '.join(PARTS)}."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: Seed = None,
) -> None:
    """Train the recipe's model. The same command again resumes a run that was interrupted."""
    from cislens.cli.train_recipe import matched, plan, train_recipe

    read = train_recipe(recipe, store or [], steps, without, seed)
    if match is not None:
        read = matched(read, match, steps)
    if dry_run:
        answer(plan(read), as_json)
        return
    from cislens.training.devices import is_first
    from cislens.training.fit import fit

    run = fit(read, out)
    if not is_first():  # of the processes that have trained together
        return
    answer(
        {"run": str(run.folder), "model_folder": str(run.model_folder), **run.manifest},
        as_json,
        _summary(run),
    )


def _summary(run: "Run") -> str:
    """The finished run in a few lines; its manifest has the rest."""
    manifest, ledger, selection = run.manifest, run.manifest["ledger"], run.manifest["selection"]
    chosen = selection["metric"]
    shown = dict.fromkeys(name for name in (chosen, *selection.get("headline", ())) if name)
    values = ((name, manifest["valid"].get(name)) for name in shown)
    scores = ", ".join(
        f"{name} {'not measured' if value is None else f'{value:.4f}'}" for name, value in values
    )
    return (
        f"run: {run.folder}\n"
        f"model: {run.model_folder}, {ledger['parameters']:,} parameters "
        f"({ledger['trained_parameters']:,} trained)\n"
        f"store: {manifest['store']['path']}\n"
        f"objective: {manifest['objective']}, seed {manifest['seed']}\n"
        f"weights: of step {selection['step']} of {ledger['steps']}, by {chosen or 'being last'}\n"
        f"valid: {scores}\n"
        f"time: {ledger['train_seconds']:.1f} s, {ledger['bases_per_second']:,.0f} bases/s, "
        f"{ledger['loader_wait_share']:.0%} of it waiting for data; {ledger['flops']:.3g} FLOPs"
    )
