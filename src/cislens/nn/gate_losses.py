"""The auxiliary terms of the published SPACE model (Yang, Zhu and Su 2025), as coded.

Dimensions: T token, E expert, K kept expert, S species, G group of tracks, P pair of species
and group. The terms are sums over layers and species, to be weighted by `PUBLISHED_WEIGHTS`.
They are kept for comparison: the encoder's variation is the same for full collapse and for
perfect balance, see `cislens.nn.routing.balance_loss` for one that balances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cislens.nn.gathering import ratio_over_devices, sum_over_devices
from cislens.nn.routing import Routing, joint_of_mass

# "mass" divides sums of gates by what they add up to, at any length and batch; "published" by
# the constants of the published code, which are right for 1,024 tokens and its own tracks.
Normalizer = Literal["mass", "published"]
PUBLISHED_TOKENS = 1024
PUBLISHED_TRACKS = 5313 + 1643
# Of the released script; mutual information is maximized.
PUBLISHED_WEIGHTS = {"z": 0.001, "variation": 0.005, "mutual_information": -0.01}
_EPSILON = 1e-10


@dataclass(frozen=True)
class TrackRouting(Routing):
    """Routing of the published decoder, whose tokens are tracks.

    Attributes:
        logits_TE: log of the mixture of the routers' distributions.
        kept_TK: of both routers; an expert that both keep is there twice and counts once.
        gate_logits: for every type, the logits of each of its routers and of the two gates that
            mix these; the z term is the sum of the mean squares.
    """

    gate_logits: tuple[Tensor, ...] = ()


def squared_logits(routing: Routing, species: int) -> Tensor:
    """The z term of one layer: mean squared gate logit of each species' tokens, summed."""
    if isinstance(routing, TrackRouting):
        return torch.stack([logits.square().mean() for logits in routing.gate_logits]).sum()
    square_T = routing.logits_TE.square().mean(dim=1)
    weight_TS = _weight_by_species(routing, species)
    return ratio_over_devices(square_T @ weight_TS, weight_TS.sum(dim=0)).sum()


def gate_variation(routing: Routing, species: int) -> Tensor:
    """The encoder's cv term of one layer: Var / Mean^2 of each species' gate matrix, summed.

    The sample variance runs over all tokens and experts at once: 0.333 for any routing by equal
    gates to three of four experts, 3.0 for one expert per token, however balanced.
    """
    weight_TS = _weight_by_species(routing, species)
    experts = routing.gates_TE.shape[1]
    gates_T = routing.gates_TE.sum(dim=1)
    entries_S = (sum_over_devices(weight_TS.sum(dim=0)) * experts).clamp_min(1.0)
    mean_S = sum_over_devices(gates_T @ weight_TS) / entries_S
    deviation_TES = (routing.gates_TE[..., None] - mean_S).square() * weight_TS[:, None, :]
    variance_S = sum_over_devices(deviation_TES.sum(dim=(0, 1))) / (entries_S - 1).clamp_min(1.0)
    return (variance_S / (mean_S.square() + _EPSILON)).sum()


def expert_variation(mass_PE: Tensor) -> Tensor:
    """The decoder's cv term: Var / Mean^2 of the experts' total gates."""
    total_E = mass_PE.sum(dim=0)
    total_E = total_E / total_E.sum().clamp_min(_EPSILON)
    return total_E.var() / (total_E.mean().square() + _EPSILON)


def information(joint_PE: Tensor) -> Tensor:
    """`sum P ln(P / (P_p P_e) + 1e-10)`, which is mutual information if P sums to 1."""
    row_P1 = joint_PE.sum(dim=1, keepdim=True) + _EPSILON
    column_1E = joint_PE.sum(dim=0, keepdim=True) + _EPSILON
    return (joint_PE * torch.log(joint_PE / row_P1 / column_1E + _EPSILON)).sum()


def species_information(
    routing: Routing,
    species: int,
    normalizer: Normalizer = "mass",
    windows: int = 0,
    tokens: int = PUBLISHED_TOKENS,
) -> Tensor:
    """The encoder's MI term of one layer, of species and expert.

    Args:
        normalizer: "mass" gives every species that is present the same probability; "published"
            divides by `windows * tokens`.
        windows: of all species in the batch (2 B as published); "published" needs it.
    """
    mass_SE = sum_over_devices(routing.species_mass(species))
    if normalizer == "mass":
        return information(joint_of_mass(mass_SE))
    return information(mass_SE / _published_total(windows * tokens))


def task_mass(routings: Sequence[Routing], species: int, groups: int) -> Tensor:
    """Sum of the gates of each pair of species and group over all heads, (S x G, E)."""
    parts = []
    for routing in routings:
        assert routing.group_T is not None
        task_T = routing.species_T * groups + routing.group_T  # negative where unknown
        known_TP = task_T[:, None] == torch.arange(species * groups, device=task_T.device)
        weight_TP = known_TP.to(routing.gates_TE.dtype) * routing.weight_T[:, None]
        parts.append(weight_TP.T @ routing.gates_TE)
    return sum_over_devices(torch.stack(parts).sum(dim=0))


def task_information(
    mass_PE: Tensor,
    normalizer: Normalizer = "mass",
    windows: int = 0,
    tracks: int = PUBLISHED_TRACKS,
) -> Tensor:
    """The decoder's MI term, of (species, group) pair and expert.

    Args:
        mass_PE: see `task_mass`.
        normalizer: "mass" divides by the sum of all gates, so that pairs count by their tracks
            as published; "published" divides by `windows * tracks`.
        windows: of one species in the batch (B as published); "published" needs it.
        tracks: of all species.
    """
    if normalizer == "mass":
        return information(mass_PE / mass_PE.sum().clamp_min(_EPSILON))
    return information(mass_PE / _published_total(windows * tracks))


def encoder_terms(
    routings: Sequence[Routing], species: int, normalizer: Normalizer = "mass", windows: int = 0
) -> dict[str, Tensor]:
    """The terms of `PUBLISHED_WEIGHTS`, summed over the encoder's layers.

    Args:
        windows: of all species in the batch; "published" needs it.
    """
    mutual = [species_information(r, species, normalizer, windows) for r in routings]
    return {
        "z": torch.stack([squared_logits(r, species) for r in routings]).sum(),
        "variation": torch.stack([gate_variation(r, species) for r in routings]).sum(),
        "mutual_information": torch.stack(mutual).sum(),
    }


def decoder_terms(
    routings: Sequence[Routing],
    species: int,
    groups: int,
    normalizer: Normalizer = "mass",
    windows: int = 0,
    shares: Sequence[Tensor] = (),
) -> dict[str, Tensor]:
    """The same terms of the decoder, over all heads that the batch used.

    Args:
        windows: of one species in the batch; "published" needs it.
        shares: what each head's z counts, where this process holds a part of its windows.
    """
    squares = [squared_logits(r, species) for r in routings]
    if shares:
        squares = [share * square for share, square in zip(shares, squares, strict=True)]
    mass_PE = task_mass(routings, species, groups)
    return {
        "z": torch.stack(squares).sum(),
        "variation": expert_variation(mass_PE),
        "mutual_information": task_information(mass_PE, normalizer, windows),
    }


def _weight_by_species(routing: Routing, species: int) -> Tensor:
    index_S = torch.arange(species, device=routing.species_T.device)
    known_TS = (routing.species_T[:, None] == index_S).to(routing.gates_TE.dtype)
    return known_TS * routing.weight_T[:, None]


def _published_total(total: int) -> int:
    if total <= 0:
        raise ValueError('The normalizer "published" needs the number of windows.')
    return total
