"""Training on sequence alone, from the recipe to the folder."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cislens.errors import CislensError
from cislens.models.saving import load_model, load_profile_model
from cislens.models.sequence import SequenceModel
from cislens.objectives.distillation.objective import DistillationObjective
from cislens.recipes.schema import Training, TrainRecipe
from cislens.recipes.sequence_terms import DistillationTerms, MaskedTerms, View, Views
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore
from cislens.training.courses import course_of
from cislens.training.fit import Run, fit

SMALL = {"preset": "findna-plus-tiny", "dim": 16, "depth": 1}
TRAINING = Training(
    steps=6, batch_size=8, validate_every=2, ema_decay=0.5, learning_rate=1e-3, clip=1.0
)
VIEWS = Views(length=64, local_length=32, local_count=1)
BOTH = DistillationTerms(views=VIEWS, prototypes=16, held_out=24, on_collapse="warn")
MASKED = MaskedTerms(view=View(length=64), held_out=24, on_collapse="warn")


def recipe_of(of: Any, objective: Any, **changes: Any) -> TrainRecipe:
    return TrainRecipe(
        **{
            "store": of.path, "model": SMALL, "objective": objective, "training": TRAINING,
            **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize("terms", [MASKED, BOTH], ids=["masked", "distillation"])
def test_a_run_leaves_a_model_that_embeds_and_tells_bases(
    sequence_store: SequenceStore, tmp_path: Path, terms: Any
) -> None:
    run = fit(recipe_of(sequence_store, terms), tmp_path / "run")
    model = load_model(run.model_folder)
    assert isinstance(model, SequenceModel)
    x_B4L = torch.eye(4)[torch.randint(0, 4, (2, 100))].transpose(1, 2)
    assert model.encoder(x_B4L).values_BND.shape == (2, 13, 16)
    assert model(x_B4L).shape == (2, 100, 4)
    manifest = run.manifest
    assert manifest["selection"]["metric"] == "masked/nats"
    assert 0 < manifest["valid"]["rankme_share"] <= 1
    assert 1.2 < manifest["markov_nats"] < 1.4
    assert manifest["ledger"]["flops"] == 6 * manifest["ledger"]["step_flops"] > 0
    steps = pl.read_parquet(run.metrics_path)["step"].unique().sort().to_list()
    assert steps == [0, 2, 4, 6]
    trained = manifest["ledger"]["trained_parameters"]
    assert trained == manifest["ledger"]["parameters"] == sum(v.numel() for v in model.parameters())
    card = (run.model_folder / "README.md").read_text()
    assert "FinDNA" in card
    assert sequence_store.digest in card


def test_a_distillation_keeps_the_teacher(sequence_store: SequenceStore, tmp_path: Path) -> None:
    alone = BOTH.model_copy(update={"masked": 0.0})
    run = fit(recipe_of(sequence_store, alone), tmp_path / "run")
    assert run.manifest["selection"] == {
        "metric": None, "split": "valid", "step": 6, "headline": ["rankme_share", "gc_r2"],
    }  # fmt: skip
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    kept = load_model(run.model_folder).encoder.state_dict()
    student = {
        name.removeprefix("objective.model.encoder."): value
        for name, value in state.items()
        if name.startswith("objective.model.encoder.")
    }
    assert student.keys() == kept.keys()
    assert any(not torch.equal(student[name], kept[name]) for name in kept)


@pytest.mark.parametrize("terms", [MASKED, BOTH], ids=["masked", "distillation"])
def test_a_run_begins_as_its_seed_says(sequence_store: SequenceStore, terms: Any) -> None:
    first, again, other = (
        course_of(recipe_of(sequence_store, terms, seed=seed)).objective.state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    weights = [name for name in first if name.endswith("weight") and "norm" not in name]
    assert all(not torch.equal(first[name], other[name]) for name in weights)


def test_a_resumed_run_ends_with_the_same_weights(
    sequence_store: SequenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(sequence_store, BOTH)
    fit(recipe, tmp_path / "whole")
    real, steps = DistillationObjective.after_step, []

    def dies(self: DistillationObjective) -> None:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationObjective, "after_step", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fit(recipe, tmp_path / "killed")
    assert Run.open(tmp_path / "killed") is None
    fit(recipe, tmp_path / "killed")
    one, other = (
        (tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "killed")
    )
    assert one == other
    rows = [pl.read_parquet(tmp_path / name / "metrics.parquet") for name in ("whole", "killed")]
    assert rows[0].equals(rows[1])


def test_a_run_goes_on_from_the_encoder_of_another_kind_of_model(
    sequence_store: SequenceStore, model_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(sequence_store, MASKED, model=None, init_from=model_folder)
    course = course_of(recipe)
    before = load_model(model_folder).encoder.state_dict()
    after = course.objective.model.encoder.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(before[name], after[name]) for name in before)
    run = fit(recipe, tmp_path / "run")
    assert run.manifest["ancestor"]["path"] == str(model_folder)
    assert load_model(run.model_folder).species == ("yeast",)


def test_tracks_are_learned_on_an_encoder_that_was_trained_on_sequence_alone(
    sequence_store: SequenceStore, small_store: ProfileStore, tmp_path: Path
) -> None:
    trunk = {"preset": "space-plus-tiny", "dim": 24, "stem_dim": 8, "heads": 2, "key_dim": 8}
    first = fit(recipe_of(sequence_store, MASKED, model=trunk), tmp_path / "first")
    profile = {"name": "profile"}
    recipe = recipe_of(small_store, profile, model=None, init_from=first.folder, freeze="encoder")
    before = load_model(first.model_folder).encoder.state_dict()
    second = load_profile_model(fit(recipe, tmp_path / "second").model_folder)
    after = second.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert second.config.tracks.keys() == set(small_store.species)
    weights = [load_profile_model(tmp_path / "second/model").heads[0].weight]
    fresh = course_of(recipe).objective.model.heads[0].weight  # type: ignore[union-attr]
    assert not torch.equal(weights[0], fresh)


def test_an_encoder_of_other_species_takes_no_tracks(
    small_store: ProfileStore, model_folder: Path, sequence_store: SequenceStore, tmp_path: Path
) -> None:
    recipe = recipe_of(sequence_store, MASKED, model=None, init_from=model_folder)
    first = fit(recipe, tmp_path / "first")  # its encoder knows yeast alone
    given = recipe_of(small_store, {"name": "profile"}, model=None, init_from=first.folder)
    with pytest.raises(CislensError, match=r"tells yeast apart, and .* has yeast, fly"):
        course_of(given)


def test_a_frozen_encoder_stays_and_the_head_learns(
    sequence_store: SequenceStore, model_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(sequence_store, MASKED, model=None, init_from=model_folder, freeze="encoder")
    run = fit(recipe, tmp_path / "run")
    before, after = (load_model(path) for path in (model_folder, run.model_folder))
    state = after.encoder.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in before.encoder.state_dict().items()
    )
    with pytest.raises(CislensError, match="freeze: old would leave nothing to train"):
        course_of(recipe.model_copy(update={"freeze": "old"}))


def test_an_objective_is_refused_on_a_store_of_another_kind(
    sequence_store: SequenceStore, small_store: Any
) -> None:
    with pytest.raises(CislensError, match=r"'masked' does not read .* which is a profile store"):
        course_of(recipe_of(sequence_store, MASKED, store=small_store.path))
    with pytest.raises(CislensError, match=r"'profile' does not read .* sequence store"):
        course_of(recipe_of(sequence_store, {"name": "profile"}))


def test_a_loss_that_is_not_finite_stops_at_its_step_and_names_the_windows(
    sequence_store: SequenceStore, tmp_path: Path
) -> None:
    training = TRAINING.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(CislensError, match=r"At step \d \(batch \d of epoch 0\).*yeast chr\w+:\d+"):
        fit(recipe_of(sequence_store, MASKED, training=training), tmp_path / "run")
    assert not (tmp_path / "run/manifest.json").exists()


def test_a_teacher_that_never_moves_from_one_vector_stops_the_run(
    sequence_store: SequenceStore, tmp_path: Path
) -> None:
    # Pooled vectors alone, nothing that keeps them apart, and steps far too large.
    terms = DistillationTerms(
        masked=0, latent=0, koleo=0, pooled=1, views=VIEWS, prototypes=16, held_out=24, ramp=0,
        half_life=(0, 0), temperature=1.0, teacher_temperature=(1.0, 1.0),
    )  # fmt: skip
    training = TRAINING.model_copy(update={"learning_rate": 0.3, "warmup": 0.0, "steps": 40})
    recipe = recipe_of(sequence_store, terms, training=training)
    with pytest.raises(CislensError, match="the model has collapsed") as stopped:
        fit(recipe, tmp_path / "run")
    report = json.loads((tmp_path / "run/collapse_report.json").read_text())
    assert {rule["metric"] for rule in report["rules"]} & {
        "rankme_share", "feature_std", "teacher/sharpness", "teacher/marginal",
    }  # fmt: skip
    with pytest.raises(type(stopped.value), match="has collapsed"):
        fit(recipe, tmp_path / "run")
