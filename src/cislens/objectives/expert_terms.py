"""What keeps the experts of a model in order: balanced, with small logits, telling species apart.

Dimensions: X layer, S species, E expert.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cislens.models.profile import ProfileModel, ProfileOutput
from cislens.nn.gate_losses import decoder_terms, encoder_terms
from cislens.nn.gathering import sum_over_devices, world_size
from cislens.nn.routing import Routing, balance_loss, joint_of_mass, mutual_information, z_loss
from cislens.recipes.profiles import PlusTerms, PublishedTerms

_MI_MEMORY = 0.9
_TINY = 1e-12


class ExpertTerms(nn.Module, ABC):
    """Named terms of the loss, and their weights; a negative weight means "the more the better"."""

    weights: Mapping[str, float]

    @abstractmethod
    def forward(self, output: ProfileOutput) -> dict[str, Tensor]:
        """The terms of a batch before weighting; none for a model without experts."""

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor | float:
        """Their weighted sum."""
        return sum(self.weights[name] * term for name, term in terms.items())


class BalancedTerms(ExpertTerms):
    """The terms of SPACE-plus.

    `balance` is 1 when balanced and n/k when collapsed, `z` the mean squared log-sum-exp of the
    router logits; both are means over all expert layers, those of a decoder included.
    `mutual_information` of species and expert is the mean over the encoder's layers, in training
    of a running joint distribution with the current batch's gradient (straight-through). A batch of
    one species adds 0 to it in training, and has no such term in evaluation.
    """

    def __init__(self, model: ProfileModel, settings: PlusTerms) -> None:
        super().__init__()
        self.species = len(model.species)
        self.weights = {
            "balance": settings.balance,
            "z": settings.z,
            "mutual_information": -settings.mutual_information,
        }
        # Running sums of the gates, species x expert, of each expert layer.
        encoder = model.config.encoder
        dense = getattr(encoder, "ffn", "experts") == "dense"
        experts = 0 if dense else getattr(encoder, "experts", 0)
        shape = (getattr(encoder, "depth", 0) if experts else 0, self.species, experts)
        self.mass_XSE: Tensor
        self.register_buffer("mass_XSE", torch.zeros(shape))

    def forward(self, output: ProfileOutput) -> dict[str, Tensor]:
        layers = output.embedding.routing
        everything = [*layers, *joined(output.decoder_routing)]
        if not everything:
            return {}
        terms = {
            "balance": torch.stack([balance_loss(routing) for routing in everything]).mean(),
            "z": torch.stack([z_loss(routing) for routing in everything]).mean(),
        }
        if layers and (self.training or _several_species(layers[0], self.species)):
            information = [self._information(number, use) for number, use in enumerate(layers)]
            terms["mutual_information"] = torch.stack(information).mean()
        return terms

    def _information(self, layer: int, routing: Routing) -> Tensor:
        """MI of the running joint, with the current batch's gradient (straight-through)."""
        mass_SE = sum_over_devices(routing.species_mass(self.species))
        if not self.training:
            return mutual_information(joint_of_mass(mass_SE))
        before_SE = self.mass_XSE[layer]
        memory = _MI_MEMORY * (before_SE.sum() > 0)
        running_SE = memory * before_SE + (1 - memory) * mass_SE.detach()
        self.mass_XSE[layer] = running_SE
        now_SE = joint_of_mass(mass_SE)
        information = mutual_information(joint_of_mass(running_SE) + now_SE - now_SE.detach())
        # A batch of one species says nothing about how experts differ between species.
        return information * ((mass_SE.detach().sum(dim=1) > 0).sum() > 1)


class GateTerms(ExpertTerms):
    """The terms of the published SPACE code: sums over layers, species and, last, the decoder.

    See `cislens.nn.gate_losses` for what they measure; `variation` does not balance the experts.
    """

    def __init__(self, model: ProfileModel, settings: PublishedTerms) -> None:
        super().__init__()
        self.names = model.species
        self.species = len(model.species)
        self.heads = tuple(head.species for head in model.config.heads)
        self.groups = 0 if model.decoder is None else len(model.decoder.groups)
        self.normalizer = settings.normalizer
        self.weights = {
            "z": settings.z,
            "variation": settings.cv,
            "mutual_information": -settings.mutual_information,
        }

    def forward(self, output: ProfileOutput) -> dict[str, Tensor]:
        own_S = windows_by_species(output, self.names)
        all_S = sum_over_devices(own_S)
        windows = output.embedding.values_BND.shape[0]
        of_one = windows // len(output.tracks)
        if world_size() > 1:
            windows = int(all_S.sum())
            of_one = windows // int((all_S > 0).sum())
        parts = []
        if output.embedding.routing:
            routing = output.embedding.routing
            parts.append(encoder_terms(routing, self.species, self.normalizer, windows))
        if output.decoder_routing:
            # Of the mean over a species' windows that one process has, as of any mean over its own
            # windows: weighted by their number, the sum over processes is the mean over all.
            share_S = (own_S / own_S.sum()) / (all_S / all_S.sum()).clamp_min(_TINY)
            shares = [
                share_S[self.names.index(name)]
                for name in output.tracks
                for _ in range(self.heads.count(name))
            ]
            parts.append(
                decoder_terms(
                    output.decoder_routing,
                    self.species,
                    self.groups,
                    self.normalizer,
                    of_one,
                    shares if world_size() > 1 else (),
                )
            )
        if not parts:
            return {}
        return {name: torch.stack([part[name] for part in parts]).sum() for name in self.weights}


def expert_terms(model: ProfileModel, settings: PlusTerms | PublishedTerms) -> ExpertTerms:
    """The terms that the settings ask for."""
    if isinstance(settings, PublishedTerms):
        return GateTerms(model, settings)
    return BalancedTerms(model, settings)


def windows_by_species(output: ProfileOutput, species: tuple[str, ...]) -> Tensor:
    """Number of windows of each of the model's species in a batch, (S,) fp32."""
    counts = [float(len(output.tracks.get(name, ()))) for name in species]
    return torch.tensor(counts, device=output.embedding.values_BND.device)


def _several_species(routing: Routing, species: int) -> bool:
    return int((routing.species_mass(species).sum(dim=1) > 0).sum()) > 1


def joined(parts: tuple[Routing, ...]) -> list[Routing]:
    """The routings of a decoder's heads as one; empty if there are none."""
    return [Routing.join(parts)] if parts else []
