"""Controls of a training recipe: the same run without one of its parts, at equal compute."""

from collections.abc import Callable
from typing import Any

from cislens.errors import CislensError, nearest
from cislens.recipes.schema import PlusTerms, TrainRecipe


def ablated(recipe: TrainRecipe, part: str) -> TrainRecipe:
    """The recipe without one of its parts.

    Args:
        part: "experts" makes the feed-forward layers dense, with as many multiplications a bin;
            "decoder" predicts by the linear heads alone; "information" leaves the mutual
            information of species and expert out of the loss; "species" tells the encoder a
            random species of each window.

    Raises:
        CislensError: if there is no such part, or the recipe does not have it.
    """
    if part not in PARTS:
        raise CislensError(f"There is no part {part!r} to leave out. {nearest(part, PARTS)}")
    return _WITHOUT[part](recipe)


def _without_experts(recipe: TrainRecipe) -> TrainRecipe:
    return _change_model(recipe, "experts", ffn="dense")


def _without_decoder(recipe: TrainRecipe) -> TrainRecipe:
    return _change_model(recipe, "decoder", decoder=False)


def _change_model(recipe: TrainRecipe, part: str, **changes: Any) -> TrainRecipe:
    named = recipe.model
    if named is None:
        raise CislensError(
            f"A model that is trained further keeps its {part}; leave out init_from."
        )
    model = {"preset": named} if isinstance(named, str) else dict(named)
    if not str(model.get("preset", "")).startswith("space-plus"):
        raise CislensError(f"Model {model.get('preset')} has no {part} to leave out.")
    return recipe.model_copy(update={"model": {**model, **changes}})


def _without_information(recipe: TrainRecipe) -> TrainRecipe:
    terms = recipe.objective.experts
    if not isinstance(terms, PlusTerms):
        raise CislensError("Only the terms of kind plus can be trained without information.")
    terms = terms.model_copy(update={"mutual_information": 0.0})
    return _change_objective(recipe, experts=terms)


def _without_species(recipe: TrainRecipe) -> TrainRecipe:
    return _change_objective(recipe, shuffle_species=True)


def _change_objective(recipe: TrainRecipe, **changes: Any) -> TrainRecipe:
    objective = recipe.objective.model_copy(update=changes)
    return recipe.model_copy(update={"objective": objective})


_WITHOUT: dict[str, Callable[[TrainRecipe], TrainRecipe]] = {
    "experts": _without_experts,
    "decoder": _without_decoder,
    "information": _without_information,
    "species": _without_species,
}
PARTS = tuple(_WITHOUT)
