"""Pieces of activations that differ from those of reference windows, and layers run on them.

A piece is as wide as the change can reach, the same for all M; it may hold places that are as in
the reference, and it never leaves the sequence. So every layer sees the neighbors that it would see
in the whole window, and beyond the ends the zeros of its padding.
Dimensions: B reference window, L position, C channel, M changed window, W position of a piece,
K tap, O channel of the output.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """Of M windows the stretch of activations that differs from their reference window's.

    Attributes:
        values_MWC: the activations of the stretch.
        start_M: its first position.
        row_M: the reference window.
    """

    values_MWC: Tensor
    start_M: Tensor
    row_M: Tensor

    @property
    def width(self) -> int:
        """W, positions of each stretch."""
        return self.values_MWC.shape[1]

    def within(self, reference_BLC: Tensor) -> Tensor:
        """The whole changed windows, (M, L, C)."""
        whole_MLC = reference_BLC[self.row_M]
        return put(whole_MLC, self.start_M, self.values_MWC)

    def take(self, reference_BLC: Tensor) -> Tensor:
        """The same stretches of the reference windows, (M, W, C)."""
        return cut(reference_BLC, self.row_M, self.start_M, self.width)


def cut(x_BLC: Tensor, row_M: Tensor, start_M: Tensor, width: int) -> Tensor:
    """Stretches of rows, (M, width, C)."""
    _, length, channels = x_BLC.shape
    place_MW = (row_M * length + start_M)[:, None] + torch.arange(width, device=x_BLC.device)
    found = x_BLC.reshape(-1, channels).index_select(0, place_MW.flatten())
    return found.view(-1, width, channels)


def put(x_MLC: Tensor, start_M: Tensor, values_MWC: Tensor) -> Tensor:
    """Write a stretch into each row, in place."""
    rows, length, channels = x_MLC.shape
    first_M = torch.arange(rows, device=x_MLC.device) * length + start_M
    place_MW = first_M[:, None] + torch.arange(values_MWC.shape[1], device=x_MLC.device)
    values_RC = values_MWC.flatten(0, 1).to(x_MLC.dtype)
    x_MLC.view(-1, channels).index_copy_(0, place_MW.flatten(), values_RC)
    return x_MLC


def reached(
    start_M: Tensor, width: int, halo: int, length: int, even: bool = False
) -> tuple[Tensor, int]:
    """Start and width of what stretches reach by `halo` on either side, inside the sequence.

    Args:
        even: start and width are even, for a pool of pairs; the length must be.
    """
    if even:
        grown = min(length, (width + 2 * halo + 2) // 2 * 2)
        start_M = (start_M - halo) // 2 * 2
    else:
        grown = min(length, width + 2 * halo)
        start_M = start_M - halo
    return start_M.clamp(0, length - grown), grown


def padded(x_BLC: Tensor, halo: int) -> Tensor:
    """With `halo` zeros beyond either end."""
    return F.pad(x_BLC, (0, 0, halo, halo))


def convolve_inside(
    x_MWC: Tensor, weight_OCK: Tensor, bias_O: Tensor | None, stride: int = 1
) -> Tensor:
    """Convolution without padding; only positions with all their neighbors are given."""
    x_MC1W = x_MWC.transpose(1, 2).unsqueeze(2)
    y_MO1W = F.conv2d(x_MC1W, weight_OCK.unsqueeze(2), bias_O, stride=(1, stride))
    return y_MO1W.squeeze(2).transpose(1, 2)
