from pathlib import Path

import pytest

from cislens.cli.train_recipe import plan
from cislens.errors import CislensError
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import save_model
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.signal.store import ProfileStore


@pytest.fixture
def recipe(small_store: ProfileStore, tmp_path: Path) -> Path:
    shape = {"dim": 24, "stem_dim": 8, "depth": 1, "heads": 2}
    model = build_model(preset_config("space-plus-tiny", {"yeast": ["yeast-atac-nfr"]}, **shape))
    save_model(model, tmp_path / "old", "# old\n")
    path = tmp_path / "train.yaml"
    path.write_text(
        f"store: {small_store.path}\ninit_from: old\nfreeze: old\n"
        "training: {steps: 10, batch_size: 8, batches: alternate}\n"
    )
    return path


def test_a_plan_says_what_would_be_trained_of_an_older_model(recipe: Path) -> None:
    found = plan(read_recipe(recipe, TrainRecipe))
    assert found["init_from"] == str(recipe.parent / "old")
    assert found["species"] == {"yeast": 3, "fly": 1}
    assert 0 < found["trained"] < 0.2 * found["parameters"]
    assert found["epochs"] > 0


def test_a_dry_run_refuses_what_training_would(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cislens.training.courses.find_spec", lambda name: None)
    read = read_recipe(recipe, TrainRecipe)
    training = read.training.model_copy(update={"loggers": ["wandb"]})
    with pytest.raises(CislensError, match="the package wandb is not installed"):
        plan(read.model_copy(update={"training": training}))
