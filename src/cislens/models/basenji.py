"""A convolutional trunk with dilated residual blocks (Basenji, Kelley et al. 2018 and 2020).

Dimensions: B window, L position, N bin, C channel, D channel of the bins.
"""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.contract import Embedding, Encoder, LocalEncoder, whole_bins
from cislens.models.enformer import Pointwise
from cislens.models.local import LocalBlocks, LocalConvolutions, LocalTower
from cislens.nn.batch_norm import BatchNorm
from cislens.nn.convolution import SLOPE, ConvBlock, Convolution, position_mask
from cislens.recipes.reading import Section

# Factor between the dilations of consecutive blocks (Kelley 2020).
RATE = 1.5


class BasenjiConfig(Section):
    """Shape of a Basenji trunk.

    Attributes:
        dim: channels of the bins; the embedding has twice as many.
        depth: dilated residual blocks.
        stem_dim: channels at full resolution (3/8 of dim as published).
        hidden_dim: channels of the dilated convolutions (dim / 2 as published).
        width_multiple: the widths of the tower are rounded to it.
        bin_size: base pairs per bin, a power of two from 4 on; sets the depth of the tower.
        dropout: at the end of each residual block.
    """

    kind: Literal["basenji"] = "basenji"
    dim: int = Field(ge=4)
    depth: int = Field(ge=0)
    stem_dim: int | None = Field(None, gt=0)
    hidden_dim: int | None = Field(None, gt=0)
    width_multiple: int = Field(1, gt=0)
    bin_size: int = 128
    dropout: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> "BasenjiConfig":
        if self.bin_size < 4 or self.bin_size & (self.bin_size - 1):
            raise ValueError(f"bin_size {self.bin_size} is not a power of two from 4 on")
        if self.dim < 4:
            raise ValueError(
                f"dim {self.dim} leaves no channels at full resolution; give 4 or more"
            )
        return self

    @property
    def stem_width(self) -> int:
        """Channels at full resolution."""
        return self.stem_dim or self.dim * 3 // 8

    @property
    def hidden_width(self) -> int:
        """Channels of the dilated convolutions."""
        return self.hidden_dim or self.dim // 2

    @property
    def tower_widths(self) -> list[int]:
        """Channels after each stage behind the stem: geometric from its width to dim."""
        stages = self.bin_size.bit_length() - 2
        ratio = (self.dim / self.stem_width) ** (1 / stages)
        multiple = self.width_multiple
        widths = [self.stem_width * ratio**stage for stage in range(1, stages)]
        return [max(1, round(width / multiple)) * multiple for width in widths] + [self.dim]

    @property
    def dilations(self) -> list[int]:
        """Dilation of each block in bins: 1, 2, 3, 4, 6, 9, ...; rounded before it grows on."""
        rates = [1]
        while len(rates) < self.depth:
            rates.append(round(rates[-1] * RATE))
        return rates[: self.depth]

    @property
    def reach(self) -> int:
        """Bins on either side of a bin whose tower output can influence its embedding."""
        return sum(self.dilations)


class BasenjiTower(nn.Module):
    """One-hot windows to bins: a convolution at full resolution, then wider ones; max pools."""

    def __init__(self, config: BasenjiConfig) -> None:
        super().__init__()
        widths = [config.stem_width, *config.tower_widths]
        self.stem = Convolution(4, config.stem_width, 15)
        self.stages = nn.ModuleList(
            ConvBlock(inputs, outputs, 5) for inputs, outputs in pairwise(widths)
        )

    def forward(self, x_BLC: Tensor, valid_BN: Tensor | None) -> Tensor:
        """(B, L, 4) -> (B, N, D). `valid_BN` None says that every bin is valid."""
        x_BLC = max_pool(self.stem(x_BLC))
        for stage in self.stages:
            mask_BL1 = None if valid_BN is None else position_mask(valid_BN, x_BLC.shape[1])
            x_BLC = max_pool(stage(x_BLC, mask_BL1))
        return x_BLC


class DilatedBlock(nn.Module):
    """x + W Conv(x), the convolution of width 3 with gaps, both behind norm and activation."""

    def __init__(self, dim: int, hidden: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = BatchNorm(dim)
        self.conv = nn.Conv1d(dim, hidden, 3, padding=dilation, dilation=dilation)
        self.widen = ConvBlock(hidden, dim, 1)
        self.dropout = nn.Dropout(dropout)
        # The block is the identity at the start, as with a norm behind it whose scale is zero.
        nn.init.zeros_(self.widen.conv.weight)
        assert self.widen.conv.bias is not None
        nn.init.zeros_(self.widen.conv.bias)

    def forward(self, x_BND: Tensor, valid_BN: Tensor | None) -> Tensor:
        mask_BN1 = None if valid_BN is None else valid_BN.unsqueeze(2)
        return self.finish(x_BND, self.spread(self.read(x_BND, mask_BN1)))

    @property
    def reach(self) -> int:
        """Bins on either side of a bin that it reads."""
        return self.dilation

    def read(self, x_BND: Tensor, mask_BN1: Tensor | None) -> Tensor:
        """What the convolution reads, bin by bin; the mask is 0 where it must not."""
        h_BND: Tensor = self.norm(x_BND.flatten(0, 1)).view_as(x_BND)
        h_BND = h_BND * torch.sigmoid(SLOPE * h_BND)
        return h_BND if mask_BN1 is None else h_BND * mask_BN1.to(h_BND.dtype)

    def spread(self, read_BND: Tensor, bias: bool = True) -> Tensor:
        """The convolution; without its bias it is linear."""
        d, bias_H = self.dilation, self.conv.bias if bias else None
        h_BDN = read_BND.transpose(1, 2)
        if d >= read_BND.shape[1]:
            # Its outer taps lie beyond the ends; to read zeros there takes several times as long.
            return F.linear(read_BND, self.conv.weight[:, :, 1], bias_H)
        y_BHN = F.conv1d(h_BDN, self.conv.weight, bias_H, padding=d, dilation=d)
        return y_BHN.transpose(1, 2)

    def finish(self, x_BND: Tensor, spread_BNH: Tensor) -> Tensor:
        """The block's output from its input and from what the convolution gives."""
        update: Tensor = self.dropout(self.widen(spread_BNH))
        return x_BND + update


class BasenjiEncoder(Encoder):
    """Tower, dilated blocks and pointwise layer; the same for every species."""

    def __init__(self, config: BasenjiConfig) -> None:
        super().__init__()
        self.config = config
        self.bin_size = config.bin_size
        self.dim = 2 * config.dim
        self.species = ()
        self.tower = BasenjiTower(config)
        self.blocks = nn.ModuleList(
            DilatedBlock(config.dim, config.hidden_width, dilation, config.dropout)
            for dilation in config.dilations
        )
        self.pointwise = Pointwise(config.dim, config.dropout / 6)

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        return deque(self.hidden(x_B4L, species_B), maxlen=1).pop()

    @property
    def layers(self) -> tuple[str, ...]:
        """`embed` (tower), `L1` .. `L<depth>` (blocks), all of width D; `out` of width 2D."""
        return ("embed", *(f"L{block}" for block in range(1, len(self.blocks) + 1)), "out")

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        x_B4L, valid_BN, mask_BN = whole_bins(x_B4L, self.bin_size)
        x_BND = self.tower(x_B4L.transpose(1, 2), mask_BN)
        yield Embedding(x_BND, self.bin_size, valid_BN)
        for block in self.blocks:
            x_BND = block(x_BND, mask_BN)
            yield Embedding(x_BND, self.bin_size, valid_BN)
        yield Embedding(self.pointwise(x_BND), self.bin_size, valid_BN)

    @torch.no_grad()
    def local(self, x_B4L: Tensor, species_B: Tensor | None = None) -> LocalEncoder | None:
        if self.training:
            return None
        x_B4L, valid_BN, mask_BN = whole_bins(x_B4L, self.bin_size)
        stages = [(stage, max_pool) for stage in self.tower.stages if isinstance(stage, ConvBlock)]
        tower = LocalTower(self.tower.stem, max_pool, stages, x_B4L, mask_BN)
        blocks = [block for block in self.blocks if isinstance(block, DilatedBlock)]
        rest = LocalBlocks(blocks, self.pointwise, tower.bins_BND, mask_BN)
        return LocalConvolutions(tower, rest, self.bin_size, valid_BN)


def max_pool(x_BLC: Tensor) -> Tensor:
    """The larger of each pair of positions, (B, L, C) -> (B, L / 2, C)."""
    batch, length, channels = x_BLC.shape
    first, second = x_BLC.reshape(batch, length // 2, 2, channels).unbind(2)
    return torch.maximum(first, second)
