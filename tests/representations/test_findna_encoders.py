"""The encoders of FinDNA are representations: embedded, conforming and ready for fine-tuning."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from cislens.models.contract import Encoder
from cislens.models.registry import AnyEncoderConfig, build_encoder
from cislens.randomness import generator
from cislens.representations.conformance import check
from cislens.representations.encoder import EncoderEmbedding

PLUS: dict[str, Any] = {"kind": "findna-plus", "dim": 24, "depth": 3, "stem_dim": 8}
SHAPES: dict[str, dict[str, Any]] = {
    "gated": PLUS,
    "mixer": {**PLUS, "block": "mixer"},
    "both-strands": {**PLUS, "rc_equivariant": True},
    "paper": {"kind": "findna-paper", "dim": 24, "hidden_dim": 32, "group": 4, "blocks": 1},
}


def encoder(shape: str) -> Encoder:
    """Weights as after some training."""
    torch.manual_seed(0)
    built = build_encoder(TypeAdapter(AnyEncoderConfig).validate_python(SHAPES[shape]))
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return built.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_conforms(shape: str) -> None:
    found = check(EncoderEmbedding(encoder(shape), shape),
                  reference=EncoderEmbedding(encoder(shape), shape))  # fmt: skip
    assert found == []


@pytest.mark.parametrize("shape", ["gated", "mixer", "both-strands"])
def test_a_network_trains_further_and_counts_bases(shape: str) -> None:
    rep = EncoderEmbedding(encoder(shape), shape)
    sequences = list(generator(0, "sequences").integers(0, 4, (3, 100)).astype(np.uint8))
    network = rep.network()
    values_BTD, weight_BT = network(rep.collate(sequences, None))
    assert values_BTD.shape == (3, 13, 24)
    assert weight_BT.tolist() == [[8.0] * 12 + [4.0]] * 3
    values_BTD.square().mean().backward()
    first = network.get_submodule("encoder.stem.to_base").weight.grad
    assert first is not None
    assert first.abs().sum() > 0


@pytest.mark.parametrize(("shape", "layers"), [("gated", 4), ("mixer", 2)])
def test_low_rank_updates_go_into_every_linear_layer_of_the_blocks(shape: str, layers: int) -> None:
    built = encoder(shape)
    targets = EncoderEmbedding(built, shape).lora_targets
    linear = [name for name, part in built.named_modules() if isinstance(part, torch.nn.Linear)]
    assert len(linear) == 3 * layers
    assert all(name.endswith(targets) for name in linear)


@pytest.mark.parametrize("shape", ["gated", "mixer", "both-strands"])
def test_controls_lose_what_the_encoder_knows(shape: str) -> None:
    rep = EncoderEmbedding(encoder(shape), shape)
    sequences = list(generator(0, "sequences").integers(0, 4, (3, 200)).astype(np.uint8))
    own = rep.embed(sequences, None)
    for other in (rep.twin(0), rep.control("shuffle", 0), rep.control("embed", 0)):
        assert np.abs(other.embed(sequences, None) - own).max() > 0.02
