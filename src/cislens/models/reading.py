"""Any encoder read with bases hidden from it, and asked for them.

Dimensions: B window, L base pair, J token, N bin, D channel.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from cislens.models.contract import Embedding, Encoder

# What an encoder that knows no hidden bases is shown in their place: called, and any of the four.
ANY_BASE = 0.25


@dataclass(frozen=True)
class Reading:
    """What an encoder makes of sequences.

    Attributes:
        embedding: one vector per base.
        tokens_BJD: the vectors that the head of masked bases reads; one per base or per k-mer.
        pooled_BD: one vector per sequence: [CLS], or the mean over its called bases.
        shown_B4L: what the encoder saw of the bases, for a head that tells them at a finer
            resolution than its bins; nothing of a hidden base is in it.
    """

    embedding: Embedding
    tokens_BJD: Tensor
    pooled_BD: Tensor
    shown_B4L: Tensor | None = None


class ReadingEncoder(Encoder, ABC):
    """An encoder that can be kept from seeing bases, and asked for them."""

    @abstractmethod
    def read(self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False) -> Reading:
        """Read one-hot sequences.

        Args:
            hidden_BL: bases of which nothing may be seen; other than N and than padding.
            pair: the sequence is two segments of L / 2 bp, one after the other.
        """

    @abstractmethod
    def base_head(self) -> nn.Module:
        """A fresh head: `head(reading)` gives logits of A, C, G, T, (B, L, 4)."""


def read(
    encoder: Encoder,
    x_B4L: Tensor,
    hidden_BL: Tensor | None = None,
    pair: bool = False,
    species_B: Tensor | None = None,
) -> Reading:
    """`ReadingEncoder.read`, for any encoder.

    One that is no `ReadingEncoder` is shown a quarter of each base where one is hidden, and knows
    nothing of pairs.

    Args:
        species_B: as `Encoder.forward`.
    """
    if isinstance(encoder, ReadingEncoder):
        return encoder.read(x_B4L, hidden_BL, pair)
    shown_B4L = x_B4L if hidden_BL is None else x_B4L.masked_fill(hidden_BL[:, None], ANY_BASE)
    embedding: Embedding = encoder(shown_B4L, species_B)
    return Reading(embedding, embedding.values_BND, embedding.mean(), shown_B4L)
