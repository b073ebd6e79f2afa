"""The packaged data recipes on the development data."""

import pytest

from cislens.cli.data import plan_store
from cislens.example import core_data
from cislens.recipes.packaged import recipe_path
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe

pytestmark = pytest.mark.skipif(core_data() is None, reason="no data folder (CISLENS_DATA)")


def test_two_yeasts_with_all_their_strands() -> None:
    plan = plan_store(read_recipe(recipe_path("data", "yeasts"), DataRecipe))
    cerevisiae, pombe = (plan.species[name].tracks for name in ("scerevisiae", "spombe"))
    assert (len(cerevisiae), len(pombe)) == (10, 7)
    for tracks, stranded in ((cerevisiae, 6), (pombe, 6)):
        swap = tracks.strand_permutation()
        assert (swap != range(len(tracks))).sum() == stranded
    assert cerevisiae.groups() == {
        "accessibility": 2, "nucleosome": 1, "nucleosome at selected sites": 1, "TF": 2, "TSS": 4,
    }  # fmt: skip
    for part in plan.species.values():
        shares = part.windows["split"].value_counts(normalize=True)
        assert dict(shares.iter_rows())["test"] == pytest.approx(0.2, abs=0.05)
        # Blocks, in which homologous windows lie together, belong to one part.
        assert part.windows.group_by("block").n_unique()["split"].max() == 1


def test_two_human_chromosomes() -> None:
    recipe = read_recipe(recipe_path("data", "human-chr20-21"), DataRecipe)
    assert recipe.genomes.keys() == {"human"}
    assert recipe.length == 8192
