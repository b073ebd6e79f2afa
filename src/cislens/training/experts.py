"""Where a model sends its tokens: the use of its experts, in the encoder and in the decoder.

Dimensions: E expert, S species, G group of tracks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl
import torch
from torch import Tensor

from cislens.models.profile import ProfileModel, ProfileOutput
from cislens.nn.routing import Routing, joint_of_mass, mutual_information
from cislens.objectives.expert_terms import joined
from cislens.objectives.profile import TorchProfileBatch, one_hot

SCHEMA = {
    "layer": pl.String,
    "species": pl.String,
    "group": pl.String,
    "expert": pl.Int64,
    "share": pl.Float64,
    "entropy": pl.Float64,
    "information": pl.Float64,
    "top_k": pl.Int64,
}
EVERY = "all"
DECODER = "decoder"


def expert_layers(output: ProfileOutput) -> dict[str, Routing]:
    """The routing of every expert layer: `L1`, `L2`, ... of the encoder, then `decoder`.

    A decoder's layers and heads count as one: they share their experts.
    """
    layers = {f"L{number}": use for number, use in enumerate(output.embedding.routing, 1)}
    for use in joined(output.decoder_routing):
        layers[DECODER] = use
    return layers


def expert_use(model: ProfileModel, batches: Iterable[TorchProfileBatch]) -> pl.DataFrame:
    """One row per (layer, species or group, expert); empty for a model without experts.

    `share` is the expert's share of the gate weight of a species' or, in a decoder, of a group's
    tokens; where both are "all", its share of the routed slots. Shares sum to 1 over the experts.
    `entropy` is that of the layer's router over ln n, averaged over its tokens: 1 undecided, 0
    certain. `information` is the mutual information, in nats, of expert and species or group,
    each species or group having equal weight; null where both are "all".
    """
    uses: dict[str, Use] = {}
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            here = batch.to(device)
            windows = {name: target.shape[0] for name, target in here.targets.items()}
            output = model.predict(one_hot(here.codes_BL), here.species_B, windows, here.shown_B)
            add_uses(uses, expert_layers(output), model)
    return _table(uses, model)


@dataclass
class Use:
    """Sums over the tokens that one layer has routed; they stay on the layer's device.

    Attributes:
        slots_E: routed slots. mass_SE, mass_GE: gate weight of each species and each group.
        entropy: of the router over ln n, summed over tokens. tokens: their number.
        peak: largest router logit, either sign.
    """

    slots_E: Tensor
    mass_SE: Tensor
    mass_GE: Tensor
    entropy: Tensor
    tokens: Tensor
    peak: Tensor
    top_k: int = field(default=0)

    @classmethod
    def of(cls, routing: Routing, species: int, groups: int) -> "Use":
        """The use in one batch."""
        tokens = routing.weight_T.sum().double()
        in_groups = groups if routing.group_T is not None else 0
        group_mass = routing.group_mass(groups) if in_groups else routing.gates_TE.new_zeros(0, 1)
        logits_TE = routing.logits_TE.detach().abs() * routing.weight_T[:, None]
        return cls(
            slots_E=routing.load.double() * tokens,
            mass_SE=routing.species_mass(species).detach().double(),
            mass_GE=group_mass.detach().double(),
            entropy=routing.entropy().double() * tokens,
            tokens=tokens,
            peak=logits_TE.amax(),
            top_k=routing.kept_TK.shape[1],
        )

    def plus(self, other: "Use") -> "Use":
        """Both together, on the device of the first."""
        sums = {
            name: getattr(self, name) + getattr(other, name).to(self.tokens.device)
            for name in ("slots_E", "mass_SE", "mass_GE", "entropy", "tokens")
        }
        peak = torch.maximum(self.peak, other.peak.to(self.peak.device))
        return Use(**sums, peak=peak, top_k=self.top_k)

    def cpu(self) -> "Use":
        """The same on the CPU."""
        tensors = {name: value for name, value in vars(self).items() if name != "top_k"}
        return Use(**{name: value.cpu() for name, value in tensors.items()}, top_k=self.top_k)

    @property
    def mean_entropy(self) -> float:
        return float(self.entropy / self.tokens.clamp_min(1.0))

    def metrics(self) -> dict[str, float]:
        """Numbers about the layer, by name; reads them from the device."""
        load_E = self.slots_E / self.slots_E.sum().clamp_min(1e-12)
        values = {
            "max_load": float(load_E.max()),
            "entropy": self.mean_entropy,
            "species_information": information(self.mass_SE),
            "max_logit": float(self.peak),
        }
        if len(self.mass_GE):
            values["group_information"] = information(self.mass_GE)
        return values


def add_uses(uses: dict[str, Use], layers: Mapping[str, Routing], model: ProfileModel) -> None:
    """Add the routing of one batch to the sums by layer."""
    for name, routing in layers.items():
        use = Use.of(routing, len(model.species), len(groups_of(model)))
        uses[name] = uses[name].plus(use) if name in uses else use


def groups_of(model: ProfileModel) -> tuple[str, ...]:
    """Names of the track groups of the model's decoder, as its routing counts them."""
    return () if model.decoder is None else model.decoder.groups


def information(mass_XE: Tensor) -> float:
    """Mutual information in nats of row and expert, all rows with any mass weighing the same."""
    return max(0.0, float(mutual_information(joint_of_mass(mass_XE))))


def _table(uses: Mapping[str, Use], model: ProfileModel) -> pl.DataFrame:
    rows: list[tuple[object, ...]] = []
    for layer, use in uses.items():
        by_species, by_group = information(use.mass_SE), information(use.mass_GE)
        parts: list[tuple[str, str, Tensor, float | None]] = [(EVERY, EVERY, use.slots_E, None)]
        for name, mass_E in zip(model.species, use.mass_SE, strict=True):
            parts.append((name, EVERY, mass_E, by_species))
        for name, mass_E in zip(groups_of(model), use.mass_GE, strict=False):
            parts.append((EVERY, name, mass_E, by_group))
        for species, group, weight_E, nats in parts:
            shares = (weight_E / weight_E.sum().clamp_min(1e-12)).tolist()
            rows += [
                (layer, species, group, expert, share, use.mean_entropy, nats, use.top_k)
                for expert, share in enumerate(shares)
            ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
