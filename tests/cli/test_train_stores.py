"""Which store belongs to which part of a mixture."""

from pathlib import Path

import pytest

from cislens.cli.train_recipe import train_recipe as _recipe
from cislens.errors import CislensError
from cislens.recipes.objectives import MixtureTerms


def test_a_part_of_a_mixture_gets_a_store_of_its_own() -> None:
    read = _recipe("findna-profile-tiny", ["/a", "profile=/b=c"], 7, None, 3)
    assert read.store == Path("/a")
    assert isinstance(read.objective, MixtureTerms)
    stores = {part.objective.name: part.store for part in read.objective.parts}
    assert stores == {"distillation": None, "profile": Path("/b=c")}
    assert (read.training.steps, read.seed) == (7, 3)


@pytest.mark.parametrize(
    ("recipe", "stores", "says"),
    [
        ("findna-profile-tiny", ["profile=/b"], "names no store; give --store"),
        ("findna-profile-tiny", ["/a", "/b"], "/a is the store of the recipe already"),
        ("findna-profile-tiny", ["/a", "masked=/b"], r"no mixture with a part 'masked'"),
        ("findna-plus-tiny", ["/a", "profile=/b"], "no mixture with a part 'profile'"),
    ],
)
def test_stores_that_belong_nowhere_are_refused(recipe: str, stores: list[str], says: str) -> None:
    with pytest.raises(CislensError, match=says):
        _recipe(recipe, stores, None, None, None)


def test_a_folder_with_an_equals_sign_is_no_part(tmp_path: Path) -> None:
    read = _recipe("masked-tiny", [str(tmp_path / "x=y")], None, None, None)
    assert read.store == tmp_path / "x=y"
