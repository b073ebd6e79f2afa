"""SPACE on the Enformer trunk: species conditioning and mixtures of experts.

After Yang, Zhu and Su (ICML 2025, arXiv 2506.01833), with the species entering without a
position and a load loss that balances. Dimensions: B window, N bin, D channel, S species,
C code channel, R relative distance, F position feature.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.contract import UNKNOWN, Embedding
from cislens.models.enformer import EnformerConfig, EnformerEncoder, make_attention, make_mlp
from cislens.nn.experts import Experts
from cislens.nn.routing import Routing


class SpacePlusConfig(EnformerConfig):
    """Shape of the encoder of SPACE-plus.

    Attributes:
        species: names, in index order.
        ffn: "experts", or "dense" for the control with as many multiplications.
        experts, kept: routed experts per layer, and how many of them each bin uses.
        code_dim: channels of a species code.
        species_dropout: share of training windows whose species is hidden, which trains the
            path of an unknown species.
    """

    kind: Literal["space-plus"] = "space-plus"  # type: ignore[assignment]
    species: tuple[str, ...] = Field(min_length=1)
    ffn: Literal["experts", "dense"] = "experts"
    experts: int = Field(8, gt=1)
    kept: int = Field(2, gt=0)
    code_dim: int = Field(64, gt=0)
    species_dropout: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _enough_experts(self) -> "SpacePlusConfig":
        if self.kept > self.experts:
            raise ValueError(f"kept {self.kept} is more than the {self.experts} experts")
        if len(set(self.species)) < len(self.species):
            raise ValueError(f"species are named twice: {', '.join(self.species)}")
        return self


class ConditionedNorm(nn.Module):
    """(1 + gamma_s) LN(x) + beta_s with [gamma, beta] = W e_s, W zero at the start."""

    def __init__(self, dim: int, code_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.modulation = nn.Linear(code_dim, 2 * dim, bias=False)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x_BND: Tensor, code_BC: Tensor) -> Tensor:
        gamma_BD, beta_BD = self.modulation(code_BC).chunk(2, dim=-1)
        normed: Tensor = self.norm(x_BND)
        conditioned: Tensor = (1 + gamma_BD[:, None]) * normed + beta_BD[:, None]
        return conditioned


class SpacePlusBlock(nn.Module):
    """A transformer block that knows the species; its feed-forward layer may be experts."""

    def __init__(self, config: SpacePlusConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention_norm = ConditionedNorm(dim, config.code_dim)
        self.attention = make_attention(config)
        self.attention_dropout = nn.Dropout(config.dropout)
        self.ffn_norm = ConditionedNorm(dim, config.code_dim)
        self.ffn: nn.Module
        if config.ffn == "experts":
            self.ffn = Experts(dim, config.experts, config.kept, config.code_dim, config.dropout)
        else:
            self.ffn = make_mlp(dim, config.dropout)

    def forward(
        self,
        x_BND: Tensor,
        basis_RF: Tensor,
        valid_BN: Tensor,
        mask_BN: Tensor | None,
        code_BC: Tensor,
        species_B: Tensor,
    ) -> tuple[Tensor, Routing | None]:
        """`mask_BN` is `valid_BN`, or None where all are valid."""
        attended = self.attention(self.attention_norm(x_BND, code_BC), basis_RF, mask_BN)
        x_BND = x_BND + self.attention_dropout(attended)
        z_BND = self.ffn_norm(x_BND, code_BC)
        if isinstance(self.ffn, Experts):
            update, routing = self.ffn(z_BND, code_BC, species_B, valid_BN)
            return x_BND + update, routing
        return x_BND + self.ffn(z_BND), None


class SpacePlusEncoder(EnformerEncoder):
    """The Enformer tower with species-conditioned expert blocks."""

    config: SpacePlusConfig

    def __init__(self, config: SpacePlusConfig) -> None:
        super().__init__(config.model_copy(update={"depth": 0}))
        self.config = config
        self.species = config.species
        self.species_dim = config.code_dim
        # One parameter per species, so that a new one can be trained alone.
        self.codes = nn.ParameterList(0.02 * torch.randn(config.code_dim) for _ in config.species)
        self.blocks = nn.ModuleList(SpacePlusBlock(config) for _ in range(config.depth))

    def from_bins(
        self,
        x_BND: Tensor,
        valid_BN: Tensor,
        mask_BN: Tensor | None,
        species_B: Tensor | None = None,
    ) -> Iterator[Embedding]:
        species_B = self._shown_species(species_B, x_BND)
        code_BC = self._code(species_B)
        yield Embedding(x_BND, self.bin_size, valid_BN, species_BC=code_BC)
        basis_RF = self.basis.table(x_BND.shape[1], x_BND.device)
        routings: tuple[Routing, ...] = ()
        for block in self.blocks:
            x_BND, routing = self.run(block, x_BND, basis_RF, valid_BN, mask_BN, code_BC, species_B)
            routings += (routing,) if routing is not None else ()
            yield Embedding(x_BND, self.bin_size, valid_BN, routings, code_BC)
        out_BND = self.run(self.pointwise, x_BND)
        yield Embedding(out_BND, self.bin_size, valid_BN, routings, code_BC)

    def _shown_species(self, species_B: Tensor | None, x_BND: Tensor) -> Tensor:
        """The species that the blocks see: some are hidden in training."""
        batch, device = x_BND.shape[0], x_BND.device
        if species_B is None:
            return torch.full((batch,), UNKNOWN, dtype=torch.int64, device=device)
        species_B = species_B.to(device)
        if not self.training or self.config.species_dropout == 0:
            return species_B
        hidden_B = torch.rand(batch, device=device) < self.config.species_dropout
        return species_B.masked_fill(hidden_B, UNKNOWN)

    def _code(self, species_B: Tensor) -> Tensor:
        known_B1 = (species_B >= 0)[:, None]
        code_BC = torch.stack(list(self.codes))[species_B.clamp_min(0)]
        return code_BC * known_B1.to(code_BC.dtype)

    def add_species(self, name: str) -> None:
        """Append a species; its code is the mean of the others, which are not touched."""
        if name in self.species:
            raise CislensError(f"The encoder already has a species {name!r}; choose another name.")
        self.species = (*self.species, name)
        self.config = self.config.model_copy(update={"species": self.species})
        self.codes.append(torch.stack([code.detach() for code in self.codes]).mean(dim=0))
