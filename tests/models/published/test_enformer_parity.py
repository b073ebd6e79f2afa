"""Enformer and enformer-pytorch read each other's weights and compute the same."""

from typing import Any

import pytest
import torch
from checkpoints import (
    DEPTH,
    DIM,
    HEADS,
    KEY_DIM,
    MULTIPLE,
    TRACKS,
    as_read,
    enformer_shapes,
    fill,
    sequence,
)
from torch import Tensor, nn

from cislens.models.profile import ProfileModel
from cislens.models.published.exporting import published_state
from cislens.models.published.importing import import_enformer

pytestmark = pytest.mark.peers
peer = pytest.importorskip("enformer_pytorch", reason="enformer-pytorch is not installed")

SHAPE: dict[str, Any] = {
    "dim": DIM,
    "depth": DEPTH,
    "heads": HEADS,
    "attn_dim_key": KEY_DIM,
    "dim_divisible_by": MULTIPLE,
    "output_heads": TRACKS,
    "target_length": 896,
}
LENGTH = 131_072


@pytest.fixture(scope="module")
def ours() -> ProfileModel:
    state = as_read(fill(enformer_shapes(), gain=1.3))
    return import_enformer(state, "feature-axis", length=LENGTH)


def outputs(model: ProfileModel, species: str) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        found = model.predict(sequence(), torch.tensor([model.species.index(species)]))
    return found.tracks[species], found.embedding.values_BND[:, 64:-64]


def same(model: ProfileModel, theirs: nn.Module) -> None:
    with torch.inference_mode():
        expected, embedding = theirs(sequence().transpose(1, 2), return_embeddings=True)
    for species in TRACKS:
        rates, values = outputs(model, species)
        assert rates.shape == (1, 896, TRACKS[species])
        assert rates.std(dim=1).mean() > 0.01
        torch.testing.assert_close(rates, expected[species], atol=1e-5, rtol=0)
        torch.testing.assert_close(values, embedding, atol=1e-5, rtol=0)


def test_they_load_what_we_export(ours: ProfileModel) -> None:
    theirs = peer.Enformer.from_hparams(**SHAPE, use_tf_gamma=False).eval()
    theirs.load_state_dict(published_state(ours, "enformer"), strict=True)
    same(ours, theirs)


def test_we_import_what_they_save() -> None:
    torch.manual_seed(0)
    theirs = peer.Enformer.from_hparams(**SHAPE, use_tf_gamma=False).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and (value.ndim == 1 or "to_out" in name):
                value.add_(0.2 * torch.randn_like(value))
            elif value.ndim == 3 and not name.startswith("_trunk"):
                value.mul_(2)  # or little of the sequence would be left at the end of the tower
    model = import_enformer(as_read(theirs.state_dict()), "feature-axis", length=LENGTH)
    same(model, theirs)
    back = published_state(model, "enformer")
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())
