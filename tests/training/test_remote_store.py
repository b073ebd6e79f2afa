"""Training from a store on object storage: the same run as from its copy here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cislens.cli.app import main
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.remote import Address, Remote
from cislens.signal.store import ProfileStore
from cislens.training import fit as fitting
from cislens.training.module import ObjectiveModule


@pytest.mark.slow
def test_a_run_from_an_address_is_the_run_from_a_folder(
    small_store: ProfileStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in sorted(path for path in small_store.path.rglob("*") if path.is_file()):
        Remote(Address(bucket)).upload(file, str(file.relative_to(small_store.path)))
    recipe = tmp_path / "train.yaml"
    recipe.write_text(
        "store: s3://nowhere\nmodel: {preset: space-plus-tiny, dim: 24, stem_dim: 8, depth: 1}\n"
        "objective: {name: profile, tracks: 'species == \"yeast\"'}\n"
        "training: {steps: 4, batch_size: 4, validate_every: 2}\n"
    )

    def train(store: str | Path, out: str) -> int | str | None:
        given = ["cislens", "train", recipe, "--store", store, "--out", tmp_path / out]
        monkeypatch.setattr("sys.argv", list(map(str, given)))
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code

    assert not train(small_store.path, "here")
    step = ObjectiveModule.training_step

    def falls(module: ObjectiveModule, *given: Any) -> torch.Tensor:
        if module.global_step == 3:
            raise SystemError("pulled the plug")
        return step(module, *given)

    with monkeypatch.context() as patch, pytest.raises(SystemError, match="pulled the plug"):
        patch.setattr(ObjectiveModule, "training_step", falls)
        fitting.fit(read_recipe(recipe, TrainRecipe, {"store": bucket}), tmp_path / "there")
    assert (tmp_path / "there" / "recipe.yaml").read_text().startswith(f"store: {bucket}\n")
    assert not train(bucket, "there")
    here, there = (
        json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("here", "there")
    )
    assert there["store"] == {"path": bucket, "digest": small_store.digest}
    assert here["store"]["digest"] == there["store"]["digest"]
    assert here["valid"] == there["valid"]
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("here", "there")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
