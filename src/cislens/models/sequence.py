"""A model of sequences alone: an encoder, and a head that tells hidden bases.

Dimensions: B window, L base pair.
"""

from torch import Tensor, nn

from cislens.models.bases import base_head
from cislens.models.reading import Reading, read
from cislens.models.registry import AnyEncoderConfig, build_encoder
from cislens.recipes.reading import Section


class SequenceModelConfig(Section):
    """Shape of a model of sequences.

    Attributes:
        encoder: shape of the encoder, of any kind.
    """

    encoder: AnyEncoderConfig


class SequenceModel(nn.Module):
    """Any encoder, and which base stands at each place.

    Attributes:
        encoder: like that of any other model once trained.
        base_head: gives logits of the four bases for what the encoder has read.
    """

    def __init__(self, config: SequenceModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder)
        self.base_head = base_head(self.encoder)

    @property
    def species(self) -> tuple[str, ...]:
        """Species that the encoder tells apart, in the order of their indices."""
        return self.encoder.species

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Tensor:
        """Logits of A, C, G, T at every base of one-hot windows, none of it hidden, (B, L, 4)."""
        return self.base_logits(self.read(x_B4L, species_B=species_B))

    def read(
        self,
        x_B4L: Tensor,
        hidden_BL: Tensor | None = None,
        species_B: Tensor | None = None,
    ) -> Reading:
        """What the encoder makes of one-hot windows.

        Args:
            hidden_BL: bases of which nothing may be seen; other than N and than padding.
            species_B: index into `species` per window; -1, or None for all, means unknown.
        """
        return read(self.encoder, x_B4L, hidden_BL, species_B=species_B)

    def base_logits(self, reading: Reading) -> Tensor:
        """Of A, C, G, T at every base, (B, L, 4)."""
        logits_BL4: Tensor = self.base_head(reading)
        return logits_BL4
