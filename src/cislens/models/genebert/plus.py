"""The sequence half of GeneBERT-plus: a transformer at the resolution of bases.

A convolution reads 15 bp around each base; pre-norm blocks with rotary positions follow. N, also
as padding, is read by nobody; a hidden base is a place that everybody reads and nobody knows.
Dimensions: B window, L base pair, D channel, P pair of key channels.
"""

from collections import deque
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.contract import Embedding, whole_bins
from cislens.models.reading import Reading, ReadingEncoder
from cislens.nn.checkpointing import run
from cislens.nn.convolution import Convolution
from cislens.nn.rotary import Rotary
from cislens.nn.transformer import PreNormBlock, readable
from cislens.recipes.reading import Section

STEM_WIDTH = 15


class GenebertPlusConfig(Section):
    """Shape of the base-resolution encoder.

    Attributes:
        dim: channels.
        depth: transformer blocks.
        heads: attention heads; each has an even number of channels, dim / heads.
    """

    kind: Literal["genebert-plus"] = "genebert-plus"
    dim: int = Field(gt=0)
    depth: int = Field(ge=0)
    heads: int = Field(gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> "GenebertPlusConfig":
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"dim {self.dim} does not divide into {self.heads} heads of an even number of "
                "channels"
            )
        return self


class GenebertPlusEncoder(ReadingEncoder):
    """Stem, blocks and a last norm; the same for every species, for any length.

    Attributes:
        checkpointing: set it to True before training to keep only the inputs of the blocks and
            to compute the rest again for the gradient.
    """

    checkpointing: bool = False

    def __init__(self, config: GenebertPlusConfig) -> None:
        super().__init__()
        self.config = config
        self.bin_size = 1
        self.dim = config.dim
        self.species = ()
        self.stem = Convolution(4, config.dim, STEM_WIDTH)
        self.hidden_base = nn.Parameter(0.02 * torch.randn(config.dim))
        self.segments = nn.Parameter(0.02 * torch.randn(2, config.dim))
        self.blocks = nn.ModuleList(
            PreNormBlock(config.dim, config.heads) for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.rotary = Rotary(config.dim // config.heads)

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        return deque(self._layers(x_B4L), maxlen=1).pop()

    @property
    def layers(self) -> tuple[str, ...]:
        """`embed` (stem), `L1` .. `L<depth>` (blocks) and `out` (norm), all of width D."""
        return ("embed", *(f"L{block}" for block in range(1, len(self.blocks) + 1)), "out")

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        return self._layers(x_B4L)

    def read(self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False) -> Reading:
        embedding = deque(self._layers(x_B4L, hidden_BL, pair), maxlen=1).pop()
        return Reading(embedding, embedding.values_BND, embedding.mean())

    def base_head(self) -> nn.Module:
        return BaseHead(self.dim)

    def _layers(
        self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False
    ) -> Iterator[Embedding]:
        x_BLD, valid_BL, mask_BL = self._embed(x_B4L, hidden_BL, pair)
        yield Embedding(x_BLD, 1, valid_BL)
        table_2LP = self.rotary.table(x_BLD.shape[1], x_BLD.device)
        for block in self.blocks:
            x_BLD = run(block, x_BLD, mask_BL, table_2LP, checkpointing=self.checkpointing)
            yield Embedding(x_BLD, 1, valid_BL)
        yield Embedding(self.norm(x_BLD), 1, valid_BL)

    def _embed(
        self, x_B4L: Tensor, hidden_BL: Tensor | None, pair: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the blocks read, which bases are valid, and the same as a mask if one is needed."""
        if hidden_BL is None:
            hidden_BL = torch.zeros_like(x_B4L[:, 0], dtype=torch.bool)
        # Called, whatever it is: not even whether it is N may be seen.
        _, valid_BL, mask_BL = whole_bins(x_B4L.masked_fill(hidden_BL[:, None], 1.0), 1)
        x_BLD = self.stem(x_B4L.masked_fill(hidden_BL[:, None], 0.0).transpose(1, 2))
        # In the precision of the weights, so that under autocast the blocks add up in fp32.
        x_BLD = x_BLD.to(self.hidden_base.dtype)
        hidden_BL1 = hidden_BL.unsqueeze(2).to(x_BLD.dtype)
        place_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        segment_L = (place_L >= len(place_L) // 2 if pair else place_L < 0).to(torch.int64)
        x_BLD = torch.addcmul(x_BLD, hidden_BL1, self.hidden_base) + self.segments[segment_L]
        return x_BLD, valid_BL, readable(mask_BL)


class BaseHead(nn.Module):
    """Logits of A, C, G, T of every base from its vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_base = nn.Linear(dim, 4)

    def forward(self, reading: Reading) -> Tensor:
        """(B, L, 4)."""
        logits_BL4: Tensor = self.to_base(reading.tokens_BJD)
        return logits_BL4
