"""FinDNA-plus: bases in, one vector per 8 bp out.

A base carries two bits at most, and a teacher's vector of one base would be its identity; so what
is distilled are vectors of 8 bp, and bases are told by a decoder. N, also as padding, is read by
nobody; a hidden base is a place that everybody reads and nobody knows.
Dimensions: B window, L base pair or position of a stem level, N token, D channel.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.bases import BaseDecoder, before_padding
from cislens.models.contract import Embedding, LocalEncoder, whole_bins
from cislens.models.findna.gated import EPS, GatedBlock, dilations
from cislens.models.findna.layout import Offsets
from cislens.models.findna.local import LocalStem, LocalStrands, joined_strands
from cislens.models.findna.mixer import OFFSETS, MixerBlock
from cislens.models.local import LocalBlocks, LocalConvolutions, WholeBlocks
from cislens.models.reading import ANY_BASE, Reading, ReadingEncoder
from cislens.nn.checkpointing import run
from cislens.nn.convolution import Convolution, halved
from cislens.recipes.reading import Section

BIN_SIZE = 8
_HALVINGS = 3
_BASE_WIDTH, _NEAR_WIDTH = 9, 5


class FindnaPlusConfig(Section):
    """Shape of the encoder.

    Attributes:
        dim: channels of a token.
        depth: blocks.
        stem_dim: channels at base resolution; they double with each halving, up to the tokens'.
        block: how tokens read each other: "gated" dilated convolutions, or the "mixer", which
            moves channels along the sequence.
        rc_equivariant: read both strands with the same weights, each with half of the channels.
            A sequence and its reverse complement have the same tokens, in the other order and
            with their halves exchanged.
    """

    kind: Literal["findna-plus"] = "findna-plus"
    dim: int = Field(gt=0)
    depth: int = Field(ge=0, le=1000)
    stem_dim: int = Field(64, gt=0)
    block: Literal["gated", "mixer"] = "gated"
    rc_equivariant: bool = False

    @model_validator(mode="after")
    def _two_halves(self) -> "FindnaPlusConfig":
        if self.rc_equivariant and self.dim % 2:
            raise ValueError(
                f"rc_equivariant gives each strand half of the channels, not {self.dim}"
            )
        return self


class FindnaPlusEncoder(ReadingEncoder):
    """Stem, blocks and a last norm; the same for every species, for any length.

    Attributes:
        checkpointing: set it to True before training to keep only the inputs of the blocks and
            to compute the rest again for the gradient.
    """

    checkpointing: bool = False

    def __init__(self, config: FindnaPlusConfig) -> None:
        super().__init__()
        self.config = config
        self.bin_size = BIN_SIZE
        self.dim = config.dim
        self.species = ()
        self.summarizes = config.rc_equivariant
        width = config.dim // 2 if config.rc_equivariant else config.dim
        self.stem = Stem(config.stem_dim, width)
        self.blocks: nn.ModuleList
        if config.block == "gated":
            reach = dilations(config.depth)
            self.offsets = Offsets("dilations", reach)
            self.blocks = nn.ModuleList(GatedBlock(width, dilation) for dilation in reach)
        else:
            self.offsets = Offsets("offsets", OFFSETS)
            self.blocks = nn.ModuleList(MixerBlock(width) for _ in range(config.depth))
        self.norm = nn.RMSNorm(width, eps=EPS)

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        return deque(self._layers(x_B4L), maxlen=1).pop()

    @property
    def layers(self) -> tuple[str, ...]:
        """`embed` (stem), `L1` .. `L<depth>` (blocks) and `out` (norm), all of width D."""
        return ("embed", *(f"L{block}" for block in range(1, len(self.blocks) + 1)), "out")

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        return self._layers(x_B4L)

    def read(self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False) -> Reading:
        embedding = deque(self._layers(x_B4L, hidden_BL), maxlen=1).pop()
        return Reading(
            embedding,
            embedding.values_BND,
            embedding.mean() if embedding.summary_BD is None else embedding.summary_BD,
            x_B4L if hidden_BL is None else x_B4L.masked_fill(hidden_BL[:, None], ANY_BASE),
        )

    @torch.no_grad()
    def local(self, x_B4L: Tensor, species_B: Tensor | None = None) -> LocalEncoder | None:
        if self.training:
            return None
        if not self.config.rc_equivariant:
            return self._local_strand(x_B4L)
        x_B4L = F.pad(x_B4L, (0, -x_B4L.shape[2] % BIN_SIZE))
        strands = self._local_strand(x_B4L), self._local_strand(x_B4L.flip(1, 2))
        return LocalStrands(*strands, x_B4L.shape[2])

    def _local_strand(self, x_B4L: Tensor) -> LocalEncoder:
        inside_BL = before_padding(x_B4L)
        shown_B4L, valid_BN, mask_BN = whole_bins(x_B4L, BIN_SIZE)
        masks = _masks(shown_B4L, x_B4L.shape[2], inside_BL, mask_BN)
        stem = LocalStem(
            self.stem.to_base,
            self.stem.near,
            [(halving.conv, halving.activate) for halving in self.stem.levels],
            shown_B4L,
            masks,
        )
        if self.config.block == "gated":
            gated = [block for block in self.blocks if isinstance(block, GatedBlock)]
            blocks = LocalBlocks(gated, self.norm, stem.bins_BND, mask_BN)
            return LocalConvolutions(stem, blocks, BIN_SIZE, valid_BN)
        whole = WholeBlocks(self.blocks, self.norm, stem.bins_BND, mask_BN)
        return LocalConvolutions(stem, whole, BIN_SIZE, valid_BN)

    def base_head(self) -> nn.Module:
        return BaseDecoder(self.dim, BIN_SIZE)

    def _layers(self, x_B4L: Tensor, hidden_BL: Tensor | None = None) -> Iterator[Embedding]:
        if not self.config.rc_equivariant:
            yield from self._strand(x_B4L, hidden_BL)
            return
        # Whole tokens, so that those of both strands lie on the same bases.
        missing = -x_B4L.shape[2] % BIN_SIZE
        x_B4L = F.pad(x_B4L, (0, missing))
        if hidden_BL is not None:
            hidden_BL = F.pad(hidden_BL, (0, missing))
        turned_BL = None if hidden_BL is None else hidden_BL.flip(1)
        # A, C, G, T in reverse order are their complements.
        both = (self._strand(x_B4L, hidden_BL), self._strand(x_B4L.flip(1, 2), turned_BL))
        for along, against in zip(*both, strict=True):
            yield joined_strands(along, against)

    def _strand(self, x_B4L: Tensor, hidden_BL: Tensor | None) -> Iterator[Embedding]:
        if hidden_BL is None:
            hidden_BL = torch.zeros_like(x_B4L[:, 0], dtype=torch.bool)
        # Called, whatever it is: not even whether it is N may be seen.
        shown_B4L = x_B4L.masked_fill(hidden_BL[:, None], ANY_BASE)
        inside_BL = before_padding(shown_B4L)
        shown_B4L, valid_BN, mask_BN = whole_bins(shown_B4L, BIN_SIZE)
        hidden_BL = F.pad(hidden_BL, (0, shown_B4L.shape[2] - hidden_BL.shape[1]))
        masks = _masks(shown_B4L, x_B4L.shape[2], inside_BL, mask_BN)
        x_BND = run(self.stem, shown_B4L, hidden_BL, masks, checkpointing=self.checkpointing)
        yield Embedding(x_BND, BIN_SIZE, valid_BN)
        mask_BN1 = None if mask_BN is None else mask_BN.unsqueeze(2)
        for block in self.blocks:
            x_BND = run(block, x_BND, mask_BN1, checkpointing=self.checkpointing)
            yield Embedding(x_BND, BIN_SIZE, valid_BN)
        yield Embedding(self.norm(x_BND), BIN_SIZE, valid_BN)


class Stem(nn.Module):
    """From bases to tokens: two convolutions of bases, then three that halve the resolution."""

    def __init__(self, stem_dim: int, dim: int) -> None:
        super().__init__()
        self.to_base = Convolution(4, stem_dim, _BASE_WIDTH)
        self.hidden_base = nn.Parameter(0.02 * torch.randn(stem_dim))
        self.near = Convolution(stem_dim, stem_dim, _NEAR_WIDTH)
        widths = [stem_dim, *(min(dim, stem_dim << level) for level in range(1, _HALVINGS)), dim]
        self.halvings = nn.ModuleList(
            Halving(inputs, outputs) for inputs, outputs in pairwise(widths)
        )

    @property
    def levels(self) -> "list[Halving]":
        """The halvings, first to last."""
        return [halving for halving in self.halvings if isinstance(halving, Halving)]

    def forward(
        self, shown_B4L: Tensor, hidden_BL: Tensor, masks_BL1: Sequence[Tensor | None]
    ) -> Tensor:
        """(B, L / 8, D); a mask for each level of resolution, from that of bases on."""
        x_BLD = self.to_base(shown_B4L.transpose(1, 2))
        # In the precision of the weights, so that under autocast the blocks add up in fp32.
        x_BLD = x_BLD.to(self.hidden_base.dtype)
        x_BLD = torch.addcmul(x_BLD, hidden_BL.unsqueeze(2).to(x_BLD.dtype), self.hidden_base)
        x_BLD = _kept(x_BLD, masks_BL1[0])
        x_BLD = _kept(x_BLD + self.near(F.gelu(x_BLD)), masks_BL1[0])
        for halving, mask_BL1 in zip(self.halvings, masks_BL1[1:], strict=True):
            x_BLD = _kept(halving(x_BLD), mask_BL1)
        return x_BLD.to(self.hidden_base.dtype)


class Halving(nn.Module):
    """GELU(RMSNorm(convolution of width 5 and stride 2))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, _NEAR_WIDTH, stride=2, padding=2)
        self.norm = nn.RMSNorm(outputs, eps=EPS)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.activate(halved(x_BLD, self.conv.weight, self.conv.bias))

    def activate(self, y_BLD: Tensor) -> Tensor:
        """What follows the convolution, position by position."""
        # Under autocast too in the precision of the weights, for which alone the norm is fast.
        return F.gelu(self.norm(y_BLD.to(self.norm.weight.dtype)))


def _masks(
    shown_B4L: Tensor, length: int, inside_BL: Tensor | None, mask_BN: Tensor | None
) -> tuple[Tensor | None, ...]:
    """What may be read at each level of the stem, (B or 1, L, 1); None where all may.

    These are the places before the padding of a row, in tokens with a called base: what is left
    of the token that a sequence ends in must look like the zeros beyond the ends.
    """
    whole = shown_B4L.shape[2]
    if inside_BL is None and mask_BN is None and whole == length:
        return (None,) * (_HALVINGS + 1)
    if inside_BL is None:
        inside_BL = shown_B4L.new_ones((1, length), dtype=torch.bool)
    inside_BL = F.pad(inside_BL, (0, whole - length))
    if mask_BN is not None:
        inside_BL = inside_BL & mask_BN.repeat_interleave(BIN_SIZE, dim=1)
    rows = len(inside_BL)
    return tuple(
        inside_BL.view(rows, -1, 1 << level).any(dim=2).unsqueeze(2)
        for level in range(_HALVINGS + 1)
    )


def _kept(x_BLD: Tensor, mask_BL1: Tensor | None) -> Tensor:
    return x_BLD if mask_BL1 is None else x_BLD * mask_BL1.to(x_BLD.dtype)
