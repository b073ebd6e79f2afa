"""Every kind of encoder is a representation: embedded, conforming and ready for fine-tuning."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from cislens.models.contract import Encoder
from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel
from cislens.models.registry import AnyEncoderConfig, build_encoder
from cislens.randomness import generator
from cislens.representations.conformance import check
from cislens.representations.encoder import EncoderEmbedding

SMALL: dict[str, Any] = {"dim": 24, "stem_dim": 8, "depth": 2}
ATTENTION: dict[str, Any] = {"heads": 2, "key_dim": 8}
BINS = ["basenji-tiny", "enformer-tiny", "space-plus-tiny", "space-paper-tiny"]
# Encoders that give a vector per base, with the names of the layers that read the bases.
BASES: dict[str, dict[str, Any]] = {
    "genebert-plus": {"dim": 24, "depth": 3, "heads": 2},
    "genebert-paper": {"dim": 24, "depth": 3, "heads": 2, "k": 3},
}
FIRST = {"genebert-plus": "stem", "genebert-paper": "words"}
KINDS = [*BINS, *BASES]


def encoder(preset: str) -> Encoder:
    """Weights as after some training: layers that start at zero have moved."""
    torch.manual_seed(0)
    if preset in BASES:
        config = TypeAdapter(AnyEncoderConfig).validate_python({"kind": preset, **BASES[preset]})
        return moved(build_encoder(config))
    shape = SMALL | ({} if preset.startswith("basenji") else ATTENTION)
    tracks = {"yeast": HeadTracks(("a",), ("TF",)), "fly": HeadTracks(("b",), ("CAGE",))}
    return moved(ProfileModel(preset_config(preset, tracks, **shape)).encoder)


def moved(built: Encoder) -> Encoder:
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return built.eval()


@pytest.mark.parametrize("preset", KINDS)
def test_conforms(preset: str) -> None:
    found = check(EncoderEmbedding(encoder(preset), preset),
                  reference=EncoderEmbedding(encoder(preset), preset))  # fmt: skip
    assert found == []


@pytest.mark.parametrize("preset", BINS)
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


@pytest.mark.parametrize("kind", BASES)
def test_a_network_of_bases_trains_further_and_counts_each_base_once(kind: str) -> None:
    rep = EncoderEmbedding(encoder(kind), kind)
    sequences = list(generator(0, "sequences").integers(0, 4, (3, 640)).astype(np.uint8))
    network = rep.network()
    values_BTD, weight_BT = network(rep.collate(sequences, "yeast"))
    assert values_BTD.shape == (3, 640, 24)
    assert bool((weight_BT == 1).all())
    values_BTD.square().mean().backward()
    first = network.get_submodule(f"encoder.{FIRST[kind]}").weight.grad
    assert first is not None
    assert first.abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "feed_forward"), [("genebert-plus", "ffn"), ("genebert-paper", "mlp")]
)
def test_low_rank_updates_go_into_every_linear_layer_of_the_blocks(
    kind: str, feed_forward: str
) -> None:
    built = encoder(kind)
    targets = EncoderEmbedding(built, kind).lora_targets
    assert {target.split(".")[0] for target in targets} == {"attention", feed_forward}
    linear = [name for name, part in built.named_modules() if isinstance(part, torch.nn.Linear)]
    assert len(linear) == 12
    assert all(name.endswith(targets) for name in linear)


@pytest.mark.parametrize("kind", BASES)
def test_controls_of_an_encoder_of_bases_lose_what_it_knows(kind: str) -> None:
    rep = EncoderEmbedding(encoder(kind), kind)
    sequences = list(generator(0, "sequences").integers(0, 4, (3, 200)).astype(np.uint8))
    own = rep.embed(sequences, None)
    for other in (rep.twin(0), rep.control("shuffle", 0), rep.control("embed", 0)):
        assert np.abs(other.embed(sequences, None) - own).max() > 0.05
