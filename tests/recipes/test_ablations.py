"""Controls of a training recipe."""

from pathlib import Path

import pytest

from cislens.errors import CislensError
from cislens.recipes.ablations import ablated
from cislens.recipes.multimodal import TERMS, MultimodalTerms
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence_terms import (
    DISTILLATION_TERMS,
    DistillationTerms,
    MaskedTerms,
)

PARTS = ("experts", "decoder", "information", "species")


def packaged(name: str) -> TrainRecipe:
    return read_recipe(recipe_path("train", name), TrainRecipe, {"store": "/store"})


def test_packaged_recipes_are_whole_but_for_the_store() -> None:
    names = packaged_names("train")
    assert {"space-plus-tiny", "space-plus-small", "space-plus-base", "basenji-tiny"} <= set(names)
    for name in names:
        assert packaged(name).store == Path("/store")
    with pytest.raises(CislensError, match="'store' is missing"):
        read_recipe(recipe_path("train", names[0]), TrainRecipe)


@pytest.mark.parametrize("name", ["space-plus-tiny", "space-plus-small", "space-plus-base"])
def test_each_part_can_be_left_out_and_nothing_else_changes(name: str) -> None:
    whole = packaged(name)
    without = {part: ablated(whole, part) for part in PARTS}
    assert without["experts"].model == {"preset": name, "ffn": "dense"}
    assert without["decoder"].model == {"preset": name, "decoder": False}
    assert without["information"].objective.experts.mutual_information == 0  # type: ignore[union-attr]
    assert without["species"].objective.shuffle_species
    for part, recipe in without.items():
        same = {"model": whole.model, "objective": whole.objective}
        assert recipe != whole, part
        assert recipe.model_copy(update=same) == whole, part


def test_a_part_that_is_not_there_cannot_be_left_out() -> None:
    with pytest.raises(CislensError, match="basenji-tiny of the recipe has no experts"):
        ablated(packaged("basenji-tiny"), "experts")
    for part in PARTS:
        for name in ("basenji-tiny", "enformer-base"):
            with pytest.raises(CislensError, match="to leave out"):
                ablated(packaged(name), part)
        with pytest.raises(CislensError, match=r"already|to leave out"):
            ablated(ablated(packaged("space-plus-tiny"), part), part)


@pytest.mark.parametrize("name", ["genebert-plus-tiny", "genebert-paper-tiny"])
@pytest.mark.parametrize("term", TERMS)
def test_a_term_can_be_left_out_and_nothing_else_changes(name: str, term: str) -> None:
    whole = packaged(name)
    assert isinstance(whole.objective, MultimodalTerms)
    if not getattr(whole.objective, term):
        with pytest.raises(CislensError, match=f"has no term '{term}' to leave out"):
            ablated(whole, term)
        return
    without = ablated(whole, term)
    assert getattr(without.objective, term) == 0
    restored = without.objective.model_copy(update={term: getattr(whole.objective, term)})
    assert without.model_copy(update={"objective": restored}) == whole
    with pytest.raises(CislensError, match=f"has no term '{term}' to leave out"):
        ablated(without, term)


def test_the_last_term_cannot_be_left_out() -> None:
    recipe = packaged("genebert-plus-tiny")
    for term in ("match", "contrast", "regions", "motifs"):
        recipe = ablated(recipe, term)
    with pytest.raises(CislensError, match="'masked' is the only term of the recipe's objective"):
        ablated(recipe, "masked")


def test_parts_of_one_objective_are_no_parts_of_the_other() -> None:
    for term in TERMS:
        with pytest.raises(CislensError, match=f"objective has no term '{term}'"):
            ablated(packaged("space-plus-tiny"), term)
    for part in PARTS:
        with pytest.raises(CislensError, match=r"multimodal objective has no such part|to leave"):
            ablated(packaged("genebert-plus-tiny"), part)
    with pytest.raises(CislensError, match=r"no part 'regoins'.*Did you mean 'regions'"):
        ablated(packaged("genebert-plus-tiny"), "regoins")


@pytest.mark.parametrize("term", DISTILLATION_TERMS)
def test_a_term_of_a_distillation_can_be_left_out(term: str) -> None:
    whole = packaged("findna-plus-tiny")
    assert isinstance(whole.objective, DistillationTerms)
    if not getattr(whole.objective, term):
        with pytest.raises(CislensError, match=f"has no term '{term}' to leave out"):
            ablated(whole, term)
        return
    without = ablated(whole, term)
    restored = without.objective.model_copy(update={term: getattr(whole.objective, term)})
    assert without.model_copy(update={"objective": restored}) == whole
    assert getattr(without.objective, term) == 0


def test_the_controls_of_self_distillation_differ_in_the_objective_alone() -> None:
    both, masked, distilled = map(packaged, ("findna-plus-tiny", "masked-tiny", "distilled-tiny"))
    assert ablated(both, "masked") == distilled
    assert masked.model_copy(update={"objective": both.objective}) == both
    assert isinstance(masked.objective, MaskedTerms)
    assert isinstance(both.objective, DistillationTerms)
    assert masked.objective.masks == both.objective.masks
    assert masked.objective.view.length == both.objective.views.length
