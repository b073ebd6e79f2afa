"""Which class belongs to which configuration of an encoder or decoder."""

from typing import Annotated, Any

from pydantic import Field

from cislens.models.basenji import BasenjiConfig, BasenjiEncoder
from cislens.models.contract import Encoder
from cislens.models.decoders.contract import Decoder, HeadConfig
from cislens.models.decoders.paper import PaperDecoder, PaperDecoderConfig
from cislens.models.decoders.profiles import ProfilesDecoder, ProfilesDecoderConfig
from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.findna.paper import FindnaPaperConfig, FindnaPaperEncoder
from cislens.models.findna.plus import FindnaPlusConfig, FindnaPlusEncoder
from cislens.models.genebert.paper import GenebertPaperConfig, GenebertPaperEncoder
from cislens.models.genebert.plus import GenebertPlusConfig, GenebertPlusEncoder
from cislens.models.space_paper import SpacePaperConfig, SpacePaperEncoder
from cislens.models.space_plus import SpacePlusConfig, SpacePlusEncoder

AnyEncoderConfig = Annotated[
    EnformerConfig
    | SpacePlusConfig
    | SpacePaperConfig
    | BasenjiConfig
    | GenebertPlusConfig
    | GenebertPaperConfig
    | FindnaPlusConfig
    | FindnaPaperConfig,
    Field(discriminator="kind"),
]
AnyDecoderConfig = Annotated[
    ProfilesDecoderConfig | PaperDecoderConfig, Field(discriminator="kind")
]

_ENCODERS: dict[type, Any] = {
    EnformerConfig: EnformerEncoder,
    SpacePlusConfig: SpacePlusEncoder,
    SpacePaperConfig: SpacePaperEncoder,
    BasenjiConfig: BasenjiEncoder,
    GenebertPlusConfig: GenebertPlusEncoder,
    GenebertPaperConfig: GenebertPaperEncoder,
    FindnaPlusConfig: FindnaPlusEncoder,
    FindnaPaperConfig: FindnaPaperEncoder,
}
_DECODERS: dict[type, Any] = {
    ProfilesDecoderConfig: ProfilesDecoder,
    PaperDecoderConfig: PaperDecoder,
}


def build_encoder(config: AnyEncoderConfig) -> Encoder:
    """A fresh encoder."""
    encoder: Encoder = _ENCODERS[type(config)](config)
    return encoder


def build_decoder(
    config: AnyDecoderConfig, heads: tuple[HeadConfig, ...], dim: int, species_dim: int
) -> Decoder:
    """A fresh decoder for these heads.

    Args:
        dim: channels of the embedding.
        species_dim: channels of what the encoder knows of a species.

    Raises:
        CislensError: if the decoder is not made for such heads.
    """
    decoder: Decoder = _DECODERS[type(config)](config, heads, dim, species_dim)
    return decoder
