"""A model of measured profiles: an encoder, linear heads, and for some a decoder.

Dimensions: B window, L base pair, N bin, D embedding channel, T track, S species, C species
channel.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.models.contract import UNKNOWN, Embedding
from cislens.models.decoders.contract import Decoded, HeadConfig
from cislens.models.limits import require_room
from cislens.models.registry import AnyDecoderConfig, AnyEncoderConfig, build_decoder, build_encoder
from cislens.nn.precision import full_precision
from cislens.nn.routing import Routing
from cislens.recipes.reading import Section, read_section


class ProfileModelConfig(Section):
    """Encoder, heads and crop of a profile model.

    Attributes:
        encoder: shape of the encoder.
        heads: tracks that are predicted together. The order in which species first occur is the
            order of their indices in `species_B`; a species' tracks are those of its heads.
        crop: bins at either end of a window for which nothing is predicted in training.
        decoder: what refines the heads' logits; the linear heads alone predict without one.
    """

    encoder: AnyEncoderConfig
    heads: tuple[HeadConfig, ...] = Field(min_length=1)
    crop: int = Field(0, ge=0)
    decoder: AnyDecoderConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ProfileModelConfig":
        for species, tracks in self.tracks.items():
            track, uses = Counter(tracks).most_common(1)[0]
            if uses > 1:
                raise ValueError(f"species {species!r} has two tracks {track!r}")
        known = getattr(self.encoder, "species", None)
        if known is not None and known != self.species:
            raise ValueError(
                f"the encoder's species ({', '.join(known)}) and those of the heads "
                f"({', '.join(self.species)}) must be the same, in the same order"
            )
        return self

    @property
    def species(self) -> tuple[str, ...]:
        """Species in the order of their indices."""
        return tuple(dict.fromkeys(head.species for head in self.heads))

    @property
    def tracks(self) -> dict[str, tuple[str, ...]]:
        """Ids of every species' tracks, in the order of the predicted rates."""
        return self._joined("tracks")

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The assay group of each of these tracks."""
        return self._joined("track_groups")

    def _joined(self, what: str) -> dict[str, tuple[str, ...]]:
        return {
            species: sum((getattr(h, what) for h in self.heads if h.species == species), ())
            for species in self.species
        }


@dataclass(frozen=True)
class ProfileOutput:
    """Prediction for a batch of windows that may be of several species.

    Attributes:
        tracks: per species that occurs, the predicted rates >= 0 of its windows in batch
            order, (B_s, N, T_s), central bins only, fp32.
        auxiliary: as `tracks`, the rates of the second term of a decoder's loss; empty without
            a decoder.
        embedding: of all windows and all bins; holds the routing of the experts.
        decoder_routing: of every head that was used, one after the other.
    """

    tracks: dict[str, Tensor]
    embedding: Embedding
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    decoder_routing: tuple[Routing, ...] = ()


class ProfileModel(nn.Module):
    """DNA -> measured tracks."""

    def __init__(self, config: ProfileModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder)
        self.heads = nn.ModuleList(
            nn.Linear(self.encoder.dim, len(head.tracks)) for head in config.heads
        )
        self.decoder = (
            None
            if config.decoder is None
            else build_decoder(
                config.decoder, config.heads, self.encoder.dim, self.encoder.species_dim
            )
        )

    @property
    def species(self) -> tuple[str, ...]:
        """Species in the order of their indices."""
        return self.config.species

    @property
    def loss_weights(self) -> tuple[float, float]:
        """Of the Poisson terms of the prediction and of the auxiliary rates."""
        return (1.0, 0.0) if self.decoder is None else self.decoder.loss_weights

    def forward(self, x_B4L: Tensor, species: str | None = None, crop: bool = False) -> Tensor:
        """Predicted rates of one species' tracks, (B, T, N), differentiable in x.

        Args:
            x_B4L: one-hot A, C, G, T; N is all zeros; any L > 0.
            species: whose tracks; may be left out when the model has one species only.
            crop: only the central bins, as in training; always so with a decoder that is made
                for a number of bins.

        Raises:
            CislensError: if the species is unknown, or not named where there are several.
        """
        embedding: Embedding = self.encoder(x_B4L, self.species_indices(x_B4L, species))
        return self.rates_of(embedding, species, crop)

    def species_indices(self, x_B4L: Tensor, species: str | None = None) -> Tensor:
        """`species_B` of windows that are all of one species; errors as those of `forward`."""
        index = self._species_index(species)
        return torch.full((x_B4L.shape[0],), index, dtype=torch.int64, device=x_B4L.device)

    def rates_of(
        self, embedding: Embedding, species: str | None = None, crop: bool = False
    ) -> Tensor:
        """Predicted rates (B, T, N) of windows that the encoder has embedded, as `forward`."""
        index = self._species_index(species)
        crop = crop or (self.decoder is not None and self.decoder.bins is not None)
        decoded = self._decode(index, _Bins.of(embedding, self.config.crop if crop else 0))
        return torch.cat([_rate(part.logits_BNT) for part in decoded], dim=2).transpose(1, 2)

    def predict(
        self,
        x_B4L: Tensor,
        species_B: Tensor,
        windows: Mapping[str, int] | None = None,
        shown_B: Tensor | None = None,
    ) -> ProfileOutput:
        """Rates of the central bins, each window's by the heads of its species.

        Args:
            species_B: index into `species`; windows of an unknown species (-1) get an
                embedding and no tracks.
            windows: number of windows of each species, if the caller knows it; saves one read
                from the device.
            shown_B: the species that the encoder is told, if it is to be another one.
        """
        counts = self._windows(species_B) if windows is None else windows
        embedding: Embedding = self.encoder(x_B4L, species_B if shown_B is None else shown_B)
        known = [counts.get(name, 0) for name in self.species]
        unknown = x_B4L.shape[0] - sum(known)
        # A stable sort keeps the windows of one species in batch order.
        order = species_B.to(x_B4L.device).argsort(stable=True)
        bins = _Bins.of(embedding, self.config.crop).sorted(order)
        tracks, auxiliary, routing = {}, {}, []
        first = unknown
        for index, (name, count) in enumerate(zip(self.species, known, strict=True)):
            if not count:
                continue
            decoded = self._decode(index, bins.rows(first, first + count))
            first += count
            tracks[name] = torch.cat([_rate(part.logits_BNT) for part in decoded], dim=2)
            if self.decoder is not None:
                auxiliary[name] = torch.cat([_rate(part.auxiliary_BNT) for part in decoded], dim=2)
            routing += [use for part in decoded for use in part.routing]
        return ProfileOutput(tracks, embedding, auxiliary, tuple(routing))

    def view(self, species: str) -> "SpeciesView":
        """The model of one species as a plain module, `view(X)`: for attribution tools."""
        self._species_index(species)
        return SpeciesView(self, species)

    def add_species(
        self,
        name: str,
        tracks: Sequence[str],
        groups: Sequence[str] = (),
        strand_pairs: Sequence[int] = (),
    ) -> None:
        """Append a species: a head, and a vector if the encoder has some. Nothing else changes.

        Raises:
            CislensError: if the model has the species.
        """
        if name in self.species:
            raise CislensError(f"The model already has a species {name!r}; choose another name.")
        self._append(_head(name, tracks, groups, strand_pairs))

    def add_head(
        self,
        species: str,
        tracks: Sequence[str],
        groups: Sequence[str] = (),
        strand_pairs: Sequence[int] = (),
    ) -> None:
        """Append tracks of a known species, with a head of their own. Nothing else changes.

        Raises:
            CislensError: if the model does not have the species, or has one of the tracks.
        """
        self._species_index(species)
        known = set(self.config.tracks[species]) & set(tracks)
        if known:
            raise CislensError(f"The model already predicts {species} track {sorted(known)[0]!r}.")
        self._append(_head(species, tracks, groups, strand_pairs))

    def _append(self, head: HeadConfig) -> None:
        reference = next(self.parameters())
        if self.decoder is not None:
            self.decoder.add_head(head)
        encoder = self.config.encoder
        if self.encoder.species and head.species not in self.species:
            self.encoder.add_species(head.species)
            encoder = encoder.model_copy(update={"species": self.encoder.species})
        self.heads.append(nn.Linear(self.encoder.dim, len(head.tracks)))
        self.to(reference.device, reference.dtype)
        # Not validated again: the parts are valid, and the encoder's own configuration is kept.
        changes = {"encoder": encoder, "heads": (*self.config.heads, head)}
        self.config = self.config.model_copy(update=changes)

    def _decode(self, species: int, bins: "_Bins") -> list[Decoded]:
        """Every head of a species on windows of that species."""
        decoded = []
        for index, (head, linear) in enumerate(zip(self.config.heads, self.heads, strict=True)):
            if head.species != self.species[species]:
                continue
            assert isinstance(linear, nn.Linear)
            logits_BNT = _logits(linear, bins.values_BND)
            if self.decoder is None:
                decoded.append(Decoded(logits_BNT, logits_BNT, ()))
            else:
                decoded.append(
                    self.decoder(
                        index,
                        species,
                        logits_BNT,
                        bins.values_BND,
                        bins.species_BC,
                        bins.valid_BN,
                    )
                )
        return decoded

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
        CislensError: if `config` is a mapping with an unknown, missing or wrong key, or the model
            is too large for this machine.
    """
    if not isinstance(config, ProfileModelConfig):
        config = read_section(dict(config), ProfileModelConfig, "model configuration")
    require_room("the model's configuration", lambda: ProfileModel(config))
    return ProfileModel(config)


@dataclass(frozen=True)
class _Bins:
    """What heads and decoder see of windows: their central bins."""

    values_BND: Tensor
    valid_BN: Tensor
    species_BC: Tensor

    @classmethod
    def of(cls, embedding: Embedding, crop: int) -> "_Bins":
        values_BND, bins = embedding.values_BND, embedding.values_BND.shape[1]
        if bins <= 2 * crop:
            raise CislensError(
                f"The input has {bins} bins of {embedding.bin_size} bp and the model crops "
                f"{crop} on either side: nothing is left. Give longer windows."
            )
        central = slice(crop, bins - crop)
        species_BC = embedding.species_BC
        if species_BC is None:
            species_BC = values_BND.new_zeros(values_BND.shape[0], 0)
        return cls(values_BND[:, central], embedding.valid_BN[:, central], species_BC)

    def sorted(self, order: Tensor) -> "_Bins":
        return _Bins(self.values_BND[order], self.valid_BN[order], self.species_BC[order])

    def rows(self, first: int, last: int) -> "_Bins":
        parts = (self.values_BND, self.valid_BN, self.species_BC)
        return _Bins(*(part[first:last] for part in parts))


def _logits(head: nn.Linear, y_BND: Tensor) -> Tensor:
    # Not in bf16: at a logit of 300, as CAGE peaks have, its step is 2.
    with full_precision(y_BND.device):
        logits_BNT: Tensor = head(y_BND.to(head.weight.dtype))
        return logits_BNT


def _rate(logits_BNT: Tensor) -> Tensor:
    return F.softplus(logits_BNT.to(torch.promote_types(logits_BNT.dtype, torch.float32)))


def _head(
    species: str, tracks: Sequence[str], groups: Sequence[str], strand_pairs: Sequence[int]
) -> HeadConfig:
    data = {"species": species, "tracks": tracks, "groups": groups, "strand_pairs": strand_pairs}
    return read_section(data, HeadConfig, f"head of {species}")
