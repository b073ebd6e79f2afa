import numpy as np
import pytest

from cislens.cli.data import plan_store
from cislens.errors import CislensError
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.signal.blacklist import Blacklist, calm, read_blacklist
from cislens.signal.build import build_profile_store
from cislens.signal.plan import plan_profile_store


def test_values_inside_and_20_bp_beside_are_clipped_to_the_median_of_the_window(toy):
    bed = toy.folder / "black.bed"
    bed.write_text("chrA\t1000\t1010\n")
    regions = read_blacklist(bed, toy.genome)
    assert regions.count == 1
    assert np.flatnonzero(regions.inside("chrA", 900, 200)).tolist() == list(range(80, 130))
    assert not regions.inside("chrB", 900, 200).any()
    values = np.full((3, 200), 3, np.float32)
    values[:, 70:140] = [[50], [-50], [50]]
    chroms = np.array(["chrA", "chrA", "chrB"], object)
    calm(values, regions, chroms, np.array([900, 900, 900]))
    assert (values[0, 80:130] == 3).all()
    assert (values[1, 80:130] == -3).all()
    assert (np.abs(values[:2, [79, 130]]) == 50).all()
    assert (values[2, 70:140] == 50).all()


def test_the_baseline_is_that_of_measured_bases_and_the_others_stay_unmeasured():
    regions = Blacklist({"c": np.array([[2, 5]])}, "")
    values = np.array([[np.nan, np.nan, np.nan, 9, 9, 4, 4, 4], [np.nan] * 8], np.float32)
    calm(values, regions, np.array(["c", "c"], object), np.array([0, 0]))
    np.testing.assert_array_equal(values[0], [np.nan, np.nan, np.nan, 4, 4, 4, 4, 4])
    assert np.isnan(values[1]).all()


def test_a_store_differs_in_the_listed_bins_alone(toy):
    (toy.folder / "black.bed").write_text("A\t1100\t1200\n")  # another style of names
    regions = {"toy": read_blacklist(toy.folder / "black.bed", toy.genome)}
    plain = build_profile_store(toy.folder / "plain", toy.genomes, toy.tracks, **toy.settings)
    calmed = build_profile_store(
        toy.folder / "calmed", toy.genomes, toy.tracks, **toy.settings, blacklist=regions
    )
    rows = np.arange(plain.windows("toy").height)
    differ = plain.targets("toy", rows) != calmed.targets("toy", rows)
    windows = plain.windows("toy")
    for row, bins in zip(*np.nonzero(differ.any(axis=2)), strict=True):
        first = windows["start"][int(row)] + (1 + bins) * 32
        assert windows["chrom"][int(row)] == "chrA"
        assert first < 1220
        assert first + 32 > 1080
    # One window holds 1080 to 1220: that from 960, whose bin b begins at 992 + 32 b. Counts are
    # sparse, so its median is 0 and so is what is left of the region.
    assert np.flatnonzero(differ.any(axis=(0, 2))).tolist() == list(range(2, 8))
    row = windows["start"].to_list().index(960)
    assert (calmed.targets("toy", [row])[0, 3:7] == 0).all()
    inputs = calmed.manifest["species"]["toy"]["inputs"]
    assert inputs["blacklist"] == regions["toy"].digest
    assert plain.manifest["species"]["toy"]["inputs"]["blacklist"] is None


def test_a_recipe_names_it_by_species(toy):
    (toy.folder / "black.bed").write_text("chrA\t1100\t1200\n")
    (toy.folder / "tracks.tsv").write_text("id\tspecies\tfile\natac\ttoy\tatac.bw\n")
    recipe = toy.folder / "data.yaml"
    text = (
        "genomes: {toy: toy.fa}\ntracks: tracks.tsv\nlength: 1024\n"
        "split: {valid: {toy: [chrB]}, test: {toy: [chrC]}}\nblacklist: {NAME: black.bed}\n"
    )
    recipe.write_text(text.replace("NAME", "toy"))
    described = plan_store(read_recipe(recipe, DataRecipe)).describe()
    assert described["species"]["toy"]["blacklisted_regions"] == 1
    recipe.write_text(text.replace("NAME", "toi"))
    with pytest.raises(CislensError, match=r"blacklist names species 'toi', which has no genome"):
        plan_store(read_recipe(recipe, DataRecipe))


def test_a_blacklist_of_another_species_is_refused(toy):
    (toy.folder / "black.bed").write_text("scaffold_9\t100\t200\n")
    with pytest.raises(CislensError, match=r"no chromosome of .*black\.bed"):
        read_blacklist(toy.folder / "black.bed", toy.genome)
    regions = Blacklist({}, "")
    with pytest.raises(CislensError, match="the blacklist names species 'fly'"):
        plan_profile_store(toy.genomes, toy.tracks, **toy.settings, blacklist={"fly": regions})
