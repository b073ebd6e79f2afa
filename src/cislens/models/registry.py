"""Which class belongs to which configuration of an encoder or decoder."""

from typing import Annotated

from pydantic import Field

from cislens.models.contract import Encoder
from cislens.models.decoders.contract import Decoder, HeadConfig
from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.space_plus import SpacePlusConfig, SpacePlusEncoder
from cislens.recipes.reading import Section

AnyEncoderConfig = Annotated[EnformerConfig | SpacePlusConfig, Field(discriminator="kind")]
AnyDecoderConfig = Section


def build_encoder(config: AnyEncoderConfig) -> Encoder:
    """A fresh encoder."""
    if isinstance(config, SpacePlusConfig):
        return SpacePlusEncoder(config)
    return EnformerEncoder(config)


def build_decoder(
    config: AnyDecoderConfig, heads: tuple[HeadConfig, ...], dim: int, species_dim: int
) -> Decoder:
    """A fresh decoder for these heads.

    Args:
        dim: channels of the embedding.
        species_dim: channels of what the encoder knows of a species.
    """
    raise AssertionError(f"no decoder {config}")
