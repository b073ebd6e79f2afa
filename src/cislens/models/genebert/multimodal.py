"""GeneBERT: a sequence, and the (motif x region) matrix of what is open around it in a cell type.

After Mo et al. (2021, arXiv 2110.05231); what is known of that model and what was chosen is in
`cislens.models.genebert.card`. Dimensions: B locus, L base pair, R region, T motif, D channel of
the sequence, E of the regions, C of the space that both share.
"""

from collections import Counter
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.bases import base_head
from cislens.models.genebert.columns import without_center_access
from cislens.models.genebert.contract import RegionContext, RegionTokens
from cislens.models.genebert.heads import CrossMatch, PooledMatch, Projection, mlp
from cislens.models.genebert.regions import AnyRegionsConfig, build_region_encoder
from cislens.models.reading import Reading, read
from cislens.models.registry import AnyEncoderConfig, build_encoder
from cislens.recipes.reading import Section


class MultimodalConfig(Section):
    """Both encoders, and what the matrix is made of.

    Attributes:
        encoder: shape of the sequence encoder.
        regions: shape of the encoder of regions.
        motifs: ids of the motifs, the rows of the matrix, in their order.
        width: bp of a region.
        context: regions of a context.
        expression: whether the expression of the motifs' factors is read.
        constants: digest of the constants that the matrix was normalized with.
        match: how a sequence and a context are held against each other: by their two pooled
            vectors ("mlp"), or by letting the regions attend to the sequence ("cross").
        joint_dim: channels of the space that both are projected to.
    """

    encoder: AnyEncoderConfig
    regions: AnyRegionsConfig
    motifs: tuple[str, ...] = Field(min_length=1)
    width: int = Field(gt=0)
    context: int = Field(ge=2)
    expression: bool = False
    constants: str
    match: Literal["mlp", "cross"] = "cross"
    joint_dim: int = Field(256, ge=4, multiple_of=4)

    @model_validator(mode="after")
    def _every_motif_once(self) -> "MultimodalConfig":
        motif, uses = Counter(self.motifs).most_common(1)[0]
        if uses > 1:
            raise ValueError(f"the motif {motif!r} is there {uses} times")
        return self


class MultimodalModel(nn.Module):
    """A sequence encoder, an encoder of regions, and heads for what is asked in training.

    Attributes:
        encoder: like that of any other model once trained.
        regions: encoder of regions.
        no_context: stands for the central region where nothing is known but the sequence.
    """

    # It tells no species apart.
    species: tuple[str, ...] = ()

    def __init__(self, config: MultimodalConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder = build_encoder(config.encoder)
        motifs = len(config.motifs)
        self.regions = build_region_encoder(config.regions, motifs, config.expression)
        dim, region_dim, joint_dim = encoder.dim, self.regions.dim, config.joint_dim
        self.base_head = base_head(encoder)
        self.next_head = mlp(dim, dim, 2)
        self.projection = Projection(dim, region_dim, joint_dim)
        match = CrossMatch if config.match == "cross" else PooledMatch
        self.match_head = match(dim, region_dim, joint_dim)
        self.region_head = nn.Linear(region_dim, motifs + 1)
        self.motif_head = mlp(dim, dim, motifs)
        self.no_context = nn.Parameter(torch.zeros(region_dim))

    def read(self, x_B4L: Tensor, hidden_BL: Tensor | None = None, pair: bool = False) -> Reading:
        """As `cislens.models.reading.read`; no species is told."""
        return read(self.encoder, x_B4L, hidden_BL, pair)

    def base_logits(self, reading: Reading) -> Tensor:
        """Of A, C, G, T at every base, (B, L, 4)."""
        logits: Tensor = self.base_head(reading)
        return logits

    def next_logits(self, reading: Reading) -> Tensor:
        """That the second half of a pair follows the first, and that it does not, (B, 2)."""
        logits: Tensor = self.next_head(reading.pooled_BD)
        return logits

    def project(self, reading: Reading, tokens: RegionTokens) -> tuple[Tensor, Tensor]:
        """Sequences and contexts as unit vectors of one space, both (B, C)."""
        q_BC, m_BC = self.projection(reading, tokens)
        return q_BC, m_BC

    def scale(self) -> tuple[Tensor, Tensor]:
        """Factor > 0 and bias that make logits of the products of projected vectors."""
        return self.projection.log_scale.exp(), self.projection.bias

    def match_logits(self, reading: Reading, tokens: RegionTokens) -> Tensor:
        """That the context belongs to the sequence, (B,)."""
        logits: Tensor = self.match_head(reading, tokens)
        return logits

    def region_values(self, tokens: RegionTokens) -> tuple[Tensor, Tensor]:
        """Motifs (B, R, T) and accessibility (B, R) of regions, hidden ones too; normalized."""
        values = self.region_head(tokens.values_BRE)
        return values[..., :-1], values[..., -1]

    def motif_values(self, reading: Reading) -> Tensor:
        """Motifs of the central region as told by its sequence, (B, T); normalized."""
        values: Tensor = self.motif_head(reading.pooled_BD)
        return values

    def joint(self, x_B4L: Tensor, context: RegionContext | None = None) -> Tensor:
        """What is known of a sequence in a cell type, (B, D + E).

        The pooled sequence, then the vector of the central region. How open that region is in
        the cell type is hidden: it is what such an embedding may be asked for.

        Args:
            x_B4L: one-hot sequences of the central regions.
            context: what is open around them; without it a constant vector takes the place of
                the central region's.
        """
        pooled_BD = self.read(x_B4L).pooled_BD
        if context is None:
            center_BE = self.no_context.expand(len(pooled_BD), -1)
        else:
            center_BE = self.regions(without_center_access(context)).center_BE
        return torch.cat([pooled_BD, center_BE], dim=1)
