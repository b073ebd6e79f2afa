"""Training on several objectives around one encoder, on small real stores."""

import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from lightning.pytorch import Callback

from cislens.cli.train_recipe import plan
from cislens.errors import CislensError
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.mixture import MixtureModel, part_of_kind
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_model, load_profile_model
from cislens.motifs.store import RegionStore
from cislens.recipes.objectives import MixturePart, MixtureTerms
from cislens.recipes.schema import Training, TrainRecipe
from cislens.sequence.store import SequenceStore
from cislens.signal.datacard import DataCard
from cislens.signal.store import ProfileStore
from cislens.training import fit as fitting
from cislens.training.courses import course_of
from cislens.training.fit import Run, fit
from cislens.training.mixture_course import MixtureCourse

TINY = {"preset": "space-plus-tiny", "dim": 16, "stem_dim": 8, "depth": 1, "heads": 2, "key_dim": 4}
VIEWS = {"length": 128, "count": 2, "local_length": 64, "local_count": 1}
MASKED = {"name": "masked", "view": {"length": 256}, "held_out": 16, "on_collapse": "warn"}
DISTILLATION = {
    "name": "distillation", "views": VIEWS, "prototypes": 16, "held_out": 16, "on_collapse": "warn",
}  # fmt: skip
REGIONS = {"regions": {"dim": 16, "depth": 1, "heads": 2}, "joint_dim": 16}


def part(objective: dict[str, Any], **given: Any) -> MixturePart:
    return MixturePart.model_validate({"objective": objective, **given})


def mixed(store: Path, *parts: MixturePart, steps: int = 4) -> TrainRecipe:
    return TrainRecipe(
        store=store,
        model=TINY,
        objective=MixtureTerms(parts=list(parts)),
        training=Training(steps=steps, batch_size=16, validate_every=2, ema_decay=0.5),
    )


@pytest.fixture(scope="module")
def recipe(small_store: ProfileStore, sequence_store: SequenceStore) -> TrainRecipe:
    masked = part(MASKED, weight=0.5, store=sequence_store.path, batch_size=6)
    return mixed(small_store.path, part({"name": "profile"}), masked)


@pytest.fixture(scope="module")
def run(recipe: TrainRecipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(recipe, tmp_path_factory.mktemp("mixture") / "run")


def test_a_mixture_of_profiles_and_hidden_bases_is_a_whole_run(
    run: Run, small_store: ProfileStore, sequence_store: SequenceStore
) -> None:
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["selection"]["metric"] == "profile.poisson_nll"
    assert manifest["store"]["digest"] == small_store.digest
    digests = [store["digest"] for store in manifest["stores"]]
    assert digests == [small_store.digest, sequence_store.digest]
    assert manifest["ledger"]["bases"] == 4 * (16 * 1024 + 6 * 256)
    assert manifest["ledger"]["windows"] == 4 * (16 + 6)
    rows = pl.read_parquet(run.metrics_path)
    valid = set(rows.filter(split="valid")["metric"])
    assert {"profile.poisson_nll/yeast", "masked.masked", "masked.masked/nats"} <= valid
    assert {"profile.poisson/yeast", "masked.masked"} <= set(rows.filter(split="train")["metric"])
    assert rows["value"].is_finite().any()
    model = load_model(run.model_folder)
    assert isinstance(model, MixtureModel)
    assert model.species == small_store.species
    card = (run.model_folder / "README.md").read_text()
    assert "## masked, weight 0.5" in card
    assert (run.folder / "experts.parquet").exists()


def test_its_profile_part_predicts(run: Run, small_store: ProfileStore) -> None:
    model, card = load_profile_model(run.model_folder), DataCard.read(run.model_folder)
    assert card.length == 1024
    assert model.species == small_store.species
    assert torch.isfinite(model(torch.zeros(1, 4, 1024), species="fly")).all()


def test_its_profile_part_is_trained_further(
    run: Run, recipe: TrainRecipe, small_store: ProfileStore
) -> None:
    changes = {"model": None, "init_from": run.folder, "store": small_store.path}
    alone = TrainRecipe.model_validate(
        recipe.model_copy(update=changes).model_dump() | {"objective": {"name": "profile"}}
    )
    model = course_of(alone).objective.model
    mixture = load_model(run.model_folder)
    for one, two in zip(
        model.encoder.parameters(), mixture.encoder.parameters(), strict=True  # type: ignore[operator, union-attr]
    ):  # fmt: skip
        assert torch.equal(one, two)


class Interrupt(Callback):
    """Raises in the middle of an interval between two checkpoints."""

    def on_train_batch_end(self, trainer, *rest) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_step == 3:
            raise SystemError("pulled the plug")


def test_a_resumed_mixture_ends_with_the_same_bytes(
    run: Run, recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = fitting._trainer
    with monkeypatch.context() as patch, pytest.raises(SystemError, match="pulled the plug"):
        patch.setattr(fitting, "_trainer", lambda r, f, c: make(r, f, [*c, Interrupt()]))
        fit(recipe, tmp_path / "parts")
    parts = fit(recipe, tmp_path / "parts")
    one, two = ((each.model_folder / "model.safetensors").read_bytes() for each in (run, parts))
    assert one == two
    a, b = (pl.read_parquet(each.metrics_path) for each in (run, parts))
    assert a.equals(b)


def test_a_part_of_weight_0_changes_nothing(
    recipe: TrainRecipe, small_store: ProfileStore, tmp_path: Path
) -> None:
    """Encoder and heads end with the bits of the profile objective alone; no other store opens."""
    nothing = part(MASKED, weight=0.0, store=tmp_path / "nowhere")
    mixture = fit(
        mixed(small_store.path, part({"name": "profile"}), nothing, steps=2), tmp_path / "a"
    )
    training = recipe.training.model_copy(update={"steps": 2})
    alone = fit(TrainRecipe(store=small_store.path, model=TINY, training=training), tmp_path / "b")
    one = part_of_kind(load_model(mixture.model_folder), ProfileModel)
    two = load_profile_model(alone.model_folder)
    assert one is not None
    for name, value in two.state_dict().items():
        assert torch.equal(one.state_dict()[name], value), name


def test_self_distillation_beside_profiles(
    small_store: ProfileStore, sequence_store: SequenceStore, tmp_path: Path
) -> None:
    """The profile part comes second, and decides the species that the encoder tells apart."""
    recipe = mixed(
        sequence_store.path,
        part(DISTILLATION),
        part({"name": "profile"}, store=small_store.path),
        steps=2,
    )
    course = course_of(recipe)
    assert isinstance(course, MixtureCourse)
    distillation = course.objective.parts["distillation"]
    before = [weight.clone() for weight in distillation.teacher.parameters()]  # type: ignore[operator, union-attr]
    encoder = course.objective.model.encoder
    assert distillation.model.encoder is encoder
    assert distillation.teacher.encoder is not encoder  # type: ignore[union-attr]
    run = fit(recipe, tmp_path / "run")
    metrics = set(pl.read_parquet(run.metrics_path).filter(split="valid")["metric"])
    assert {"distillation.rankme", "distillation.pooled", "profile.poisson_nll"} <= metrics
    checkpoint = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    state = checkpoint["current_model_state"]
    name = "objective.parts.distillation.teacher.encoder."
    after = [value for key, value in state.items() if key.startswith(name)]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=False))
    assert load_model(run.model_folder).encoder.species == small_store.species


def test_matrices_and_hidden_bases_on_an_encoder_that_is_no_genebert(
    region_store: RegionStore, sequence_store: SequenceStore, tmp_path: Path
) -> None:
    recipe = mixed(
        region_store.path,
        part({"name": "multimodal", "context": 4}, model=REGIONS),
        part(MASKED, store=sequence_store.path),
        steps=2,
    )
    run = fit(recipe, tmp_path / "run")
    metrics = set(pl.read_parquet(run.metrics_path)["metric"])
    assert {"multimodal.loss", "multimodal.gradient/encoder/masked", "masked.masked"} <= metrics
    model = load_model(run.model_folder)
    multimodal = part_of_kind(model, MultimodalModel)
    assert multimodal is not None
    assert multimodal.encoder is model.encoder
    assert (run.folder / "shortcuts.tsv").exists()


def test_a_dry_run_shows_every_part(recipe: TrainRecipe) -> None:
    shown = plan(recipe)
    assert set(shown["parts"]) == {"profile", "masked"}
    assert shown["bases"] == 4 * (16 * 1024 + 6 * 256)


def test_every_part_is_in_an_epoch_of_its_own(recipe: TrainRecipe) -> None:
    """The batches of a stream are those that the loaders give for a step of the run."""
    course = course_of(recipe)
    assert isinstance(course, MixtureCourse)
    streamed = next(iter(course.stream(lambda: 1)))
    given = course.loader.batch(0, 1)
    profile, masked = (streamed.parts[name] for name in ("profile", "masked"))
    assert torch.equal(profile.codes_BL, torch.from_numpy(given["profile"].codes_BL))
    assert torch.equal(masked.parent_BP, torch.from_numpy(given["masked"].parent_BP))
    assert len(course.places(given)) == 16 + 6


def test_stores_that_disagree_are_named_with_the_bases(
    recipe: TrainRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="cislens"):
        course_of(recipe)
    assert "bp are in the training part of the store of profile" in caplog.text


def test_an_ancestor_is_refused(recipe: TrainRecipe, run: Run) -> None:
    changed = recipe.model_copy(update={"init_from": run.folder, "model": None})
    with pytest.raises(CislensError, match="a mixture starts from fresh weights"):
        course_of(changed)
