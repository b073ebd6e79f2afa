"""`cislens data regions` on packaged data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cislens.cli.app import main
from cislens.cli.data_regions import SUFFIX, scan_on
from cislens.motifs.build import build_regions
from cislens.motifs.store import RegionStore
from cislens.recipes.packaged import packaged_names, recipe_path
from cislens.recipes.reading import read_recipe
from cislens.recipes.regions import RegionRecipe

Run = Callable[..., tuple[int, str, str]]
RECIPES = [name for name in packaged_names("data") if name.endswith(SUFFIX)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run(...)` of `cislens data regions` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "data", "regions", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The packaged example with few regions and motifs."""
    text = recipe_path("data", "example-regions").read_text()
    path = tmp_path / "small.yaml"
    path.write_text(text + "max_regions: 120\narchetypes: 12\n")
    return path


def test_a_dry_run_says_what_is_built_and_writes_nothing(run: Run, tmp_path: Path, recipe: Path):
    out = tmp_path / "store"
    code, planned, _ = run(recipe, "--out", out, "--dry-run", "--json")
    assert code == 0
    assert not list(tmp_path.glob("store*"))
    plan = json.loads(planned)
    code, told, _ = run(recipe, "--out", out, "--workers", 2, "--json")
    assert code == 0
    built = json.loads(told)
    store = RegionStore.open(out)
    assert {key: built[key] for key in plan} == plan
    assert built["digest"] == store.digest
    assert built["constants"] == store.constants_digest
    assert sum(plan["regions"].values()) == store.regions.height
    assert plan["cells"] == {"wild-type": {"split": "train", "regions": store.regions.height}}
    assert plan["motifs"]["rows"] == store.motifs.height == 12
    written = sum(f.stat().st_size for f in out.rglob("c/*/*"))
    assert plan["bytes"] == written


def test_the_seed_decides_the_split(run: Run, tmp_path: Path, recipe: Path):
    plans = [
        json.loads(run(recipe, "--out", tmp_path / "s", "--dry-run", "--json", *seed)[1])
        for seed in ((), ("--seed", 1))
    ]
    assert plans[0]["plan"] != plans[1]["plan"]
    assert plans[0]["read"] == plans[1]["read"]


def test_mistakes_name_the_line_and_what_is_known(run: Run, tmp_path: Path, recipe: Path):
    text = recipe.read_text()
    recipe.write_text(text.replace("signal:", "signals:"))
    code, _, error = run(recipe, "--out", tmp_path / "store")
    assert code != 0
    assert "unknown key 'signals'" in error
    assert "small.yaml line" in error
    code, _, error = run("yeast-region", "--out", tmp_path / "store")
    assert code != 0
    assert "yeast-regions" in error


@pytest.mark.parametrize("name", RECIPES)
def test_packaged_recipes_can_be_read(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CISLENS_DATA", str(tmp_path))
    read = read_recipe(recipe_path("data", name), RegionRecipe)
    assert set(read.split.valid_cells + read.split.test_cells) <= set(read.cells)


@pytest.mark.slow
def test_yeast_builds_from_the_data_folder(run: Run, tmp_path: Path, core_data: Path):
    code, told, _ = run("yeast-regions", "--out", tmp_path / "store", "--json")
    assert code == 0
    store = RegionStore.open(tmp_path / "store")
    assert json.loads(told)["dropped_homologs"] + store.regions.height <= 1823
    assert set(store.regions["split"]) == {"train", "valid", "test"}


def test_motifs_scanned_by_convolution_are_the_same_but_for_rounding(tmp_path: Path, recipe: Path):
    read = read_recipe(recipe, RegionRecipe)
    plain = build_regions(read, tmp_path / "plain")
    convolved = build_regions(read, tmp_path / "convolved", scan=scan_on("cpu"))
    rows = np.arange(plain.regions.height)
    # float16 has steps of 2^-8 between 2 and 4, and the values lie within +-16: 2^-6 at most.
    difference = plain.raw(rows).astype(float) - convolved.raw(rows).astype(float)
    assert np.abs(difference).max() <= 2**-6
    assert (difference == 0).mean() > 0.99
    assert plain.regions.equals(convolved.regions)


def test_a_device_that_is_not_there_is_refused(run: Run, tmp_path: Path, recipe: Path):
    for device in ("cuda", "tpu"):
        if device == "cuda" and torch.cuda.is_available():
            continue
        code, _, error = run(recipe, "--out", tmp_path / "s", "--device", device)
        assert code == 2
        assert f"--device {device}: motifs are scanned on cpu, or on cuda" in error
    assert not list(tmp_path.glob("s*.partial")) and not (tmp_path / "s").exists()
