"""Imported SPACE weights against a plain computation, live and stored, at 131,072 bp."""

import pytest
import torch
from checkpoints import TRACKS, TYPES, as_read, sequence, space_checkpoint, tables
from golden import FILE, subset
from reference import space
from safetensors.torch import load_file
from torch import Tensor

from cislens.models.profile import ProfileModel
from cislens.models.published.importing import import_space

TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(scope="module")
def model() -> ProfileModel:
    return import_space(as_read(space_checkpoint()), tables())


@pytest.fixture(scope="module", params=list(TRACKS))
def species(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def outputs(model: ProfileModel, species: str) -> dict[str, Tensor]:
    with torch.inference_mode():
        found = model.predict(sequence(), torch.tensor([model.species.index(species)]))
    crop = model.config.crop
    return {
        "tracks": found.tracks[species],
        "auxiliary": found.auxiliary[species],
        "embedding": found.embedding.values_BND[:, crop:-crop],
    }


def test_outputs_are_those_of_the_plain_computation(
    outputs: dict[str, Tensor], species: str
) -> None:
    with torch.inference_mode():
        expected = space(space_checkpoint(), sequence(), species, TYPES[species])
    for (name, found), wanted in zip(outputs.items(), expected, strict=True):
        assert found.shape == wanted.shape, name
        assert wanted.std(dim=1).mean() > 0.03, name  # it varies along the window
        torch.testing.assert_close(found, wanted, **TOLERANCE)
    assert (outputs["tracks"] - outputs["auxiliary"]).abs().mean() > 0.02


def test_outputs_are_those_stored(outputs: dict[str, Tensor], species: str) -> None:
    stored = load_file(FILE)
    assert FILE.stat().st_size < 200_000
    for name, found in outputs.items():
        wanted = stored[f"{species}.{name}"]
        torch.testing.assert_close(subset(name, found), wanted, **TOLERANCE)


def test_species_and_positions_matter(model: ProfileModel, outputs: dict[str, Tensor]) -> None:
    """Neither could be wrong unseen: the other species and the other basis are far away."""
    with torch.inference_mode():
        by_species = [
            model.encoder(sequence(), torch.tensor([index])).values_BND[:, 64:-64]
            for index in range(2)
        ]
        assert (by_species[0] - by_species[1]).abs().max() > 0.1
    encoder = model.config.encoder.model_copy(update={"positions": "position"})
    other = ProfileModel(model.config.model_copy(update={"encoder": encoder})).eval()
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        moved = other.encoder(sequence(), torch.tensor([0])).values_BND[:, 64:-64]
    assert (by_species[0] - moved).abs().max() > 1e-2


@pytest.mark.slow
def test_every_tensor_has_a_say() -> None:
    """The tiny checkpoint would show a tensor that went nowhere: its gradient is not zero."""
    state = space_checkpoint(prefix="")
    silent = ("num_batches_tracked", "running_mean", "running_var", "tracks.layer_norm")
    leaves = {
        key: value.requires_grad_()
        for key, value in state.items()
        if not any(name in key for name in silent)
    }
    total = torch.zeros(())
    for species, types in TYPES.items():
        rates, _, _ = space(state, sequence(), species, types)
        total = total + (rates * torch.linspace(-1, 1, rates[0].numel()).view_as(rates)).sum()
    total.backward()
    effect = {k: float((v.grad * v).detach().abs().max()) for k, v in leaves.items()}
    assert min(effect.values()) > 1e-3, min(effect, key=lambda key: effect[key])
