"""A tower of convolutions and pools, run where a substitution reaches.

The tower reads some bases about each position; for a base that is replaced, only the stretch that
reads it is computed, level by level, and the rest is taken from the reference window (as fastISM,
Nair et al. 2022, Bioinformatics 38:2397). The layers themselves are those of the encoder.
Dimensions: B reference window, L position, N bin, C channel, D channel of the bins, M changed
window, W position of a stretch, K tap.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from cislens.models.contract import Embedding, LocalEncoder
from cislens.nn.convolution import SLOPE, ConvBlock, Convolution, position_mask
from cislens.nn.patches import Patches, convolve_inside, cut, padded, put, reached

# What follows a convolution: layers of single positions, then a pool of pairs.
Halve = Callable[[Tensor], Tensor]

# A stretch of more of the window than this is computed as the whole window: to collect it takes
# longer than to compute the rest.
_WIDEST = 0.75


class FirstConvolution:
    """A convolution of one-hot bases, which is linear: a substitution adds a column of weights.

    Attributes:
        y_BLC: its output for the reference windows.
    """

    def __init__(self, conv: Convolution, x_B4L: Tensor) -> None:
        self.x_B4L = x_B4L
        self.y_BLC: Tensor = conv(x_B4L.transpose(1, 2))
        # The tap k of position i reads base i + k - halo: what base p adds lies in reverse order.
        self.column_4KC = conv.weight.permute(1, 2, 0).flip(1).contiguous()
        self.halo = conv.weight.shape[2] // 2

    def patches(
        self, row_M: Tensor, position_M: Tensor, base_M: Tensor, even: bool = False
    ) -> Patches:
        """The stretch of outputs that read the base; with `even`, of whole pairs."""
        length, taps = self.y_BLC.shape[1], 2 * self.halo + 1
        start_M, width = reached(position_M, 1, self.halo, length, even)
        y_MWC = cut(self.y_BLC, row_M, start_M, width)
        replaced_M = self.x_B4L[row_M, :, position_M].argmax(dim=1)
        change_MKC = self.column_4KC[base_M] - self.column_4KC[replaced_M]
        # Room for the taps that would lie beyond the ends; they are cut off.
        room_MWC = y_MWC.new_zeros(len(row_M), width + 2 * taps, y_MWC.shape[2])
        put(room_MWC, position_M - self.halo - start_M + taps, change_MKC)
        return Patches(y_MWC + room_MWC[:, taps : taps + width], start_M, row_M)


@dataclass(frozen=True)
class _Stage:
    """A convolution behind its norm, then what halves the resolution.

    Attributes:
        h_BLC: what the convolution reads of the reference windows, with zeros beyond the ends.
        mask_BL1: 0 for positions that it must not read; None where there are none.
    """

    block: ConvBlock
    halve: Halve
    h_BLC: Tensor
    mask_BL1: Tensor | None

    def __call__(self, patches: Patches) -> Patches:
        weight_OCK = self.block.conv.weight
        halo = weight_OCK.shape[2] // 2
        row_M, before_M = patches.row_M, patches.start_M
        mask_MW1 = None if self.mask_BL1 is None else patches.take(self.mask_BL1)
        changed_MWC = self.block.activate(patches.values_MWC, mask_MW1)
        length = self.h_BLC.shape[1] - 2 * halo
        start_M, width = reached(before_M, patches.width, halo, length, even=True)
        h_MWC = cut(self.h_BLC, row_M, start_M, width + 2 * halo)
        put(h_MWC, before_M - start_M + halo, changed_MWC)
        y_MWC = convolve_inside(h_MWC, weight_OCK / SLOPE, self.block.conv.bias)
        return Patches(self.halve(y_MWC), start_M // 2, row_M)


class Tower(Protocol):
    """From bases to bins."""

    def patches(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Patches:
        """The bins that read the base, where it is replaced."""


class LocalTower:
    """Reference windows and what every level of a tower makes of them.

    Args:
        stem: the convolution of bases.
        halve_stem: what follows it.
        stages: of each further level the convolution and what follows it.
        x_B4L: reference windows, whole bins.
        mask_BN: bins that may be read; None where all may.

    Attributes:
        bins_BND: the output for the reference windows.
    """

    def __init__(
        self,
        stem: Convolution,
        halve_stem: Halve,
        stages: Sequence[tuple[ConvBlock, Halve]],
        x_B4L: Tensor,
        mask_BN: Tensor | None,
    ) -> None:
        self.first, self.halve_stem = FirstConvolution(stem, x_B4L), halve_stem
        self.stages = []
        x_BLC = halve_stem(self.first.y_BLC)
        for block, halve in stages:
            mask_BL1 = None if mask_BN is None else position_mask(mask_BN, x_BLC.shape[1])
            h_BLC = padded(block.activate(x_BLC, mask_BL1), block.conv.weight.shape[2] // 2)
            self.stages.append(_Stage(block, halve, h_BLC, mask_BL1))
            x_BLC = halve(convolve_inside(h_BLC, block.conv.weight / SLOPE, block.conv.bias))
        self.bins_BND = x_BLC

    def patches(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Patches:
        """The bins that read the base, where it is replaced."""
        first = self.first.patches(row_M, position_M, base_M, even=True)
        patches = Patches(self.halve_stem(first.values_MWC), first.start_M // 2, row_M)
        for stage in self.stages:
            patches = stage(patches)
        return patches


class SpreadBlock(Protocol):
    """A residual block that reads its neighbors by one linear convolution.

    `block(x, mask)` is `finish(x, spread(read(x, mask)))`; `read` and `finish` work on single
    positions, `spread` reads `reach` positions to either side, with zeros beyond the ends.
    """

    @property
    def reach(self) -> int: ...

    def read(self, x_BND: Tensor, mask_BN1: Tensor | None) -> Tensor: ...

    def spread(self, read_BND: Tensor, bias: bool = True) -> Tensor: ...

    def finish(self, x_BND: Tensor, spread_BND: Tensor) -> Tensor: ...


class LocalBlocks:
    """Residual blocks behind a tower: local while the stretches are short, then whole.

    Args:
        blocks: what follows the tower.
        last: the last layer, which works on single bins.
        x_BND: bins of the reference windows, as the tower gives them.
        mask_BN: bins that may be read; None where all may.
    """

    def __init__(
        self,
        blocks: Sequence[SpreadBlock],
        last: Callable[[Tensor], Tensor],
        x_BND: Tensor,
        mask_BN: Tensor | None,
    ) -> None:
        self.blocks, self.last = blocks, last
        self.mask_BN1 = None if mask_BN is None else mask_BN.unsqueeze(2)
        self.levels = []
        for block in blocks:
            read_BND = block.read(x_BND, self.mask_BN1)
            spread_BND = block.spread(read_BND)
            self.levels.append((x_BND, read_BND, spread_BND))
            x_BND = block.finish(x_BND, spread_BND)
        self.before_last_BND, self.last_BND = x_BND, last(x_BND)

    def reference(self) -> Tensor:
        """The embedding of the reference windows, (B, N, D)."""
        return self.last_BND

    def __call__(self, patches: Patches) -> Tensor:
        """The embedding of whole windows, (M, N, D)."""
        length = self.last_BND.shape[1]
        for index, block in enumerate(self.blocks):
            if patches.width + 2 * block.reach > _WIDEST * length:
                return self._whole(index, patches)
            patches = self._step(index, patches)
        return replace(patches, values_MWC=self.last(patches.values_MWC)).within(self.last_BND)

    def _step(self, index: int, patches: Patches) -> Patches:
        block, (x_BND, read_BND, spread_BND) = self.blocks[index], self.levels[index]
        mask_MW1 = None if self.mask_BN1 is None else patches.take(self.mask_BN1)
        change_MWC = block.read(patches.values_MWC, mask_MW1) - patches.take(read_BND)
        length = x_BND.shape[1]
        start_M, width = reached(patches.start_M, patches.width, block.reach, length)
        inner_M, row_M = patches.start_M - start_M, patches.row_M
        room_MWC = change_MWC.new_zeros(len(row_M), width, change_MWC.shape[2])
        spread_MWC = block.spread(put(room_MWC, inner_M, change_MWC), bias=False)
        spread_MWC = spread_MWC + cut(spread_BND, row_M, start_M, width)
        x_MWC = put(cut(x_BND, row_M, start_M, width), inner_M, patches.values_MWC)
        return Patches(block.finish(x_MWC, spread_MWC), start_M, row_M)

    def _whole(self, index: int, patches: Patches) -> Tensor:
        x_MND = patches.within(self.levels[index][0])
        mask_MN1 = None if self.mask_BN1 is None else self.mask_BN1[patches.row_M]
        for block in self.blocks[index:]:
            x_MND = block.finish(x_MND, block.spread(block.read(x_MND, mask_MN1)))
        return self.last(x_MND)


class WholeBlocks:
    """Blocks that read too far for stretches: `block(x, mask)` on whole windows.

    Args: as those of `LocalBlocks`.
    """

    def __init__(
        self,
        blocks: Iterable[Callable[[Tensor, Tensor | None], Tensor]],
        last: Callable[[Tensor], Tensor],
        x_BND: Tensor,
        mask_BN: Tensor | None,
    ) -> None:
        self.blocks, self.last, self.x_BND = tuple(blocks), last, x_BND
        self.mask_BN1 = None if mask_BN is None else mask_BN.unsqueeze(2)

    def reference(self) -> Tensor:
        """The embedding of the reference windows, (B, N, D)."""
        return self._embedded(self.x_BND, self.mask_BN1)

    def __call__(self, patches: Patches) -> Tensor:
        """The embedding of whole windows, (M, N, D)."""
        mask_MN1 = None if self.mask_BN1 is None else self.mask_BN1[patches.row_M]
        return self._embedded(patches.within(self.x_BND), mask_MN1)

    def _embedded(self, x_BND: Tensor, mask_BN1: Tensor | None) -> Tensor:
        for block in self.blocks:
            x_BND = block(x_BND, mask_BN1)
        return self.last(x_BND)


class LocalConvolutions(LocalEncoder):
    """A tower and blocks, both of convolutions.

    Args:
        tower: gives the bins that a substitution reaches.
        blocks: what follows it.
        valid_BN: of the reference windows.
    """

    def __init__(
        self, tower: Tower, blocks: LocalBlocks | WholeBlocks, bin_size: int, valid_BN: Tensor
    ) -> None:
        self.tower, self.blocks = tower, blocks
        self.bin_size, self.valid_BN = bin_size, valid_BN

    @torch.no_grad()
    def reference(self) -> Embedding:
        return Embedding(self.blocks.reference(), self.bin_size, self.valid_BN)

    @torch.no_grad()
    def embeddings(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Embedding:
        values_MND = self.blocks(self.tower.patches(row_M, position_M, base_M))
        return Embedding(values_MND, self.bin_size, self.valid_BN[row_M])
