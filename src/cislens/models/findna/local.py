"""FinDNA-plus where a substitution reaches: its stem, and both strands of it.

Dimensions: B reference window, L base pair or position of a stem level, N token, C channel,
D channel of a token, M changed window, W position of a stretch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.models.contract import Embedding, LocalEncoder
from cislens.models.local import FirstConvolution
from cislens.nn.convolution import Convolution
from cislens.nn.patches import Patches, convolve_inside, cut, padded, put, reached


@dataclass(frozen=True)
class _Halving:
    """A convolution of stride 2 and what follows it.

    Attributes:
        x_BLC: what it reads of the reference windows, with `halo` zeros beyond the ends.
        mask_BL1: 0 for positions of the output that are nothing; None where there are none.
    """

    conv: nn.Conv1d
    activate: Callable[[Tensor], Tensor]
    x_BLC: Tensor
    halo: int
    mask_BL1: Tensor | None

    def reference(self) -> Tensor:
        """Its output for the reference windows."""
        y_BLC = self._convolved(self.x_BLC)
        return y_BLC if self.mask_BL1 is None else y_BLC * self.mask_BL1.to(y_BLC.dtype)

    def __call__(self, patches: Patches) -> Patches:
        halo, half = self.halo, self.x_BLC.shape[1] // 2 - self.halo
        # Output j reads inputs 2 j - halo to 2 j + halo.
        width = min(half, (patches.width + 2 * halo + 1) // 2)
        start_M = (patches.start_M - halo + 1).div(2, rounding_mode="floor")
        start_M = start_M.clamp(0, half - width)
        row_M = patches.row_M
        x_MWC = cut(self.x_BLC, row_M, 2 * start_M, 2 * width + 2 * halo)
        put(x_MWC, patches.start_M - 2 * start_M + halo, patches.values_MWC)
        y_MWC = self._convolved(x_MWC)
        return _kept(Patches(y_MWC, start_M, row_M), self.mask_BL1)

    def _convolved(self, x_BLC: Tensor) -> Tensor:
        weight_OCK, bias_O = self.conv.weight, self.conv.bias
        return self.activate(convolve_inside(x_BLC, weight_OCK, bias_O, stride=2))


class LocalStem:
    """Reference windows and what every level of the stem makes of them.

    Args:
        to_base, near: the convolutions of bases.
        halvings: the further convolutions, each with what follows it.
        shown_B4L: reference windows, whole tokens.
        masks_BL1: of each level the positions that may be read; None where all may.

    Attributes:
        bins_BND: tokens of the reference windows.
    """

    def __init__(
        self,
        to_base: Convolution,
        near: Convolution,
        halvings: Sequence[tuple[nn.Conv1d, Callable[[Tensor], Tensor]]],
        shown_B4L: Tensor,
        masks_BL1: Sequence[Tensor | None],
    ) -> None:
        rows = len(shown_B4L)
        masks = [None if mask is None else mask.expand(rows, -1, -1) for mask in masks_BL1]
        self.first, self.near, self.mask_BL1 = FirstConvolution(to_base, shown_B4L), near, masks[0]
        x_BLC = self.first.y_BLC
        x_BLC = x_BLC if masks[0] is None else x_BLC * masks[0].to(x_BLC.dtype)
        self.base_BLC = padded(x_BLC, near.weight.shape[2] // 2)
        x_BLC = x_BLC + near(F.gelu(x_BLC))
        x_BLC = x_BLC if masks[0] is None else x_BLC * masks[0].to(x_BLC.dtype)
        self.halvings = []
        for (conv, activate), mask_BL1 in zip(halvings, masks[1:], strict=True):
            halo = conv.weight.shape[2] // 2
            self.halvings.append(_Halving(conv, activate, padded(x_BLC, halo), halo, mask_BL1))
            x_BLC = self.halvings[-1].reference()
        self.bins_BND = x_BLC

    def patches(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Patches:
        """The tokens that read the base, where it is replaced."""
        patches = self._read_near(
            _kept(self.first.patches(row_M, position_M, base_M), self.mask_BL1)
        )
        for halving in self.halvings:
            patches = halving(patches)
        return patches

    def _read_near(self, patches: Patches) -> Patches:
        weight_OCK = self.near.weight
        halo = weight_OCK.shape[2] // 2
        length = self.base_BLC.shape[1] - 2 * halo
        start_M, width = reached(patches.start_M, patches.width, halo, length)
        x_MWC = cut(self.base_BLC, patches.row_M, start_M, width + 2 * halo)
        put(x_MWC, patches.start_M - start_M + halo, patches.values_MWC)
        y_MWC = convolve_inside(F.gelu(x_MWC), weight_OCK, self.near.bias)
        y_MWC = y_MWC + x_MWC[:, halo : halo + width]
        return _kept(Patches(y_MWC, start_M, patches.row_M), self.mask_BL1)


class LocalStrands(LocalEncoder):
    """Both strands of reference windows, each with half of the channels.

    Args:
        along, against: the windows and their reverse complements.
        length: base pairs of a window, whole tokens.
    """

    def __init__(self, along: LocalEncoder, against: LocalEncoder, length: int) -> None:
        self.along, self.against, self.length = along, against, length

    @torch.no_grad()
    def reference(self) -> Embedding:
        return joined_strands(self.along.reference(), self.against.reference())

    @torch.no_grad()
    def embeddings(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Embedding:
        along = self.along.embeddings(row_M, position_M, base_M)
        against = self.against.embeddings(row_M, self.length - 1 - position_M, 3 - base_M)
        return joined_strands(along, against)


def joined_strands(along: Embedding, against: Embedding) -> Embedding:
    """Of a window and of its reverse complement, in the order of the window."""
    joined_BND = torch.cat([along.values_BND, against.values_BND.flip(1)], dim=2)
    # The same for a sequence and its reverse complement, in either half.
    strands_BC = (along.mean() + against.mean()) / 2
    summary_BD = strands_BC.repeat(1, 2)
    return Embedding(joined_BND, along.bin_size, along.valid_BN, summary_BD=summary_BD)


def _kept(patches: Patches, mask_BL1: Tensor | None) -> Patches:
    if mask_BL1 is None:
        return patches
    mask_MW1 = patches.take(mask_BL1).to(patches.values_MWC.dtype)
    return Patches(patches.values_MWC * mask_MW1, patches.start_M, patches.row_M)
