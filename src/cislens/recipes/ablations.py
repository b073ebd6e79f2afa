"""Controls of a training recipe: the same run without one of its parts, at equal compute."""

from collections.abc import Callable
from functools import partial
from typing import Any

from cislens.errors import CislensError, nearest
from cislens.recipes.multimodal import TERMS, MultimodalTerms
from cislens.recipes.profiles import Objective
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence_terms import DISTILLATION_TERMS, DistillationTerms


def ablated(recipe: TrainRecipe, part: str) -> TrainRecipe:
    """The recipe without one of its parts.

    Args:
        part: "experts" makes the feed-forward layers dense, with as many multiplications a bin;
            "decoder" predicts by the linear heads alone; "information" leaves the mutual
            information of species and expert out of the loss; "species" tells the encoder a
            random species of each window; "masked", "next", "match", "contrast", "regions" and
            "motifs" leave that term out of a multi-modal objective, "masked", "latent", "pooled"
            and "koleo" out of a self-distillation.

    Raises:
        CislensError: if there is no such part, or the recipe does not have it.
    """
    if part not in PARTS:
        raise CislensError(f"There is no part {part!r} to leave out. {nearest(part, PARTS)}")
    return _WITHOUT[part](recipe)


def _without_experts(recipe: TrainRecipe) -> TrainRecipe:
    model = _model_with(recipe, "experts", "space-plus")
    return recipe.model_copy(update={"model": {**model, "ffn": "dense"}})


def _without_decoder(recipe: TrainRecipe) -> TrainRecipe:
    model = _model_with(recipe, "decoder", "space-plus", "space-paper")
    return recipe.model_copy(update={"model": {**model, "decoder": False}})


def _without_information(recipe: TrainRecipe) -> TrainRecipe:
    terms = _profile(recipe).experts
    _model_with(recipe, "experts", "space-plus", "space-paper")
    if not terms.mutual_information:
        raise CislensError("The recipe's loss has no mutual information to leave out.")
    terms = terms.model_copy(update={"mutual_information": 0.0})
    return _change_objective(recipe, experts=terms)


def _without_species(recipe: TrainRecipe) -> TrainRecipe:
    _model_with(recipe, "species", "space-plus", "space-paper")
    if _profile(recipe).shuffle_species:
        raise CislensError("The recipe tells no species already.")
    return _change_objective(recipe, shuffle_species=True)


def _without_term(recipe: TrainRecipe, term: str) -> TrainRecipe:
    terms = recipe.objective
    if not isinstance(terms, MultimodalTerms | DistillationTerms) or not getattr(terms, term, 0):
        raise CislensError(f"The recipe's objective has no term {term!r} to leave out.")
    names = TERMS if isinstance(terms, MultimodalTerms) else DISTILLATION_TERMS
    if not any(getattr(terms, other) for other in names if other != term):
        raise CislensError(f"{term!r} is the only term of the recipe's objective.")
    return recipe.model_copy(update={"objective": type(terms)(**terms.model_dump() | {term: 0.0})})


def _profile(recipe: TrainRecipe) -> Objective:
    if not isinstance(recipe.objective, Objective):
        raise CislensError(f"A {recipe.objective.name} objective has no such part.")
    return recipe.objective


def _model_with(recipe: TrainRecipe, part: str, *kinds: str) -> dict[str, Any]:
    """The recipe's model as keys and values, if it has the part."""
    named = recipe.model
    if named is None:
        raise CislensError(
            f"A model that is trained further keeps its {part}; leave out init_from."
        )
    model = {"preset": named} if isinstance(named, str) else dict(named)
    lacks = {"experts": model.get("ffn") == "dense", "decoder": model.get("decoder") is False}
    if not str(model.get("preset", "")).startswith(kinds) or lacks.get(part, False):
        raise CislensError(f"Model {model.get('preset')} of the recipe has no {part} to leave out.")
    return model


def _change_objective(recipe: TrainRecipe, **changes: Any) -> TrainRecipe:
    objective = recipe.objective.model_copy(update=changes)
    return recipe.model_copy(update={"objective": objective})


_WITHOUT: dict[str, Callable[[TrainRecipe], TrainRecipe]] = {
    "experts": _without_experts,
    "decoder": _without_decoder,
    "information": _without_information,
    "species": _without_species,
    **{
        term: partial(_without_term, term=term)
        for term in dict.fromkeys((*TERMS, *DISTILLATION_TERMS))
    },
}
PARTS = tuple(_WITHOUT)
