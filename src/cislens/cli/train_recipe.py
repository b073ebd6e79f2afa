"""The recipe of `cislens train` with what the command line changes, and what it would do."""

from pathlib import Path
from typing import Any

from cislens.errors import CislensError, nearest
from cislens.recipes.ablations import ablated
from cislens.recipes.objectives import OBJECTIVES, MixtureTerms
from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.remote import place

PACKAGED = "train"


def train_recipe(
    name: str, stores: list[str], steps: int | None, without: str | None, seed: int | None
) -> TrainRecipe:
    """The recipe with what the command line changes.

    Raises:
        CislensError: if it is wrong, or what is changed does not go with it.
    """
    path = recipe_path(PACKAGED, name)
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


def matched(recipe: TrainRecipe, run: Path, steps: int | None) -> TrainRecipe:
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
