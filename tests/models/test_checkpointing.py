"""Checkpointed encoders: the same bits, batch norm counted once, fewer activations kept."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.space_plus import SpacePlusConfig, SpacePlusEncoder
from cislens.nn.routing import balance_loss

SHAPE: dict[str, Any] = {"dim": 24, "depth": 2, "heads": 2, "key_dim": 8, "width_multiple": 4}


def make(kind: str) -> EnformerEncoder:
    """An encoder in training, dropout included, in which every layer does something."""
    torch.manual_seed(0)
    encoder = (
        EnformerEncoder(EnformerConfig(**SHAPE))
        if kind == "enformer"
        else SpacePlusEncoder(SpacePlusConfig(**SHAPE, species=("yeast", "fly"), dropout=0.3))
    )
    for name, weight in encoder.named_parameters():
        if "to_out" in name or "modulation" in name:
            nn.init.normal_(weight, std=0.3)
    return encoder.train()


def windows() -> Tensor:
    codes = torch.randint(0, 4, (4, 1024), generator=torch.Generator().manual_seed(1))
    x_B4L = nn.functional.one_hot(codes, 4).transpose(1, 2).float()
    x_B4L[0, :, 700:] = 0  # padding: the masks are used too
    return x_B4L


def step(encoder: EnformerEncoder, x_B4L: Tensor) -> tuple[Tensor, int]:
    """A forward and backward pass with seeded dropout; what it gave, and the numbers kept."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(7)
    with saved_tensors_hooks(keep, lambda x: x):
        embedding = encoder(x_B4L, torch.tensor([0, 1, 0, -1]))
    loss = embedding.values_BND.square().mean()
    loss = loss + sum(balance_loss(routing) for routing in embedding.routing)
    loss.backward()
    return embedding.values_BND.detach(), sum(kept.values())


@pytest.mark.parametrize("kind", ["enformer", "space-plus"])
def test_same_bits_and_statistics(kind: str) -> None:
    plain, checkpointed = make(kind), make(kind)
    checkpointed.checkpointing = True
    for _ in range(2):
        expected, all_bytes = step(plain, windows())
        found, kept_bytes = step(checkpointed, windows())
        assert torch.equal(found, expected)
    assert kept_bytes < all_bytes / 3
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    for name, weight in checkpointed.named_parameters():
        assert weight.grad is not None, name
        assert torch.equal(weight.grad, gradients[name]), name
    # Running statistics are buffers: batches are counted once, with the plain encoder's values.
    state = plain.state_dict()
    for name, value in checkpointed.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert state["tower.stem.1.inner.norm.num_batches_tracked"] == 2


def test_a_second_run_would_count_twice() -> None:
    """What the guard is for: the plain recomputation moves the running statistics again."""
    encoder = make("enformer")
    x_BLC = windows().transpose(1, 2)
    torch.utils.checkpoint.checkpoint(
        encoder.tower.stem, x_BLC, use_reentrant=False
    ).sum().backward()
    assert int(encoder.tower.stem[1].inner.norm.num_batches_tracked) == 2


@pytest.mark.parametrize("kind", ["enformer", "space-plus"])
def test_hidden_layers_and_no_grad(kind: str) -> None:
    plain, checkpointed = make(kind).eval(), make(kind).eval()
    checkpointed.checkpointing = True
    x_B4L = windows()
    pairs = list(zip(plain.hidden(x_B4L), checkpointed.hidden(x_B4L), strict=True))
    assert len(pairs) == len(plain.layers)
    for expected, found in pairs:
        assert torch.equal(found.values_BND, expected.values_BND)
    second = list(checkpointed.hidden(x_B4L))[1].values_BND
    second.sum().backward()
    assert checkpointed.blocks[0].attention.to_q.weight.grad is not None
    assert checkpointed.blocks[1].attention.to_q.weight.grad is None
    with torch.no_grad():
        assert torch.equal(checkpointed(x_B4L).values_BND, plain(x_B4L).values_BND)


def test_state_has_no_trace_of_it() -> None:
    encoder = make("enformer")
    names = list(encoder.state_dict())
    encoder.checkpointing = True
    assert list(encoder.state_dict()) == names
