"""ChordMixer's ring: what moves where, and the layer against its formula."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cislens.errors import CislensError
from cislens.nn.chord import ChordLayer, ChordOffsets, Ring

OFFSETS = (0, 1, 2, 4)


def rolled(z_BTD: Tensor) -> Tensor:
    """The published movement, from its formula: out[t] = in[(t + offset) mod T]."""
    parts = z_BTD.chunk(len(OFFSETS), 2)
    return torch.cat([part.roll(-o, 1) for part, o in zip(parts, OFFSETS, strict=True)], 2)


def plain(layer: ChordLayer, x_BTD: Tensor) -> Tensor:
    return x_BTD + rolled(layer.mlp["contract"](nn.functional.gelu(layer.mlp["expand"](x_BTD))))


def gradients(y: Tensor, x: Tensor, layer: nn.Module) -> list[Tensor]:
    weight = torch.linspace(-1, 1, y.numel()).view_as(y)
    return list(torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()]))


@pytest.fixture
def layer() -> ChordLayer:
    torch.manual_seed(0)
    return ChordLayer(12, 20)


def test_the_published_map() -> None:
    """Eleven groups: 0 and the powers of two up to 512."""
    assert ChordOffsets(11).groups == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@pytest.mark.parametrize(("batch", "size"), [(3, 50), (2, 9), (2, 3), (1, 1)])
def test_the_layer_is_the_formula(layer: ChordLayer, batch: int, size: int) -> None:
    """Outputs to 1e-5 and gradients to 1e-4."""
    x = torch.randn(batch, size, 12, requires_grad=True)
    ours, theirs = layer(x, Ring(OFFSETS, size)), plain(layer, x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for one, other in zip(gradients(ours, x, layer), gradients(theirs, x, layer), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, Ring(OFFSETS, size)), theirs, atol=1e-5, rtol=0)


def test_rings_of_several_lengths_are_closed_one_by_one(layer: ChordLayer) -> None:
    """Each row is that of its ring alone, and so are the gradients."""
    x, used = torch.randn(3, 11, 12, requires_grad=True), [11, 6, 1]
    together = layer(x, Ring(OFFSETS, 11, torch.tensor(used)))
    weight = torch.randn(3, 11, 12)
    ours = theirs = torch.zeros(())
    for row, length in enumerate(used):
        alone = plain(layer, x[row : row + 1, :length])[0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=0)
        ours = ours + (together[row, :length] * weight[row, :length]).sum()
        theirs = theirs + (alone * weight[row, :length]).sum()
    wanted = [x, *layer.parameters()]
    for one, other in zip(
        torch.autograd.grad(ours, wanted), torch.autograd.grad(theirs, wanted), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_moves_back_is_the_gradient() -> None:
    """<moved z, w> = <z, moved back w>, with rings of one length and of several."""
    z, w = torch.randn(2, 3, 9, 12).double()
    for used in (None, torch.tensor([9, 5, 2])):
        ring = Ring(OFFSETS, 9, used)
        assert torch.isclose((ring.moved(z) * w).sum(), (z * ring.moved(w, back=True)).sum())


def test_autocast_stays_close_and_adds_up_in_full_precision(layer: ChordLayer) -> None:
    x = torch.randn(2, 30, 12, requires_grad=True)
    full = layer(x, Ring(OFFSETS, 30))
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x, Ring(OFFSETS, 30))
    assert half.dtype == torch.float32
    assert ((half - full).norm() / full.norm()).item() < 1e-2
    gradients(half, x, layer)


def test_every_multiplication_is_counted(layer: ChordLayer) -> None:
    """2 x 12 x 20 FLOPs of each of two products per position, three times over in training."""
    x = torch.randn(2, 30, 12, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x, Ring(OFFSETS, 30)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 2 * 12 * 20 * 60


def test_frozen_weights_have_no_gradient(layer: ChordLayer) -> None:
    layer.requires_grad_(False)
    x = torch.randn(1, 8, 12, requires_grad=True)
    layer(x, Ring(OFFSETS, 8)).sum().backward()
    (reference,) = torch.autograd.grad(plain(layer, x).sum(), [x])
    torch.testing.assert_close(x.grad, reference, atol=1e-5, rtol=1e-5)
    assert all(p.grad is None for p in layer.parameters())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_another_map_is_refused(device: str) -> None:
    """Also by a model that has no values yet, as models are loaded."""
    with torch.device(device):
        module = nn.ModuleDict({"offsets": ChordOffsets(4)})
    good = {"offsets.map": torch.tensor([0, 1, 2, 4])}
    module.load_state_dict(good, assign=True)
    with pytest.raises(CislensError, match=r"offsets.map: .* move by \[0, 1, 2, 5\]"):
        module.load_state_dict({"offsets.map": torch.tensor([0, 1, 2, 5])}, assign=True)
