from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.models.saving import load_model
from cislens.objectives.profile import ProfileObjective, TorchProfileBatch
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.fit import compile_modules, fit

# Traces and differentiates as the full compiler does; to write C++ for a CPU takes minutes.
BACKEND = "aot_eager"
# Traces alone: enough where the question is what a run does with compiled modules.
TRACING = "eager"
SHAPE = {"dim": 24, "stem_dim": 8, "depth": 1, "heads": 2}


def model_of(preset: str) -> ProfileModel:
    torch.manual_seed(0)
    tracks = {"yeast": HeadTracks(["a", "b"], ["accessibility", "TF"]), "fly": HeadTracks(["c"])}
    changes = {**SHAPE, "dropout": 0.0}
    if preset.startswith("space-plus"):
        changes["species_dropout"] = 0.0
    model = build_model(preset_config(preset, tracks, **changes))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def batch() -> TorchProfileBatch:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(4, (4, 512), generator=generator, dtype=torch.uint8)
    counts = torch.rand(4, 4, 2, generator=generator)
    targets = {"yeast": counts[:2], "fly": counts[2:, :, :1]}
    return TorchProfileBatch(codes, torch.tensor([0, 0, 1, 1]), targets)


def test_a_compiled_model_keeps_its_module_and_the_names_of_its_weights() -> None:
    model = model_of("enformer-tiny")
    names = list(model.state_dict())
    compile_modules([model.encoder], backend="eager")
    assert list(model.state_dict()) == names
    torch.manual_seed(2)
    compiled = ProfileObjective(model).loss(batch())
    torch.manual_seed(2)
    plain = ProfileObjective(model_of("enformer-tiny")).loss(batch())
    assert compiled.total.item() == pytest.approx(plain.total.item(), rel=1e-6)
    compiled.total.backward()
    assert model.encoder.tower.stem[0].weight.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["space-plus-tiny", "enformer-tiny"])
def test_compiled_losses_and_gradients_are_close(preset: str) -> None:
    found = []
    for compiled in (False, True):
        model = model_of(preset)
        if compiled:
            compile_modules(
                [model.encoder, *([model.decoder] if model.decoder else [])], backend=BACKEND
            )
        torch.manual_seed(2)
        loss = ProfileObjective(model).loss(batch()).total
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((loss.item(), torch.cat([value.flatten() for value in gradients])))
    (plain, gradient), (fast, fast_gradient) = found
    assert fast == pytest.approx(plain, rel=1e-5)
    assert (fast_gradient - gradient).norm() < 1e-4 * gradient.norm()


@pytest.mark.slow
def test_a_compiled_run_learns_and_resumes(
    small_store: ProfileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints of a compiled and of a plain run are the same kind of file."""
    quick = partial(compile_modules, backend=TRACING)
    monkeypatch.setattr("cislens.training.fit.compile_modules", quick)
    model = {"preset": "enformer-tiny", **SHAPE}
    training = Training(steps=4, batch_size=8, validate_every=2, ema_decay=0.5, compile=True)
    recipe = TrainRecipe(store=small_store.path, model=model, training=training)
    run = fit(recipe, tmp_path / "run")
    kept = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    names = {f"objective.model.{name}" for name in load_model(run.model_folder).state_dict()}
    assert names <= kept.keys()
    (run.folder / "manifest.json").unlink()
    again = fit(recipe, tmp_path / "run")
    assert again.manifest["valid"] == run.manifest["valid"]
