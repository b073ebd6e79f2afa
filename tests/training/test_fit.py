import json
import logging
from pathlib import Path

import polars as pl
import pytest
import torch
from lightning.pytorch import Callback

from cislens.errors import CislensError
from cislens.models.saving import load_model
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training import fit as fitting
from cislens.training.fit import Run, fit
from cislens.training.monitor import Monitor
from cislens.training.start import model_for
from cislens.training.watch import ExpertWatch

TINY = {"preset": "space-plus-tiny", "dim": 24, "stem_dim": 8, "depth": 1, "heads": 2}


@pytest.fixture
def recipe(small_store: ProfileStore) -> TrainRecipe:
    training = Training(steps=10, batch_size=8, validate_every=4, ema_decay=0.5)
    return TrainRecipe(store=small_store.path, model=TINY, training=training)


class Interrupt(Callback):
    """Raises in the middle of an interval between two checkpoints."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *rest) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_step == self.step:
            raise SystemError("pulled the plug")


def weights(run: Run) -> bytes:
    return (run.model_folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("batches", ["mixed", pytest.param("alternate", marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bytes(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: str
) -> None:
    training = recipe.training.model_copy(update={"batches": batches})
    recipe = recipe.model_copy(update={"training": training})
    whole = fit(recipe, tmp_path / "whole")
    make = fitting._trainer
    with monkeypatch.context() as patch, pytest.raises(SystemError, match="pulled the plug"):
        patch.setattr(fitting, "_trainer", lambda r, f, c: make(r, f, [*c, Interrupt(6)]))
        fit(recipe, tmp_path / "parts")
    assert Run.open(tmp_path / "parts") is None
    parts = fit(recipe, tmp_path / "parts")
    assert weights(parts) == weights(whole)
    a, b = (pl.read_parquet(run.metrics_path) for run in (whole, parts))
    assert a.equals(b)
    assert a.filter(split="valid")["step"].unique().sort().to_list() == [4, 8, 10]


def test_a_run_folder_is_complete_and_its_model_is_the_chosen_one(
    recipe: TrainRecipe, tmp_path: Path
) -> None:
    run = fit(recipe, tmp_path / "run")
    manifest = json.loads((run.folder / "manifest.json").read_text())
    rows = pl.read_parquet(run.metrics_path).filter(metric="poisson_nll", split="valid")
    best = rows.sort("value").row(0, named=True)
    assert manifest["selection"]["step"] == best["step"]
    assert manifest["ledger"]["windows"] == 80
    assert 0 <= manifest["ledger"]["loader_wait_share"] < 1
    model = load_model(run.model_folder)
    assert torch.isfinite(model(torch.zeros(1, 4, 1024), species="fly")).all()
    # A finished run is returned as it is.
    assert fit(recipe, tmp_path / "run").manifest == manifest


def test_loss_of_validation_has_the_terms_of_training(recipe: TrainRecipe, tmp_path: Path) -> None:
    """And where it is the Poisson likelihood, it is the metric of that name."""
    metrics = pl.read_parquet(fit(recipe, tmp_path / "run").metrics_path)
    last = {
        split: dict(metrics.filter(split=split, step=8).select("metric", "value").iter_rows())
        for split in ("train", "valid")
    }
    # Validation batches of one species have no mutual information.
    assert set(last["train"]) - {"mutual_information"} <= set(last["valid"])
    assert {"poisson", "auxiliary", "balance", "z", "mutual_information"} <= set(last["train"])
    for name in (name for name in last["train"] if name.startswith("poisson/")):
        likelihood = last["valid"][name.replace("poisson", "poisson_nll")]
        assert last["valid"][name] == pytest.approx(likelihood, rel=1e-5)


def test_another_recipe_in_the_same_folder_is_refused(recipe: TrainRecipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("store: elsewhere\n")
    with pytest.raises(CislensError, match="holds results of another recipe"):
        fit(recipe, tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("space-tny", "Did you mean 'space-plus-tiny'"),
        ({"preset": "space-plus-tiny", "dept": 1}, "'dept'"),
        ({"depth": 1}, "name a preset"),
    ],
)
def test_a_wrong_model_is_explained(
    recipe: TrainRecipe, small_store: ProfileStore, model: object, message: str
) -> None:
    with pytest.raises(CislensError, match=message):
        model_for(recipe.model_copy(update={"model": model}), small_store)


def test_fresh_weights_are_a_function_of_the_seed(
    recipe: TrainRecipe, small_store: ProfileStore
) -> None:
    def first_weights(seed: int) -> torch.Tensor:
        model = model_for(recipe.model_copy(update={"seed": seed}), small_store)
        return torch.cat([value.flatten() for value in model.parameters()])

    torch.manual_seed(1)
    a = first_weights(0)
    torch.manual_seed(2)
    assert torch.equal(a, first_weights(0))
    assert not torch.equal(a, first_weights(1))


def test_expert_use_sums_to_one_per_layer_and_species(recipe: TrainRecipe, tmp_path: Path) -> None:
    use = pl.read_parquet(fit(recipe, tmp_path / "run").experts_path)
    assert set(use["species"]) == {"all", "yeast", "fly"}
    sums = use.group_by("layer", "species", "group").agg(pl.col("share").sum())["share"]
    assert sums.to_numpy() == pytest.approx(1.0, abs=1e-6)


def test_a_folder_that_was_moved_ends_with_the_same_choice(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Later is worse, so the first validation, before the interruption, is the best.
    monkeypatch.setattr(Monitor, "last", lambda self, metric: float(self.rows[-1]["step"]))
    whole = fit(recipe, tmp_path / "whole")
    make = fitting._trainer
    with monkeypatch.context() as patch, pytest.raises(SystemError, match="pulled the plug"):
        patch.setattr(fitting, "_trainer", lambda r, f, c: make(r, f, [*c, Interrupt(6)]))
        fit(recipe, tmp_path / "parts")
    (tmp_path / "parts").rename(tmp_path / "moved")
    moved = fit(recipe, tmp_path / "moved")
    assert moved.manifest["selection"] == whole.manifest["selection"]
    assert moved.manifest["selection"]["step"] == 4
    assert weights(moved) == weights(whole)


def test_a_run_that_diverges_is_an_error_and_no_model(recipe: TrainRecipe, tmp_path: Path) -> None:
    training = recipe.training.model_copy(update={"learning_rate": 1e9, "validate_every": 2})
    match = r"At step 2 \(batch 1 of epoch 0\), with learning_rate 1e\+09, .* is (nan|inf); there"
    with pytest.raises(CislensError, match=match):
        fit(recipe.model_copy(update={"training": training}), tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_a_late_divergence_names_the_last_good_checkpoint(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoil(Callback):
        def on_train_batch_end(self, trainer, module, *rest) -> None:  # type: ignore[no-untyped-def]
            if trainer.global_step == 8:  # the last step before a validation
                torch.nn.init.constant_(module.objective.model.heads[1].bias, float("nan"))

    make = fitting._trainer
    monkeypatch.setattr(fitting, "_trainer", lambda r, f, c: make(r, f, [Spoil(), *c]))
    # One species alone: its metric is left out of the mean, and it is found all the same.
    with pytest.raises(CislensError, match=r"At step 8.* of step 4, is .*last\.ckpt"):
        fit(recipe, tmp_path / "run")
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4


def test_a_metric_that_could_not_be_measured_is_null(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ExpertWatch.metrics
    monkeypatch.setattr(
        ExpertWatch, "metrics", lambda self: {**real(self), "experts/none": float("nan")}
    )
    training = recipe.training.model_copy(update={"steps": 1})
    run = fit(recipe.model_copy(update={"training": training}), tmp_path / "run")
    assert run.manifest["valid"]["experts/none"] is None
    assert "NaN" not in (run.folder / "manifest.json").read_text()
    assert "| experts/none | not measured |" in (run.model_folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_logger_that_is_not_installed_is_named_before_the_folder_is_claimed(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("cislens.training.courses.find_spec", lambda module: None)
    training = recipe.training.model_copy(update={"loggers": [name]})
    with pytest.raises(CislensError, match=f"the package {name} is not installed"):
        fit(recipe.model_copy(update={"training": training}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_of_one_species_cannot_be_shuffled(
    recipe: TrainRecipe, small_store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = recipe.objective.model_copy(update={"shuffle_species": True})
    recipe = recipe.model_copy(update={"objective": objective})
    assert model_for(recipe, small_store).species == ("yeast", "fly")
    monkeypatch.setattr(small_store, "species", ("yeast",))
    with pytest.raises(CislensError, match="has one species, yeast, so shuffling"):
        model_for(recipe, small_store)


@pytest.mark.parametrize("batches", ["alternate", "mixed"])
def test_a_term_that_batches_of_one_species_leave_at_zero_is_said(
    recipe: TrainRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture, batches: str
) -> None:
    training = recipe.training.model_copy(update={"batches": batches, "steps": 1})
    with caplog.at_level(logging.INFO, logger="cislens"):
        fit(recipe.model_copy(update={"training": training}), tmp_path / "run")
    said = [line for line in caplog.messages if "mutual_information has no effect" in line]
    assert len(said) == (batches == "alternate")
