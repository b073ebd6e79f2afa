"""`cislens train`: a recipe to a trained representation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, DryRun, Seed, answer
from cislens.errors import CislensError, nearest
from cislens.recipes.ablations import PARTS, ablated
from cislens.recipes.objectives import OBJECTIVES, MixtureTerms
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.remote import place

if TYPE_CHECKING:
    from cislens.training.fit import Run

_PACKAGED = "train"


def command(
    recipe: Annotated[
        str,
        typer.Argument(
            help=f"Recipe (YAML), or a packaged one: {', '.join(packaged_names(_PACKAGED))}."
        ),
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
    read = _recipe(recipe, store or [], steps, without, seed)
    if match is not None:
        read = _matched(read, match, steps)
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


def _recipe(
    name: str, stores: list[str], steps: int | None, without: str | None, seed: int | None
) -> TrainRecipe:
    """The recipe with what the command line changes."""
    path = recipe_path(_PACKAGED, name)
    of_parts, whole = _stores(stores)
    if whole is None and path != Path(name):
        raise CislensError(
            f"The packaged recipe {name} names no store; give --store, the folder that "
            "`cislens data profile`, `cislens data regions` or `cislens data sequence` made."
        )
    given = {} if whole is None else {"store": str(whole)}
    read = read_recipe(path, TrainRecipe, given)
    if of_parts:
        read = _with_stores(read, of_parts)
    if without is not None:
        read = ablated(read, without)
    if seed is not None:
        read = read.model_copy(update={"seed": seed})
    return read if steps is None else _of_steps(read, steps)


def _stores(given: list[str]) -> tuple[dict[str, Path], Path | None]:
    """Stores of parts of a mixture by the name of the objective, and that of the recipe."""
    of_parts: dict[str, Path] = {}
    whole = None
    for each in given:
        name, equals, folder = each.partition("=")
        if equals and name in OBJECTIVES:
            of_parts[name] = place(folder).resolve()
        elif whole is None:
            whole = place(each).resolve()
        else:
            raise CislensError(
                f"--store {each}: {whole} is the store of the recipe already; that of a part of a "
                f"mixture is OBJECTIVE=STORE, with one of {', '.join(OBJECTIVES)}."
            )
    return of_parts, whole


def _with_stores(recipe: TrainRecipe, stores: dict[str, Path]) -> TrainRecipe:
    """The mixture with other stores for some of its parts."""
    terms = recipe.objective
    parts = terms.parts if isinstance(terms, MixtureTerms) else []
    names = [part.objective.name for part in parts]
    for name in stores:
        if name not in names:
            raise CislensError(
                f"--store {name}=...: the recipe is no mixture with a part {name!r}. "
                + (nearest(name, names) if names else "Give --store STORE.")
            )
    parts = [
        part.model_copy(update={"store": stores.get(part.objective.name, part.store)})
        for part in parts
    ]
    return recipe.model_copy(update={"objective": terms.model_copy(update={"parts": parts})})


def _matched(recipe: TrainRecipe, run: Path, steps: int | None) -> TrainRecipe:
    """The recipe with as many steps as spend the FLOPs of a run."""
    if steps is not None:
        raise CislensError("--steps and --match both say how long to train; give one.")
    from cislens.training.courses import course_of
    from cislens.training.ledger import matched_steps

    return _of_steps(recipe, matched_steps(course_of(recipe), run))


def _of_steps(recipe: TrainRecipe, steps: int) -> TrainRecipe:
    training = recipe.training.model_copy(update={"steps": steps})
    return recipe.model_copy(update={"training": training})


def plan(recipe: TrainRecipe) -> dict[str, Any]:
    """What training would do: data, steps, parameters, and the first bases it would see."""
    from cislens.training.courses import course_of
    from cislens.training.ledger import step_flops

    course = course_of(recipe)
    facts = course.facts()
    model, training = course.objective.model, recipe.training
    parameters = list(model.parameters())
    return {
        "store": facts["store"]["path"],
        **({"init_from": facts["ancestor"]["path"]} if "ancestor" in facts else {}),
        "parameters": sum(value.numel() for value in parameters),
        "trained": sum(value.numel() for value in parameters if value.requires_grad),
        "steps": training.steps,
        "epochs": round(training.steps / len(course.loader), 2),
        "bases": training.steps * course.bases,
        "flops": training.steps * step_flops(course),
        **course.preview(),
    }
