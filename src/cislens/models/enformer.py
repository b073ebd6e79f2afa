"""The Enformer trunk: convolution tower, transformer, pointwise layer (Avsec et al. 2021).

Dimensions: B window, L position, N bin, C channel, D transformer channel, R relative distance,
F position feature.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.contract import Embedding, Encoder, LocalEncoder, whole_bins
from cislens.models.local import LocalTower
from cislens.nn.attention import RelativeAttention
from cislens.nn.checkpointing import Result, run
from cislens.nn.convolution import SLOPE, ConvBlock, Convolution, Residual, position_mask
from cislens.nn.pooling import AttentionPool
from cislens.nn.positions import Positions, RelativeBasis
from cislens.recipes.reading import Section


class EnformerConfig(Section):
    """Shape of an Enformer trunk.

    Attributes:
        dim: channels of the transformer; the embedding has twice as many.
        depth: transformer blocks.
        heads, key_dim: attention heads and channels of a key.
        stem_dim: channels at full resolution (dim / 2 as published). The time of a training
            step on a CPU is mostly spent there.
        width_multiple: the widths of the tower are rounded to it.
        bin_size: base pairs per bin, a power of two from 4 on; sets the depth of the tower.
        dropout: after attention and in the feed-forward layers.
        positions: see `cislens.nn.positions.relative_basis`.
    """

    kind: Literal["enformer"] = "enformer"
    dim: int = Field(gt=0)
    depth: int = Field(ge=0)
    heads: int = Field(gt=0)
    key_dim: int = Field(64, gt=0)
    stem_dim: int | None = Field(None, gt=0)
    width_multiple: int = Field(16, gt=0)
    bin_size: int = 128
    dropout: float = Field(0.2, ge=0, lt=1)
    positions: Positions = "bp"

    @model_validator(mode="after")
    def _consistent(self) -> "EnformerConfig":
        if self.bin_size < 4 or self.bin_size & (self.bin_size - 1):
            raise ValueError(f"bin_size {self.bin_size} is not a power of two from 4 on")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} does not divide into {self.heads} heads")
        if self.dim // self.heads < 6:
            raise ValueError(f"dim / heads is {self.dim // self.heads}; positions need at least 6")
        return self

    @property
    def stem_width(self) -> int:
        """Channels at full resolution."""
        return self.stem_dim or self.dim // 2

    @property
    def tower_widths(self) -> list[int]:
        """Channels after each stage of the tower: geometric from the stem's width to dim."""
        stages = self.bin_size.bit_length() - 2
        if stages == 1:
            return [self.dim]
        ratio = (self.dim / self.stem_width) ** (1 / (stages - 1))
        multiple = self.width_multiple
        widths = [self.stem_width * ratio**stage for stage in range(stages - 1)]
        return [max(1, round(width / multiple)) * multiple for width in widths] + [self.dim]

    @property
    def position_features(self) -> int:
        """F: as many as one head has value channels, in whole sixes."""
        return self.dim // self.heads // 6 * 6


class Stage(nn.Module):
    """One halving of the resolution: a wide convolution, a pointwise one, a pool."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widen = ConvBlock(inputs, outputs, 5)
        self.refine = Residual(ConvBlock(outputs, outputs, 1))
        self.pool = AttentionPool(outputs)

    def forward(self, x_BLC: Tensor, valid_BN: Tensor | None) -> Tensor:
        mask_BL1 = None if valid_BN is None else position_mask(valid_BN, x_BLC.shape[1])
        pooled: Tensor = self.pool(self.refine(self.widen(x_BLC, mask_BL1)))
        return pooled


class Tower(nn.Module):
    """One-hot windows to bins: a stem at full resolution, then halving stages."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        stem = config.stem_width
        self.stem = nn.Sequential(
            Convolution(4, stem, 15), Residual(ConvBlock(stem, stem, 1)), AttentionPool(stem)
        )
        widths = config.tower_widths
        self.stages = nn.ModuleList(
            Stage(inputs, outputs)
            for inputs, outputs in zip([stem, *widths[:-1]], widths, strict=True)
        )

    def forward(
        self, x_BLC: Tensor, valid_BN: Tensor | None, checkpointing: bool = False
    ) -> Tensor:
        """(B, L, 4) -> (B, N, D). `valid_BN` None says that every bin is valid."""
        x_BLC = run(self.stem, x_BLC, checkpointing=checkpointing)
        for stage in self.stages:
            x_BLC = run(stage, x_BLC, valid_BN, checkpointing=checkpointing)
        return x_BLC

    def local(self, x_B4L: Tensor, mask_BN: Tensor | None) -> LocalTower:
        """The same windows, and what a substitution changes of them; in evaluation mode."""
        stem = self.stem[0]
        assert isinstance(stem, Convolution)
        stages = [
            (stage.widen, nn.Sequential(stage.refine, stage.pool))
            for stage in self.stages
            if isinstance(stage, Stage)
        ]
        return LocalTower(stem, self.stem[1:], stages, x_B4L, mask_BN)


class Pointwise(nn.Module):
    """The last layer of the trunk; its output, D -> 2D, is the embedding."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.block = ConvBlock(dim, 2 * dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND: Tensor) -> Tensor:
        h: Tensor = self.dropout(self.block(x_BND))
        return h * torch.sigmoid(SLOPE * h)


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x) with one hidden layer of 2 D."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = make_attention(config)
        self.attention_dropout = nn.Dropout(config.dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = make_mlp(dim, config.dropout)

    def forward(self, x_BND: Tensor, basis_RF: Tensor, valid_BN: Tensor | None) -> Tensor:
        attended = self.attention(self.attention_norm(x_BND), basis_RF, valid_BN)
        x_BND = x_BND + self.attention_dropout(attended)
        update: Tensor = self.mlp(self.mlp_norm(x_BND))
        return x_BND + update


def make_attention(config: EnformerConfig) -> RelativeAttention:
    """The attention of one block."""
    return RelativeAttention(config.dim, config.heads, config.key_dim, config.position_features)


def make_mlp(dim: int, dropout: float) -> nn.Sequential:
    """The dense feed-forward layer, D -> 2D -> D."""
    return nn.Sequential(
        nn.Linear(dim, 2 * dim),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(2 * dim, dim),
        nn.Dropout(dropout),
    )


class EnformerEncoder(Encoder):
    """Tower, dense transformer blocks and pointwise layer; the same for every species.

    Attributes:
        checkpointing: set it to True before training to keep only the inputs of the stem, of
            the tower's stages and of the blocks, and to compute the rest again for the gradient:
            less memory, a third more multiplications, the same weights.
    """

    checkpointing: bool = False

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        self.config = config
        self.bin_size = config.bin_size
        self.dim = 2 * config.dim
        self.species = ()
        self.tower = Tower(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.pointwise = Pointwise(config.dim, config.dropout / 8)
        self.basis = RelativeBasis(config.position_features, config.positions, config.bin_size)

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        return deque(self.hidden(x_B4L, species_B), maxlen=1).pop()

    @property
    def layers(self) -> tuple[str, ...]:
        """`embed` (tower), `L1` .. `L<depth>` (blocks), all of width D; `out` of width 2D."""
        return ("embed", *(f"L{block}" for block in range(1, len(self.blocks) + 1)), "out")

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        yield from self.from_bins(*self.embed_bins(x_B4L), species_B)

    def from_bins(
        self,
        x_BND: Tensor,
        valid_BN: Tensor,
        mask_BN: Tensor | None,
        species_B: Tensor | None = None,
    ) -> Iterator[Embedding]:
        """As `hidden`, from what `embed_bins` gives."""
        yield Embedding(x_BND, self.bin_size, valid_BN)
        basis_RF = self.basis.table(x_BND.shape[1], x_BND.device)
        for block in self.blocks:
            x_BND = self.run(block, x_BND, basis_RF, mask_BN)
            yield Embedding(x_BND, self.bin_size, valid_BN)
        yield Embedding(self.run(self.pointwise, x_BND), self.bin_size, valid_BN)

    def run(self, part: Callable[..., Result], *inputs: object) -> Result:
        """`part(*inputs)`, checkpointed if this encoder is."""
        return run(part, *inputs, checkpointing=self.checkpointing)

    @torch.no_grad()
    def local(self, x_B4L: Tensor, species_B: Tensor | None = None) -> LocalEncoder | None:
        if self.training:
            return None
        x_B4L, valid_BN, mask_BN = whole_bins(x_B4L, self.bin_size)
        tower = self.tower.local(x_B4L, mask_BN)
        return _LocalTrunk(self, tower, valid_BN, mask_BN, species_B)

    def embed_bins(self, x_B4L: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Output of the tower, which bins are valid, and the same as a mask if one is needed."""
        x_B4L, valid_BN, mask_BN = whole_bins(x_B4L, self.bin_size)
        x_BND = self.tower(x_B4L.transpose(1, 2), mask_BN, self.checkpointing)
        return x_BND, valid_BN, mask_BN


class _LocalTrunk(LocalEncoder):
    """The tower where a substitution reaches, the blocks on the whole window: they attend."""

    def __init__(
        self,
        encoder: EnformerEncoder,
        tower: LocalTower,
        valid_BN: Tensor,
        mask_BN: Tensor | None,
        species_B: Tensor | None,
    ) -> None:
        self.encoder, self.tower = encoder, tower
        self.valid_BN, self.mask_BN, self.species_B = valid_BN, mask_BN, species_B

    @torch.no_grad()
    def reference(self) -> Embedding:
        bins_BND = self.tower.bins_BND
        layers = self.encoder.from_bins(bins_BND, self.valid_BN, self.mask_BN, self.species_B)
        return deque(layers, maxlen=1).pop()

    @torch.no_grad()
    def embeddings(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Embedding:
        patches = self.tower.patches(row_M, position_M, base_M)
        x_MND = patches.within(self.tower.bins_BND)
        mask_MN = None if self.mask_BN is None else self.mask_BN[row_M]
        species_M = None if self.species_B is None else self.species_B.to(row_M.device)[row_M]
        layers = self.encoder.from_bins(x_MND, self.valid_BN[row_M], mask_MN, species_M)
        return deque(layers, maxlen=1).pop()
