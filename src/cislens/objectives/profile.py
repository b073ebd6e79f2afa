"""Supervised training on measured profiles.

Dimensions: B window, L base pair, N bin, T track, S species.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.profile import ProfileModel, ProfileOutput
from cislens.nn.gathering import share_of_loss, sum_over_devices
from cislens.nn.losses import poisson_by_track, poisson_multinomial_by_track
from cislens.nn.precision import full_precision
from cislens.objectives.contract import Losses, Objective
from cislens.objectives.expert_terms import ExpertTerms, expert_terms, windows_by_species
from cislens.objectives.metrics import ProfileMetrics
from cislens.recipes.profiles import Objective as ObjectiveSettings
from cislens.recipes.profiles import PublishedTerms


@dataclass(frozen=True)
class TorchProfileBatch:
    """Windows and what was measured in them, as tensors on one device.

    Attributes:
        codes_BL: A, C, G, T, N = 0..4, uint8.
        species_B: index into the model's species.
        targets: per species that occurs, (B_s, N, T_s), its windows in batch order.
        shown_B: the species that the encoder is told, where it is to be another one.
    """

    codes_BL: Tensor
    species_B: Tensor
    targets: Mapping[str, Tensor]
    shown_B: Tensor | None = None

    def windows(self, species: str = "") -> int:
        """Number of windows, of one species or of all."""
        return len(self.targets[species] if species else self.species_B)

    def to(self, device: torch.device | str) -> "TorchProfileBatch":
        """The same batch on `device`."""

        def move(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: move(part) for name, part in value.items()}
            return None if value is None else value.to(device, non_blocking=True)

        return TorchProfileBatch(*(move(getattr(self, part.name)) for part in fields(self)))


def one_hot(codes_BL: Tensor) -> Tensor:
    """(B, L) codes to (B, 4, L) fp32; N is all zeros."""
    letters = torch.arange(4, dtype=codes_BL.dtype, device=codes_BL.device)
    return (codes_BL[:, None, :] == letters[:, None]).float()


class ProfileObjective(Objective):
    """Likelihood of the measured profiles, and what keeps the experts in order.

    Terms: `poisson/<species>` is the mean over bins and tracks of one species' windows, and
    `poisson` their mean weighted by the number of windows, so that it is a mean over windows
    whatever the mixture of a batch; `auxiliary` is the same of a decoder's second rates. With
    experts, the terms of `cislens.objectives.expert_terms`. The formulas are the same in
    training and evaluation.

    Args:
        settings: which likelihood, and the weights of the expert terms.
        tracks: ids of the targets' columns by species, where the data have other tracks than
            the model's, or another order; the model's own unless given.
        track_weights: factor of each of these tracks; only their ratios within a species count.

    Raises:
        CislensError: if the model has no such track.
    """

    model: ProfileModel

    def __init__(
        self,
        model: ProfileModel,
        settings: ObjectiveSettings | None = None,
        tracks: Mapping[str, Sequence[str]] | None = None,
        track_weights: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings or ObjectiveSettings()
        self.tracks = {
            species: tuple(ids) for species, ids in (tracks or model.config.tracks).items()
        }
        self.columns = _Columns(model, self.tracks, track_weights or {})
        self.experts: ExpertTerms = expert_terms(model, self.settings.experts)

    def loss(self, batch: TorchProfileBatch) -> Losses:
        windows = {name: target.shape[0] for name, target in batch.targets.items()}
        output = self.model.predict(
            one_hot(batch.codes_BL), batch.species_B, windows, batch.shown_B
        )
        rates = {name: self.columns.select(name, rate) for name, rate in output.tracks.items()}
        scale = self._scale(output)
        final, auxiliary = (scale * weight for weight in self.model.loss_weights)
        terms = self._likelihood(rates, batch.targets)
        total = final * terms["poisson"]
        if output.auxiliary:
            second = {n: self.columns.select(n, rate) for n, rate in output.auxiliary.items()}
            terms["auxiliary"] = self._likelihood(second, batch.targets)["poisson"]
            total = total + auxiliary * terms["auxiliary"]
        with full_precision(batch.codes_BL.device):
            experts = self.experts(output)
        total = total + self.experts.weighted(experts)
        return Losses(
            total=share_of_loss(total, self.model, batch.windows()),
            terms={name: term.detach() for name, term in {**terms, **experts}.items()},
            predictions={name: rate.detach() for name, rate in rates.items()},
        )

    def metrics(self) -> ProfileMetrics:
        return ProfileMetrics(self.tracks)

    def _likelihood(
        self, rates: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        terms, parts = {}, []
        windows = sum(rate.shape[0] for rate in rates.values())
        for name, rate in rates.items():
            by_track_T = self._by_track(rate, targets[name])
            terms[f"poisson/{name}"] = self.columns.mean(name, by_track_T)
            parts.append(terms[f"poisson/{name}"] * (rate.shape[0] / windows))
        return {"poisson": torch.stack(parts).sum(), **terms}

    def _by_track(self, rate_BNT: Tensor, target_BNT: Tensor) -> Tensor:
        if self.settings.loss == "poisson":
            return poisson_by_track(rate_BNT, target_BNT)
        return poisson_multinomial_by_track(rate_BNT, target_BNT, self.settings.total_weight)

    def _scale(self, output: ProfileOutput) -> Tensor | int:
        """As often as the mean over windows makes the published sum over species of a batch."""
        if not isinstance(self.settings.experts, PublishedTerms):
            return 1
        return (sum_over_devices(windows_by_species(output, self.model.species)) > 0).sum()


def _weights(given: Sequence[float], tracks: int, species: str) -> Tensor:
    weight_T = torch.tensor(given, dtype=torch.float32)
    if len(weight_T) != tracks or not bool((weight_T.isfinite() & (weight_T >= 0)).all()):
        raise CislensError(
            f"The weights of the {tracks} {species} tracks must be {tracks} numbers of at least 0."
        )
    if not weight_T.any():
        raise CislensError(f"The weights of all {species} tracks are 0; raise one.")
    return weight_T


class _Columns(nn.Module):
    """Where the data's tracks stand among the model's, and their weights."""

    def __init__(
        self,
        model: ProfileModel,
        tracks: Mapping[str, tuple[str, ...]],
        weights: Mapping[str, Sequence[float]],
    ) -> None:
        super().__init__()
        self.species = tuple(tracks)
        for number, (species, ids) in enumerate(tracks.items()):
            known = model.config.tracks.get(species)
            if known is None:
                raise CislensError(
                    f"The data have species {species!r}, for which the model has no head; its "
                    f"species are {', '.join(model.species)}."
                )
            place = {name: column for column, name in enumerate(known)}
            missing = [name for name in ids if name not in place]
            if missing:
                raise CislensError(
                    f"The model has no {species} track {missing[0]!r} ({len(missing)} of "
                    f"{len(ids)} tracks of the data are missing)."
                )
            columns = None if ids == known else torch.tensor([place[name] for name in ids])
            given = weights.get(species)
            weight = None if given is None else _weights(given, len(ids), species)
            self.register_buffer(f"columns_{number}", columns, persistent=False)
            self.register_buffer(f"weight_{number}", weight, persistent=False)

    def select(self, species: str, rate_BNT: Tensor) -> Tensor:
        """The rates of the data's tracks, in their order."""
        columns: Tensor | None = getattr(self, f"columns_{self.species.index(species)}")
        return rate_BNT if columns is None else rate_BNT.index_select(2, columns)

    def mean(self, species: str, value_T: Tensor) -> Tensor:
        """Mean over the tracks, weighted where weights were given."""
        weight_T: Tensor | None = getattr(self, f"weight_{self.species.index(species)}")
        if weight_T is None:
            return value_T.mean()
        return (value_T * weight_T).sum() / weight_T.sum()
