"""SPACE as published: the Enformer tower, a species token, and species-gated experts.

Yang, Zhu and Su (ICML 2025, arXiv 2506.01833), after the published code. Dimensions: B window,
L base pair, N bin, M token (the bins and the species token, M = N + 1), D channel,
R relative distance, F position feature.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.contract import UNKNOWN, Embedding
from cislens.models.enformer import EnformerConfig, EnformerEncoder, make_attention
from cislens.nn.gates import SpeciesExperts
from cislens.nn.routing import Routing


class SpacePaperConfig(EnformerConfig):
    """Shape of the published SPACE encoder.

    Attributes:
        species: names, in index order.
        experts, kept: experts per layer, and how many of them each token uses.
        dropout: 0.4 as published.
        positions: both derive the features from the number of tokens. The published weights
            need "feature-axis"; "position" is the correct form of it.
    """

    kind: Literal["space-paper"] = "space-paper"  # type: ignore[assignment]
    species: tuple[str, ...] = Field(min_length=1)
    experts: int = Field(4, gt=1)
    kept: int = Field(3, gt=0)
    dropout: float = Field(0.4, ge=0, lt=1)
    positions: Literal["feature-axis", "position"] = "feature-axis"

    @model_validator(mode="after")
    def _enough_experts(self) -> "SpacePaperConfig":
        if self.kept > self.experts:
            raise ValueError(f"kept {self.kept} is more than the {self.experts} experts")
        if len(set(self.species)) < len(self.species):
            raise ValueError(f"species are named twice: {', '.join(self.species)}")
        return self


class SpacePaperBlock(nn.Module):
    """x + attention(LN x), then x + experts(LN x) gated by the species and x."""

    def __init__(self, config: SpacePaperConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = make_attention(config)
        self.attention_dropout = nn.Dropout(config.dropout)
        self.experts_norm = nn.LayerNorm(dim)
        self.experts = SpeciesExperts(
            dim, len(config.species), config.experts, config.kept, config.dropout
        )

    def forward(
        self,
        x_BMD: Tensor,
        basis_RF: Tensor,
        valid_BM: Tensor,
        mask_BM: Tensor | None,
        species_B: Tensor,
    ) -> tuple[Tensor, Routing]:
        """`mask_BM` is `valid_BM`, or None where all are valid."""
        attended = self.attention(self.attention_norm(x_BMD), basis_RF, mask_BM)
        x_BMD = x_BMD + self.attention_dropout(attended)
        update, routing = self.experts(x_BMD, self.experts_norm(x_BMD), species_B, valid_BM)
        return x_BMD + update, routing


class SpacePaperEncoder(EnformerEncoder):
    """The published trunk, whose blocks see the bins and, after the last bin, a species token.

    The token takes part in attention and routing like a bin; its final state tells the decoder
    about the species. It has a position, and the position features derive from the number of
    tokens: the vectors of a window depend on how far its batch is padded. Windows of an unknown
    species get the mean of all tokens and the mean of all gate logits.

    Where the input has bins of N only, they are masked as in the other encoders; the published
    code computes with them. The published code also crops before the last layer, which shows
    in the batch norm's statistics of training alone.
    """

    config: SpacePaperConfig

    def __init__(self, config: SpacePaperConfig) -> None:
        super().__init__(config.model_copy(update={"depth": 0}))
        self.config = config
        self.species = config.species
        self.species_dim = config.dim
        # One parameter per species, so that one can be frozen or trained alone.
        self.species_tokens = nn.ParameterList(
            nn.Parameter(torch.randn(1, 1, config.dim)) for _ in config.species
        )
        self.blocks = nn.ModuleList(SpacePaperBlock(config) for _ in range(config.depth))

    def from_bins(
        self,
        x_BND: Tensor,
        valid_BN: Tensor,
        mask_BN: Tensor | None,
        species_B: Tensor | None = None,
    ) -> Iterator[Embedding]:
        batch, device = x_BND.shape[0], x_BND.device
        if species_B is None:
            species_B = torch.full((batch,), UNKNOWN, dtype=torch.int64, device=device)
        species_B = species_B.to(device)
        token_BD = self._token(species_B)
        yield Embedding(x_BND, self.bin_size, valid_BN, species_BC=token_BD)
        x_BMD = torch.cat([x_BND, token_BD[:, None].to(x_BND.dtype)], dim=1)
        valid_BM = torch.cat([valid_BN, torch.ones_like(valid_BN[:, :1])], dim=1)
        mask_BM = None if mask_BN is None else valid_BM
        basis_RF = self.basis.table(x_BMD.shape[1], device)
        routings: tuple[Routing, ...] = ()
        for block in self.blocks:
            x_BMD, routing = self.run(block, x_BMD, basis_RF, valid_BM, mask_BM, species_B)
            routings += (routing,)
            yield Embedding(x_BMD[:, :-1], self.bin_size, valid_BN, routings, x_BMD[:, -1])
        out_BND = self.run(self.pointwise, x_BMD[:, :-1])
        yield Embedding(out_BND, self.bin_size, valid_BN, routings, x_BMD[:, -1])

    def add_species(self, name: str) -> None:
        """Append a token and one gate per layer, means of the others, which are not touched."""
        if name in self.species:
            raise CislensError(f"The encoder already has a species {name!r}; choose another name.")
        self.species = (*self.species, name)
        self.config = self.config.model_copy(update={"species": self.species})
        others = torch.stack([token.detach() for token in self.species_tokens])
        self.species_tokens.append(nn.Parameter(others.mean(dim=0)))
        for block in self.blocks:
            assert isinstance(block, SpacePaperBlock)
            block.experts.add_species()

    def _token(self, species_B: Tensor) -> Tensor:
        token_SD = torch.cat(list(self.species_tokens)).squeeze(1)
        known_B1 = (species_B >= 0)[:, None]
        return torch.where(known_B1, token_SD[species_B.clamp_min(0)], token_SD.mean(dim=0))
