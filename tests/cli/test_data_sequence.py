"""`cislens data sequence` on packaged data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cislens.cli.app import main
from cislens.cli.data_sequence import SUFFIX
from cislens.example import core_data
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.sequence import SequenceRecipe
from cislens.sequence.plan import plan_sequences
from cislens.sequence.store import SequenceStore

Run = Callable[..., tuple[int, str, str]]
RECIPES = [name for name in packaged_names("data") if name.endswith(SUFFIX)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run(...)` of `cislens data sequence` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "data", "sequence", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


def test_a_dry_run_says_what_is_built_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "store"
    code, planned, _ = run("example-sequence", "--out", out, "--dry-run", "--json")
    assert code == 0
    assert not list(tmp_path.iterdir())
    plan = json.loads(planned)
    code, told, _ = run("example-sequence", "--out", out, "--workers", 2, "--json")
    assert code == 0
    built = json.loads(told)
    store = SequenceStore.open(out)
    assert {key: built[key] for key in plan} == plan
    assert built["digest"] == store.digest
    assert plan["bytes"] == 6_293_183 == sum(f.stat().st_size for f in out.rglob("c/0"))
    assert set(plan["species"]["fly"]["starts"]) == {"train", "valid", "test"}
    # The parts of a store instead of its own, whatever the seed is.
    again = ["example-sequence", "--out", tmp_path / "b", "--dry-run", "--json", "--seed", 3]
    other = json.loads(run(*again)[1])
    same = json.loads(run(*again, "--parts-of", out)[1])
    assert same["species"] == plan["species"] != other["species"]
    assert len({plan["plan"], other["plan"], same["plan"]}) == 3


def test_mistakes_name_what_is_known(run: Run, tmp_path: Path) -> None:
    code, _, error = run("example-sequences", "--out", tmp_path / "s")
    assert code == 2
    assert "Did you mean 'example-sequence'?" in error
    path = tmp_path / "r.yaml"
    path.write_text(recipe_path("data", "example-sequence").read_text() + "windows: 3\n")
    code, _, error = run(path, "--out", tmp_path / "s")
    assert code == 2
    assert "Did you mean 'window'?" in error
    path.write_text("genomes: {fly: example:fly_mini/dm6_chr2L_4_7Mb.fa.gz}\nwindow: 4000000\n")
    code, _, error = run(path, "--out", tmp_path / "s")
    assert code == 2
    assert "longer than every chromosome" in error
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(core_data() is None, reason="no data folder (CISLENS_DATA)")
@pytest.mark.parametrize("name", RECIPES)
def test_packaged_recipes_name_files_that_are_there(name: str) -> None:
    recipe = read_recipe(recipe_path("data", name), SequenceRecipe)
    for path in (*recipe.genomes.values(), *recipe.probe.values()):
        assert path.exists()


@pytest.mark.slow
@pytest.mark.skipif(core_data() is None, reason="no data folder (CISLENS_DATA)")
@pytest.mark.parametrize(("name", "mbp"), [("yeasts-sequence", 24.6), ("worm-sequence", 15.1)])
def test_packaged_recipes_use_nearly_all_of_their_genomes(name: str, mbp: float) -> None:
    plan = plan_sequences(read_recipe(recipe_path("data", name), SequenceRecipe))
    bases = [part.describe()["tile_bases"] for part in plan.species.values()]
    used = sum(sum(parts.values()) for parts in bases)
    assert used == pytest.approx(mbp * 1e6, rel=0.04)
    train = sum(parts["train"] for parts in bases)
    assert train / used == pytest.approx(0.7, abs=0.05)
