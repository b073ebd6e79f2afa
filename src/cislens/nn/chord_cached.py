"""A layer of ChordMixer on a CPU, some hundred positions at a time.

A block of positions goes through the whole layer before the next, through the same small buffers,
and what moves is added where it goes. Kept for the gradient are the layer's input and its hidden
channels before the GELU, 820 numbers per position at the published size; one operation after the
other keeps 1,332 and makes five more tensors on the way, which on a CPU is all fresh memory.
Dimensions: B window, T slot of the ring, D channel, H hidden channel, P position of a block,
S slot of a block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers in a buffer of hidden channels, 4 MB: smaller ones stay nearer to the CPU, larger ones
# make better use of each matrix product; between 1 and 16 MB it makes little difference.
_BUFFER = 1 << 20


@dataclass(frozen=True)
class _Block:
    """Slots `start` to `stop` of windows whose rings have `length` slots."""

    windows: slice
    start: int
    stop: int
    length: int

    def of(self, values_BTD: Tensor) -> Tensor:
        """Its positions, (P, D), not copied."""
        return values_BTD[self.windows, self.start : self.stop].view(-1, values_BTD.shape[2])

    def places(self, offset: int) -> Iterator[tuple[slice, slice]]:
        """Slots within the block, and the slots that take from them, piece by piece."""
        count = self.stop - self.start
        first = (self.start - offset) % self.length
        until = min(count, self.length - first)
        yield slice(0, until), slice(first, first + until)
        if until < count:
            yield slice(until, count), slice(0, count - until)


def _blocks(shape: torch.Size, at_once: int, lengths: Sequence[int] | None) -> Iterator[_Block]:
    batch, size = shape[:2]
    if lengths is None and size <= at_once:
        step = at_once // size
        for first in range(0, batch, step):
            yield _Block(slice(first, min(first + step, batch)), 0, size, size)
        return
    for window, length in enumerate(lengths or [size] * batch):
        for start in range(0, length, at_once):
            stop = min(start + at_once, length)
            yield _Block(slice(window, window + 1), start, stop, length)


def cached_layer(
    x_BTD: Tensor,
    w1_HD: Tensor,
    b1_H: Tensor,
    w2_DH: Tensor,
    b2_D: Tensor,
    offsets: tuple[int, ...],
    lengths: Sequence[int] | None,
) -> Tensor:
    """x + moved(W2 GELU(W1 x + b1) + b2), with gradients.

    Args:
        offsets: how far to the right each channel group reads.
        lengths: slots of each window's ring; None where all T. The slots after a ring are not
            mapped.
    """
    y_BTD: Tensor = _CachedLayer.apply(  # type: ignore[no-untyped-call]
        x_BTD, w1_HD, b1_H, w2_DH, b2_D, offsets, lengths, torch.is_grad_enabled()
    )
    return y_BTD


class _CachedLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        w1_HD: Tensor,
        b1_H: Tensor,
        w2_DH: Tensor,
        b2_D: Tensor,
        offsets: tuple[int, ...],
        lengths: Sequence[int] | None,
        keep: bool,
    ) -> Tensor:
        x_BTD = x_BTD.contiguous()
        hidden = len(b1_H)
        at_once = max(1, _BUFFER // hidden)
        most = min(x_BTD[..., 0].numel(), at_once)
        u_BTH = x_BTD.new_empty(*x_BTD.shape[:2], hidden) if keep else None
        u_PH, a_PH = x_BTD.new_empty(2, most, hidden)
        z_PD = x_BTD.new_empty(most, x_BTD.shape[2])
        # Whatever moves, the bias is the same at all slots.
        y_BTD = x_BTD + b2_D
        for block in _blocks(x_BTD.shape, at_once, lengths):
            x_PD = block.of(x_BTD)
            u, a, z = (
                u_PH[: len(x_PD)] if u_BTH is None else block.of(u_BTH),
                a_PH[: len(x_PD)],
                z_PD[: len(x_PD)],
            )
            torch.addmm(b1_H, x_PD, w1_HD.t(), out=u)
            torch.ops.aten.gelu.out(u, out=a)
            torch.mm(a, w2_DH.t(), out=z)
            _add_moved(y_BTD, z, block, offsets)
        if u_BTH is not None:
            ctx.save_for_backward(x_BTD, u_BTH, w1_HD, w2_DH)
            ctx.offsets, ctx.lengths = offsets, lengths
        return y_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        dy_BTD = gradients[0].contiguous()
        x_BTD, u_BTH, w1_HD, w2_DH = ctx.saved_tensors
        weights = any(ctx.needs_input_grad[1:5])
        hidden = u_BTH.shape[2]
        at_once = max(1, _BUFFER // hidden)
        most = min(x_BTD[..., 0].numel(), at_once)
        a_PH, da_PH = x_BTD.new_empty(2, most, hidden)
        dz_PD = x_BTD.new_empty(most, x_BTD.shape[2])
        dw1_HD, dw2_DH = torch.zeros_like(w1_HD), torch.zeros_like(w2_DH)
        db1_H = x_BTD.new_zeros(hidden)
        # What lies after a ring passes as it is.
        dx_BTD = torch.empty_like(dy_BTD) if ctx.lengths is None else dy_BTD.clone()
        for block in _blocks(x_BTD.shape, at_once, ctx.lengths):
            u = block.of(u_BTH)
            a, da, dz = a_PH[: len(u)], da_PH[: len(u)], dz_PD[: len(u)]
            _take_back(dz, dy_BTD, block, ctx.offsets)
            if weights:
                torch.ops.aten.gelu.out(u, out=a)
                torch.addmm(dw2_DH, dz.t(), a, out=dw2_DH)
            torch.mm(dz, w2_DH, out=da)
            du = torch.ops.aten.gelu_backward.grad_input(da, u, grad_input=a)
            if weights:
                torch.addmm(dw1_HD, du.t(), block.of(x_BTD), out=dw1_HD)
                db1_H += du.sum(0)
            torch.addmm(block.of(dy_BTD), du, w1_HD, out=block.of(dx_BTD))
        db2_D = dy_BTD.sum((0, 1)) if weights else None
        return dx_BTD, dw1_HD, db1_H, dw2_DH, db2_D, None, None, None


def _add_moved(y_BTD: Tensor, z_PD: Tensor, block: _Block, offsets: tuple[int, ...]) -> None:
    """Add the block's z to the slots that take from it."""
    width = y_BTD.shape[2] // len(offsets)
    z_BSD = z_PD.view(-1, block.stop - block.start, y_BTD.shape[2])
    for group, offset in enumerate(offsets):
        channels = slice(group * width, (group + 1) * width)
        for inside, takers in block.places(offset):
            y_BTD[block.windows, takers, channels] += z_BSD[:, inside, channels]


def _take_back(dz_PD: Tensor, dy_BTD: Tensor, block: _Block, offsets: tuple[int, ...]) -> None:
    """The gradient of the block's z: that of the slots that took from it."""
    width = dy_BTD.shape[2] // len(offsets)
    dz_BSD = dz_PD.view(-1, block.stop - block.start, dy_BTD.shape[2])
    for group, offset in enumerate(offsets):
        channels = slice(group * width, (group + 1) * width)
        for inside, takers in block.places(offset):
            dz_BSD[:, inside, channels] = dy_BTD[block.windows, takers, channels]
