"""Every kind of encoder is a representation: embedded, conforming and ready for fine-tuning."""

from typing import Any

import numpy as np
import pytest
import torch

from cislens.models.contract import Encoder
from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel
from cislens.randomness import generator
from cislens.representations.conformance import check
from cislens.representations.encoder import EncoderEmbedding

SMALL: dict[str, Any] = {"dim": 24, "stem_dim": 8, "depth": 2}
ATTENTION: dict[str, Any] = {"heads": 2, "key_dim": 8}
KINDS = ["basenji-tiny", "enformer-tiny", "space-plus-tiny", "space-paper-tiny"]


def encoder(preset: str) -> Encoder:
    """Weights as after some training: layers that start at zero have moved."""
    torch.manual_seed(0)
    shape = SMALL | ({} if preset.startswith("basenji") else ATTENTION)
    tracks = {"yeast": HeadTracks(("a",), ("TF",)), "fly": HeadTracks(("b",), ("CAGE",))}
    built = ProfileModel(preset_config(preset, tracks, **shape)).encoder
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return built.eval()


@pytest.mark.parametrize("preset", KINDS)
def test_conforms(preset: str) -> None:
    found = check(EncoderEmbedding(encoder(preset), preset),
                  reference=EncoderEmbedding(encoder(preset), preset))  # fmt: skip
    assert found == []


@pytest.mark.parametrize("preset", KINDS)
def test_its_network_trains_further_and_starts_from_the_same_features(preset: str) -> None:
    rep = EncoderEmbedding(encoder(preset), preset)
    drawn = generator(0, "sequences").integers(0, 4, (3, 640)).astype(np.uint8)
    sequences = list(drawn)
    network = rep.network()
    values_BTD, weight_BT = network(rep.collate(sequences, "yeast"))
    assert values_BTD.shape == (3, 5, 48)
    assert weight_BT.tolist() == [[128.0] * 5] * 3
    values_BTD.square().mean().backward()
    tower = [p for name, p in network.named_parameters() if "stem" in name and p.ndim > 1]
    assert tower
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tower)
