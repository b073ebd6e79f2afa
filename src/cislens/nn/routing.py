"""Where a mixture of experts sent its tokens, and the losses that keep the routing in order.

Dimensions: T token (windows x bins), E expert, K kept expert, S species, G group of tracks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from cislens.nn.gathering import ratio_over_devices, sum_over_devices


@dataclass(frozen=True)
class Routing:
    """Where one expert layer sent its tokens; everything stays on the device and in the graph.

    Attributes:
        logits_TE, gates_TE: router logits, and the weights of the kept experts (0 elsewhere;
            each row sums to 1).
        kept_TK: indices of the kept experts.
        weight_T: 1 for tokens of valid bins, 0 for padding.
        species_T: species index, -1 where unknown.
        group_T: group of the track that a token stands for, in decoders; None where tokens
            stand for bins.
    """

    logits_TE: Tensor
    gates_TE: Tensor
    kept_TK: Tensor
    weight_T: Tensor
    species_T: Tensor
    group_T: Tensor | None = None

    @staticmethod
    def join(parts: Sequence["Routing"]) -> "Routing":
        """The tokens of several routings of one layer, one after the other."""
        if len(parts) == 1:
            return parts[0]

        def column(name: str) -> Any:
            values = [getattr(routing, name) for routing in parts]
            return None if values[0] is None else torch.cat(values)

        return Routing(*(column(part.name) for part in fields(Routing)))

    @property
    def load(self) -> Tensor:
        """Share of the routed slots that each expert received, (E,); sums to 1."""
        slots_E = self.slots
        return slots_E / slots_E.sum().clamp_min(1.0)

    @property
    def slots(self) -> Tensor:
        """Routed slots of each expert, (E,)."""
        slots_TE = torch.zeros_like(self.gates_TE).scatter(1, self.kept_TK, 1.0)
        return (self.weight_T @ slots_TE).detach()

    def species_mass(self, species: int) -> Tensor:
        """Sum of the gates of each known species' valid tokens, (S, E)."""
        return self._mass(self.species_T, species)

    def group_mass(self, groups: int) -> Tensor:
        """Sum of the gates of each group's valid tokens, (G, E).

        Raises:
            ValueError: if the tokens stand for bins.
        """
        if self.group_T is None:
            raise ValueError("Tokens of an encoder stand for bins, which belong to no group.")
        return self._mass(self.group_T, groups)

    def _mass(self, label_T: Tensor, labels: int) -> Tensor:
        index_X = torch.arange(labels, device=label_T.device)
        known_TX = (label_T[:, None] == index_X).to(self.gates_TE.dtype)
        return (known_TX * self.weight_T[:, None]).T @ self.gates_TE

    def entropy(self) -> Tensor:
        """Mean entropy of the router's distribution over ln n: 1 undecided, 0 certain."""
        log_p_TE = self.logits_TE.log_softmax(dim=-1)
        entropy_T = -(log_p_TE.exp() * log_p_TE).sum(dim=-1)
        mean = (entropy_T * self.weight_T).sum() / self.weight_T.sum().clamp_min(1.0)
        return (mean / math.log(self.logits_TE.shape[1])).detach()


def balance_loss(routing: Routing) -> Tensor:
    """`n * sum_e f_e P_e` (Switch Transformer): 1 when balanced, n/k when collapsed on k experts.

    f is the share of routed slots and carries no gradient; P is the mean router probability. Both
    are over the tokens of all devices that train together.
    """
    p_TE = routing.logits_TE.softmax(dim=-1)
    weight_T, experts = routing.weight_T, p_TE.shape[1]
    sums = torch.cat([weight_T @ p_TE, weight_T.sum()[None], routing.slots])
    sums = sum_over_devices(sums)
    p_E, tokens, slots_E = sums[:experts], sums[experts], sums[experts + 1 :]
    load_E = slots_E / slots_E.sum().clamp_min(1.0)
    loss: Tensor = experts * (load_E * p_E / tokens.clamp_min(1.0)).sum()
    return loss


def z_loss(routing: Routing) -> Tensor:
    """Mean squared log-sum-exp of the router logits over all devices' tokens: keeps them small."""
    z_T = routing.logits_TE.logsumexp(dim=-1).square()
    return ratio_over_devices((z_T * routing.weight_T).sum(), routing.weight_T.sum())


def joint_of_mass(mass_SE: Tensor) -> Tensor:
    """Joint distribution of species and expert in which every present species has equal mass.

    Does not depend on how many windows, bins or masked tokens a species had; absent species
    get probability 0.
    """
    row_S1 = mass_SE.sum(dim=1, keepdim=True)
    present_S1 = (row_S1 > 0).to(mass_SE.dtype)
    share_SE = mass_SE / torch.where(row_S1 > 0, row_S1, torch.ones_like(row_S1))
    return share_SE / present_S1.sum().clamp_min(1.0)


def mutual_information(joint_SE: Tensor) -> Tensor:
    """Mutual information in nats of a joint distribution; 0 where only one species is present."""
    independent_SE = joint_SE.sum(dim=1, keepdim=True) * joint_SE.sum(dim=0, keepdim=True)
    tiny = torch.finfo(joint_SE.dtype).tiny
    ratio_SE = joint_SE.clamp_min(tiny).log() - independent_SE.clamp_min(tiny).log()
    return (joint_SE * ratio_SE).sum()
