"""The backbone of FinDNA as published: ChordMixer at the resolution of bases.

Yu et al., Neural Networks 183 (2025) 106978. No positions and no norm; a base learns of the bases
to its right directly, and of those to its left round a ring. The ring is the window's own bases up
to the last that is called, and a learned slot after them, [CLS]. What follows is padding.
Dimensions: B window, L base pair, T slot (the [CLS] of the ring, then its bases), D channel.
"""

from collections import deque
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.contract import Embedding
from cislens.models.reading import Reading, ReadingEncoder
from cislens.nn.checkpointing import run
from cislens.nn.chord import ChordLayer, ChordOffsets, Ring
from cislens.recipes.reading import Section


class FindnaPaperConfig(Section):
    """Shape of the ChordMixer. Published: 308, 512, 28, 4.

    Attributes:
        dim: channels.
        hidden_dim: channels within a layer.
        group: channels that move together; the first group stays, the others move by 1, 2, 4, ...
        blocks: of as many layers as there are groups that move.
    """

    kind: Literal["findna-paper"] = "findna-paper"
    dim: int = Field(gt=0)
    hidden_dim: int = Field(gt=0)
    group: int = Field(gt=0)
    blocks: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "FindnaPaperConfig":
        if self.dim % self.group or self.dim < 2 * self.group:
            raise ValueError(f"dim {self.dim} is no two or more groups of {self.group} channels")
        return self


class FindnaPaperEncoder(ReadingEncoder):
    """ChordMixer; the same for every species, for any length. It knows nothing of pairs.

    The vector of a window is that of its [CLS]. An N between called bases is a letter of its own:
    its bin is not valid, but the others know that it is there.

    Attributes:
        checkpointing: set it to True before training to keep only the inputs of the layers and
            to compute the rest again for the gradient.
    """

    checkpointing: bool = False
    summarizes = True

    def __init__(self, config: FindnaPaperConfig) -> None:
        super().__init__()
        self.config = config
        self.bin_size = 1
        self.dim = config.dim
        self.species = ()
        groups = config.dim // config.group
        self.letters = nn.Linear(5, config.dim)
        self.hidden_base = nn.Parameter(0.02 * torch.randn(config.dim))
        self.cls = nn.Parameter(0.02 * torch.randn(config.dim))
        self.offsets = ChordOffsets(groups)
        self.blocks = nn.ModuleList(
            ChordLayer(config.dim, config.hidden_dim) for _ in range(config.blocks * (groups - 1))
        )

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        return deque(self._layers(x_B4L), maxlen=1).pop()

    @property
    def layers(self) -> tuple[str, ...]:
        """`embed`, `L1` .. and `out`, the last layer; no norm follows it."""
        return ("embed", *(f"L{layer}" for layer in range(1, len(self.blocks))), "out")

    def hidden(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Iterator[Embedding]:
        return self._layers(x_B4L)

    def read(self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False) -> Reading:
        embedding = deque(self._layers(x_B4L, hidden_BL), maxlen=1).pop()
        assert embedding.summary_BD is not None
        return Reading(embedding, embedding.values_BND, embedding.summary_BD)

    def base_head(self) -> nn.Module:
        return BaseHead(self.dim)

    def _layers(self, x_B4L: Tensor, hidden_BL: Tensor | None = None) -> Iterator[Embedding]:
        if hidden_BL is None:
            hidden_BL = torch.zeros_like(x_B4L[:, 0], dtype=torch.bool)
        # Called, whatever it is: not even whether it is N may be seen.
        called_BL = x_B4L.detach().ne(0).any(dim=1) | hidden_BL
        # The place of the last called base; 0 for a window without any.
        place_L = torch.arange(1, called_BL.shape[1] + 1, device=x_B4L.device)
        extent_B = (called_BL * place_L).amax(dim=1)
        ring = self._ring(extent_B, called_BL.shape[1])
        x_BTD = self._embed(x_B4L, hidden_BL, called_BL)[:, : ring.size]
        padding_BL1 = (place_L > extent_B[:, None]).unsqueeze(2)
        yield _embedding(x_BTD, called_BL, padding_BL1)
        for layer in self.blocks:
            x_BTD = run(layer, x_BTD, ring, checkpointing=self.checkpointing)
            yield _embedding(x_BTD, called_BL, padding_BL1)

    def _ring(self, extent_B: Tensor, length: int) -> Ring:
        """The rings of the windows; cut to the longest, and of one length, where a look is free."""
        if extent_B.device.type != "cpu" or torch.compiler.is_compiling():
            return Ring(self.offsets.groups, length + 1, extent_B + 1)
        shortest, longest = torch.stack(torch.aminmax(extent_B)).tolist()
        used_B = None if shortest == longest else extent_B + 1
        return Ring(self.offsets.groups, longest + 1, used_B)

    def _embed(self, x_B4L: Tensor, hidden_BL: Tensor, called_BL: Tensor) -> Tensor:
        """(B, 1 + L, D): what the layers read. On a ring the slot after the last is the first."""
        x_B5L = torch.cat([x_B4L, ~called_BL.unsqueeze(1)], dim=1)
        x_BLD = self.letters(x_B5L.masked_fill(hidden_BL[:, None], 0.0).transpose(1, 2))
        # In the precision of the weights, so that under autocast the layers add up in fp32.
        x_BLD = x_BLD.to(self.cls.dtype)
        x_BLD = torch.addcmul(x_BLD, hidden_BL.unsqueeze(2).to(x_BLD.dtype), self.hidden_base)
        return torch.cat([self.cls.expand(len(x_BLD), 1, -1), x_BLD], dim=1)


def _embedding(x_BTD: Tensor, called_BL: Tensor, padding_BL1: Tensor) -> Embedding:
    """Vectors of bases, zero in the padding, and of [CLS]."""
    missing = called_BL.shape[1] + 1 - x_BTD.shape[1]
    values_BLD = F.pad(x_BTD[:, 1:], (0, 0, 0, missing)).masked_fill(padding_BL1, 0.0)
    return Embedding(values_BLD, 1, called_BL, summary_BD=x_BTD[:, 0])


class BaseHead(nn.Module):
    """Logits of A, C, G, T of every base from its vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_base = nn.Linear(dim, 4)

    def forward(self, reading: Reading) -> Tensor:
        """(B, L, 4)."""
        logits_BL4: Tensor = self.to_base(reading.tokens_BJD)
        return logits_BL4
