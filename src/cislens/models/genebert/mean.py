"""The floor for encoders of regions: their mean, then two layers.

Dimensions: B locus, R region, T motif, E channel.
"""

from typing import Literal

from pydantic import Field
from torch import nn

from cislens.models.genebert.columns import RegionColumns
from cislens.models.genebert.contract import RegionContext, RegionEncoder, RegionTokens
from cislens.recipes.reading import Section


class MeanConfig(Section):
    """Shape of the floor; `dim` channels."""

    kind: Literal["mean"] = "mean"
    dim: int = Field(ge=1)


class MeanEncoder(RegionEncoder):
    """MLP(mean over regions): every region of a context, the central one too, gets that vector."""

    def __init__(self, config: MeanConfig, motifs: int, expression: bool) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.columns = RegionColumns(motifs, config.dim, expression)
        self.mlp = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, 4 * config.dim),
            nn.GELU(),
            nn.Linear(4 * config.dim, config.dim),
        )

    def forward(self, context: RegionContext) -> RegionTokens:
        x_BRE = self.columns(context)
        regions_B1 = (~context.pad_BR).sum(dim=1, keepdim=True).clamp_min(1)
        pooled_BE = self.mlp(x_BRE.sum(dim=1) / regions_B1)
        values_BRE = pooled_BE.unsqueeze(1).expand_as(x_BRE)
        return RegionTokens(values_BRE, context.pad_BR, pooled_BE, pooled_BE)
