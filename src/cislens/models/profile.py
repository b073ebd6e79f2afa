"""A model of measured profiles: an encoder and one linear head per species.

Dimensions: B window, L base pair, N bin, D embedding channel, T track, S species.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.models.contract import UNKNOWN, Embedding, Encoder
from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.space import SpaceConfig, SpaceEncoder
from cislens.recipes.reading import Section, read_section

AnyEncoderConfig = Annotated[EnformerConfig | SpaceConfig, Field(discriminator="kind")]


class ProfileModelConfig(Section):
    """Encoder, tracks and crop of a profile model.

    Attributes:
        encoder: shape of the encoder.
        tracks: ids of the tracks of each species, in head order. The order of the species is
            the order of their indices in `species_B`.
        crop: bins at either end of a window for which nothing is predicted in training.
    """

    encoder: AnyEncoderConfig
    tracks: dict[str, tuple[str, ...]] = Field(min_length=1)
    crop: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "ProfileModelConfig":
        for species, tracks in self.tracks.items():
            if not tracks:
                raise ValueError(f"species {species!r} has no tracks")
        known = getattr(self.encoder, "species", None)
        if known is not None and known != tuple(self.tracks):
            raise ValueError(
                f"the encoder's species ({', '.join(known)}) and those of the tracks "
                f"({', '.join(self.tracks)}) must be the same, in the same order"
            )
        return self


@dataclass(frozen=True)
class ProfileOutput:
    """Prediction for a batch of windows that may be of several species.

    Attributes:
        tracks: per species that occurs, the predicted rates >= 0 of its windows in batch
            order, (B_s, N, T_s), central bins only, fp32.
        embedding: of all windows and all bins; holds the routing of the experts.
    """

    tracks: dict[str, Tensor]
    embedding: Embedding


class ProfileModel(nn.Module):
    """DNA -> measured tracks."""

    def __init__(self, config: ProfileModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _build_encoder(config.encoder)
        heads = {name: nn.Linear(self.encoder.dim, len(ids)) for name, ids in config.tracks.items()}
        # Not ModuleDict keys by species name: a name may hold characters that a key must not.
        self.heads = nn.ModuleList(heads.values())

    @property
    def species(self) -> tuple[str, ...]:
        """Species in the order of their indices."""
        return tuple(self.config.tracks)

    def forward(self, x_B4L: Tensor, species: str | None = None, crop: bool = False) -> Tensor:
        """Predicted rates of one species' tracks, (B, T, N), differentiable in x.

        Args:
            x_B4L: one-hot A, C, G, T; N is all zeros; any L > 0.
            species: whose tracks; may be left out when the model has one species only.
            crop: only the central bins, as in training.

        Raises:
            CislensError: if the species is unknown, or not named where there are several.
        """
        index = self._species_index(species)
        species_B = torch.full((x_B4L.shape[0],), index, dtype=torch.int64, device=x_B4L.device)
        embedding: Embedding = self.encoder(x_B4L, species_B)
        y_BND = self._central(embedding.values_BND) if crop else embedding.values_BND
        return self._rate(index, y_BND).transpose(1, 2)

    def predict(
        self, x_B4L: Tensor, species_B: Tensor, windows: Mapping[str, int] | None = None
    ) -> ProfileOutput:
        """Rates of the central bins, each window's by the head of its species.

        Args:
            species_B: index into `species`; windows of an unknown species (-1) get an
                embedding and no tracks.
            windows: number of windows of each species, if the caller knows it; saves one read
                from the device.
        """
        counts = self._windows(species_B) if windows is None else windows
        embedding: Embedding = self.encoder(x_B4L, species_B)
        known = [counts.get(name, 0) for name in self.species]
        unknown = x_B4L.shape[0] - sum(known)
        # A stable sort keeps the windows of one species in batch order.
        order = species_B.to(x_B4L.device).argsort(stable=True)
        y_BND = self._central(embedding.values_BND)[order]
        _, *groups = torch.split_with_sizes(y_BND, [unknown, *known])
        tracks = {
            name: self._rate(index, group)
            for index, (name, group) in enumerate(zip(self.species, groups, strict=True))
            if group.shape[0]
        }
        return ProfileOutput(tracks, embedding)

    def view(self, species: str) -> "SpeciesView":
        """The model of one species as a plain module, `view(X)`: for attribution tools."""
        self._species_index(species)
        return SpeciesView(self, species)

    def add_species(self, name: str, tracks: tuple[str, ...]) -> None:
        """Append a species: a head, and a code if the encoder has codes. Nothing else changes."""
        if name in self.species:
            raise CislensError(f"The model already has a species {name!r}; choose another name.")
        encoder = self.config.encoder
        if isinstance(self.encoder, SpaceEncoder):
            self.encoder.add_species(name)
            encoder = self.encoder.config
        data = {"encoder": encoder, "tracks": {**self.config.tracks, name: tracks}}
        self.config = ProfileModelConfig.model_validate({**data, "crop": self.config.crop})
        head = nn.Linear(self.encoder.dim, len(tracks))
        self.heads.append(head.to(next(self.parameters()).device))

    def _rate(self, index: int, y_BND: Tensor) -> Tensor:
        logits: Tensor = self.heads[index](y_BND)
        return F.softplus(logits.to(torch.promote_types(logits.dtype, torch.float32)))

    def _central(self, x_BND: Tensor) -> Tensor:
        crop, bins = self.config.crop, x_BND.shape[1]
        if bins <= 2 * crop:
            raise CislensError(
                f"The input has {bins} bins of {self.encoder.bin_size} bp and the model crops "
                f"{crop} on either side: nothing is left. Give longer windows."
            )
        return x_BND[:, crop : bins - crop]

    def _species_index(self, species: str | None) -> int:
        if species is None and len(self.species) == 1:
            return 0
        if species is None:
            raise CislensError(
                f"The model has several species ({', '.join(self.species)}); name one: "
                f"model(X, species={self.species[0]!r}), or model.view({self.species[0]!r})(X)."
            )
        if species not in self.species:
            raise CislensError(
                f"The model has no species {species!r}. {nearest(species, self.species)}"
            )
        return self.species.index(species)

    def _windows(self, species_B: Tensor) -> dict[str, int]:
        counts = torch.bincount(species_B - UNKNOWN, minlength=len(self.species) + 1).tolist()
        if len(counts) > len(self.species) + 1:
            raise CislensError(
                f"species_B holds {len(counts) - 2}, but the model has {len(self.species)} species."
            )
        return dict(zip(self.species, counts[1:], strict=True))


class SpeciesView(nn.Module):
    """One species of a profile model: `view(X)` with X (B, 4, L) gives rates (B, T, N)."""

    def __init__(self, model: ProfileModel, species: str) -> None:
        super().__init__()
        self.model = model
        self.species = species

    def forward(self, x_B4L: Tensor) -> Tensor:
        rates: Tensor = self.model(x_B4L, self.species)
        return rates


def build_model(config: ProfileModelConfig | Mapping[str, Any]) -> ProfileModel:
    """A model with fresh weights, drawn from torch's global generator.

    Raises:
        CislensError: if `config` is a mapping with an unknown, missing or wrong key.
    """
    if not isinstance(config, ProfileModelConfig):
        config = read_section(dict(config), ProfileModelConfig, "model configuration")
    return ProfileModel(config)


def _build_encoder(config: EnformerConfig | SpaceConfig) -> Encoder:
    if isinstance(config, SpaceConfig):
        return SpaceEncoder(config)
    return EnformerEncoder(config)
