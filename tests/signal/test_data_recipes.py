"""The packaged data recipes are right as they stand, but for the paths a user puts in."""

import numpy as np
import pytest

from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.signal.bigwig import write_bigwig
from cislens.signal.layout import Shape
from cislens.signal.plan import SplitSpec, plan_profile_store
from cislens.signal.tracks import Track, track_table

ENFORMER = {"enformer-131k": (131_072, 64), "enformer-196k": (196_608, 320)}


def test_the_recipes_are_found_by_name():
    assert set(ENFORMER) <= set(packaged_names("data"))


@pytest.mark.parametrize("name", ENFORMER)
def test_windows_of_enformer_leave_896_bins_that_cover_114688_bp(name):
    recipe = read_recipe(recipe_path("data", name), DataRecipe)
    assert (recipe.length, recipe.crop) == ENFORMER[name]
    shape = Shape(recipe.length, recipe.bin_size, recipe.crop, recipe.margin)
    assert shape.bins == 896
    assert shape.bins * shape.bin_size == 114_688
    assert set(recipe.genomes) == {"human", "mouse"}
    assert recipe.split.block_bp is not None
    assert recipe.split.block_bp > shape.width


@pytest.mark.parametrize("name", ENFORMER)
def test_a_genome_of_ten_megabases_can_be_cut_as_they_say(name, tmp_path):
    recipe = read_recipe(recipe_path("data", name), DataRecipe)
    rng = np.random.default_rng(0)
    sequence = decode(rng.integers(0, 4, 10_000_000).astype(np.uint8))
    (tmp_path / "human.fa").write_text(f">chr1\n{sequence}\n")
    write_bigwig(tmp_path / "a.bw", {"chr1": 10_000_000}, ["chr1"], [100], [900], [2.0])
    tracks = track_table([Track("a", str(tmp_path / "a.bw"), "human", assay="ATAC")])
    split = SplitSpec({"train": 0.6, "valid": 0.2, "test": 0.2}, recipe.split.block_bp)
    plan = plan_profile_store(
        {"human": open_genome(tmp_path / "human.fa", "human")}, tracks, length=recipe.length,
        bin_size=recipe.bin_size, crop=recipe.crop, margin=recipe.margin, split=split,
    )  # fmt: skip
    assert plan.stride == 114_688
    assert plan.species["human"].windows["split"].n_unique() == 3
