from pathlib import Path

import pytest
import yaml

from cislens.errors import CislensError, MissingFileError
from cislens.example import example_path
from cislens.recipes.packaged import recipe_path
from cislens.recipes.reading import (
    RecipePath,
    Section,
    check_claim,
    claim_folder,
    read_recipe,
    read_yaml,
    write_recipe,
)
from cislens.recipes.schema import BenchRecipe, TrainRecipe

GOOD = """\
store: data/store
model: space-plus-tiny
training:
  steps: 10
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_paths_are_resolved_against_the_recipe_folder(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD), TrainRecipe)
    assert recipe.store == tmp_path / "data/store"


def test_another_recipe_is_found_beside_the_one_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("tasks: {}")
    recipe = read_recipe(write(tmp_path, "suites: [mine.yaml, core]"), BenchRecipe)
    assert recipe.suites == [str(tmp_path / "mine.yaml"), "core"]


def test_a_folder_does_not_hide_a_packaged_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "core").mkdir()
    assert recipe_path("bench", "core").suffix == ".yaml"
    (tmp_path / "core").rmdir()
    (tmp_path / "core").write_text("suites: [core]")
    assert recipe_path("bench", "core") == Path("core")


def test_example_paths_point_into_the_package(tmp_path: Path) -> None:
    class Genomes(Section):
        yeast: RecipePath

    path = write(tmp_path, "yeast: example:yeast_mini/chrom.sizes\n")
    assert read_recipe(path, Genomes).yeast == example_path("yeast_mini/chrom.sizes")


def test_defaults_are_written_out_and_read_back(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD), TrainRecipe)
    text = write_recipe(recipe)
    assert yaml.safe_load(text)["training"]["learning_rate"] == 3e-4
    assert read_recipe(write(tmp_path, text), TrainRecipe) == recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("model", "modle"), ["line 2", "'modle'", "'model'"]),
        (GOOD.replace("steps", "setps"), ["line 4", "'setps'", "'steps'"]),
        (GOOD + "  batch_size: many\n", ["line 5", "training.batch_size", "'many'"]),
        (GOOD.replace("steps: 10", "clip: 1"), ["line 3", "'training.steps' is missing"]),
        (GOOD.replace("10", "0"), ["line 4", "training.steps", "greater than or equal to 1"]),
        ("- a\n- b\n", ["must hold keys and values"]),
        ("store: [unclosed\n", ["not valid YAML", "line 2"]),
    ],
)
def test_a_mistake_names_file_line_and_what_to_do(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    with pytest.raises(CislensError) as caught:
        read_recipe(write(tmp_path, text), TrainRecipe)
    for part in ["recipe.yaml", *expected]:
        assert part in str(caught.value)


def test_a_key_may_replace_a_merged_one_and_stands_once(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n"
    assert read_yaml(write(tmp_path, text))[0]["b"] == {"x": 1, "y": 3}
    with pytest.raises(CislensError, match=r"line 2: the key 'y' is there twice"):
        read_yaml(write(tmp_path, text.replace("y: 3", "y: 3, y: 4")))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.yaml does not exist"):
        read_recipe(tmp_path / "nowhere.yaml", TrainRecipe)


class Listing(Section):
    runs: dict[str, int] = {}
    seed: int = 0


def test_a_folder_may_gain_what_it_may_grow_by_and_nothing_else(tmp_path: Path) -> None:
    claim_folder(tmp_path, Listing(runs={"a": 1}))
    grown = Listing(runs={"a": 1, "b": 2})
    with pytest.raises(CislensError, match="another recipe"):
        claim_folder(tmp_path, grown)
    claim_folder(tmp_path, grown, may_grow=["runs"])
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["runs"] == {"a": 1, "b": 2}
    for other in (Listing(runs={"a": 1}), Listing(runs={"a": 3, "b": 2}), Listing(seed=1)):
        with pytest.raises(CislensError, match="another recipe"):
            claim_folder(tmp_path, other, may_grow=["runs"])


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "shell.log").touch()
    check_claim(tmp_path, Listing())
    (tmp_path / "manifest.json").touch()
    with pytest.raises(CislensError, match=r"holds manifest\.json but no recipe\.yaml"):
        claim_folder(tmp_path, Listing())
    assert not (tmp_path / "recipe.yaml").exists()
    with pytest.raises(CislensError, match="is a file"):
        claim_folder(tmp_path / "lock", Listing())
    (tmp_path / "recipe.yaml").write_text("steps: 3\n")
    with pytest.raises(CislensError, match="another recipe"):
        check_claim(tmp_path, Listing(), may_grow=["runs"])
