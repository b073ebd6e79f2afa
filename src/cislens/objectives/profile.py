"""Supervised training on measured profiles.

Dimensions: B window, L base pair, N bin, T track, S species, E expert.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from cislens.models.profile import ProfileModel, ProfileOutput
from cislens.nn.experts import Routing, balance_loss, joint_of_mass, mutual_information, z_loss
from cislens.nn.losses import poisson
from cislens.objectives.contract import Losses, Objective
from cislens.objectives.metrics import ProfileMetrics

BALANCE_WEIGHT = 0.01
Z_WEIGHT = 1e-3
MI_WEIGHT = 0.01
_MI_MEMORY = 0.9


@dataclass(frozen=True)
class TorchProfileBatch:
    """Windows and what was measured in them, as tensors on one device.

    Attributes:
        codes_BL: A, C, G, T, N = 0..4, uint8.
        species_B: index into the model's species.
        targets: per species that occurs, (B_s, N, T_s), its windows in batch order.
    """

    codes_BL: Tensor
    species_B: Tensor
    targets: Mapping[str, Tensor]

    def to(self, device: torch.device | str) -> "TorchProfileBatch":
        """The same batch on `device`."""
        return TorchProfileBatch(
            self.codes_BL.to(device, non_blocking=True),
            self.species_B.to(device, non_blocking=True),
            {name: value.to(device, non_blocking=True) for name, value in self.targets.items()},
        )


def one_hot(codes_BL: Tensor) -> Tensor:
    """(B, L) codes to (B, 4, L) fp32; N is all zeros."""
    letters = torch.arange(4, dtype=codes_BL.dtype, device=codes_BL.device)
    return (codes_BL[:, None, :] == letters[:, None]).float()


class ProfileObjective(Objective):
    """Poisson likelihood of the measured profiles, and what keeps the experts in order.

    Terms: `poisson/<species>` is the mean over bins and tracks of one species' windows, and
    `poisson` their mean weighted by the number of windows, so that it is a mean over windows
    whatever the mixture of a batch. With experts, averaged over layers: `balance` (1 when
    balanced, n/k when collapsed), `z`, and `mutual_information` of species and expert, which
    is maximized. The formulas are the same in training and evaluation.
    """

    model: ProfileModel

    def __init__(self, model: ProfileModel, mi_weight: float = MI_WEIGHT) -> None:
        super().__init__()
        self.model = model
        self.mi_weight = mi_weight
        # Running sums of the gates, species x expert, of each expert layer.
        encoder = model.config.encoder
        experts = getattr(encoder, "experts", 0) if getattr(encoder, "ffn", "") == "experts" else 0
        shape = (encoder.depth if experts else 0, len(model.species), experts)
        self.mass_XSE: Tensor
        self.register_buffer("mass_XSE", torch.zeros(shape))

    def loss(self, batch: TorchProfileBatch) -> Losses:
        windows = {name: target.shape[0] for name, target in batch.targets.items()}
        output = self.model.predict(one_hot(batch.codes_BL), batch.species_B, windows)
        terms = self._poisson_terms(output, batch)
        total = terms["poisson"]
        routings = output.embedding.routing
        if routings:
            experts = self._expert_terms(routings)
            total = total + BALANCE_WEIGHT * experts["balance"] + Z_WEIGHT * experts["z"]
            total = total - self.mi_weight * experts["mutual_information"]
            terms |= experts
        return Losses(
            total=total,
            terms={name: term.detach() for name, term in terms.items()},
            predictions={name: rate.detach() for name, rate in output.tracks.items()},
        )

    def metrics(self) -> ProfileMetrics:
        return ProfileMetrics(self.model.config.tracks)

    def _poisson_terms(self, output: ProfileOutput, batch: TorchProfileBatch) -> dict[str, Tensor]:
        terms, parts = {}, []
        total_windows = sum(rates.shape[0] for rates in output.tracks.values())
        for name, rates in output.tracks.items():
            terms[f"poisson/{name}"] = poisson(rates, batch.targets[name])
            parts.append(terms[f"poisson/{name}"] * (rates.shape[0] / total_windows))
        # Heads of absent species stay in the graph, as data-parallel training wants it.
        absent = [
            weight.sum()
            for name, head in zip(self.model.species, self.model.heads, strict=True)
            if name not in output.tracks
            for weight in head.parameters()
        ]
        return {"poisson": torch.stack(parts).sum() + 0.0 * sum(absent), **terms}

    def _expert_terms(self, routings: tuple[Routing, ...]) -> dict[str, Tensor]:
        balance = [balance_loss(routing, self._load(routing)) for routing in routings]
        information = [self._information(layer, r) for layer, r in enumerate(routings)]
        return {
            "balance": torch.stack(balance).mean(),
            "z": torch.stack([z_loss(routing) for routing in routings]).mean(),
            "mutual_information": torch.stack(information).mean(),
        }

    def _load(self, routing: Routing) -> Tensor:
        # Not in validation, where devices may see different numbers of batches.
        return mean_over_devices(routing.load) if self.training else routing.load

    def _information(self, layer: int, routing: Routing) -> Tensor:
        """MI of the running joint, with the current batch's gradient (straight-through)."""
        mass_SE = routing.species_mass(len(self.model.species))
        everywhere_SE = mass_SE.detach()
        if self.training:
            everywhere_SE = sum_over_devices(everywhere_SE)
        before_SE = self.mass_XSE[layer]
        memory = _MI_MEMORY * (before_SE.sum() > 0)
        running_SE = memory * before_SE + (1 - memory) * everywhere_SE
        if self.training:
            self.mass_XSE[layer] = running_SE
        now_SE = joint_of_mass(everywhere_SE + mass_SE - mass_SE.detach())
        information = mutual_information(joint_of_mass(running_SE) + now_SE - now_SE.detach())
        # A batch of one species says nothing about how experts differ between species.
        return information * ((everywhere_SE.sum(dim=1) > 0).sum() > 1)


def sum_over_devices(value: Tensor) -> Tensor:
    """Sum of a detached tensor over all processes."""
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def mean_over_devices(value: Tensor) -> Tensor:
    """Mean of a detached tensor over all processes."""
    if dist.is_available() and dist.is_initialized():
        return sum_over_devices(value) / dist.get_world_size()
    return value
