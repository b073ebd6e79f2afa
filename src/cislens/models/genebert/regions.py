"""Which class belongs to which configuration of an encoder of regions."""

from typing import Annotated, Any

from pydantic import Field

from cislens.models.genebert.contract import RegionEncoder
from cislens.models.genebert.mean import MeanConfig, MeanEncoder
from cislens.models.genebert.swin import SwinConfig, SwinEncoder
from cislens.models.genebert.tokens import RegionTokensConfig, RegionTokensEncoder

AnyRegionsConfig = Annotated[
    RegionTokensConfig | SwinConfig | MeanConfig, Field(discriminator="kind")
]

_ENCODERS: dict[type, Any] = {
    RegionTokensConfig: RegionTokensEncoder,
    SwinConfig: SwinEncoder,
    MeanConfig: MeanEncoder,
}


def build_region_encoder(config: AnyRegionsConfig, motifs: int, expression: bool) -> RegionEncoder:
    """A fresh encoder.

    Args:
        motifs: rows of the matrix.
        expression: whether it reads the expression of the motifs' factors.

    Raises:
        CislensError: if it needs a package that is not installed.
    """
    encoder: RegionEncoder = _ENCODERS[type(config)](config, motifs, expression)
    return encoder
