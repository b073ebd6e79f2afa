"""Where a trained model sends its bins: the use of its experts over the validation part."""

from collections.abc import Iterable

import polars as pl
import torch
from torch import Tensor

from cislens.models.profile import ProfileModel
from cislens.nn.routing import Routing
from cislens.objectives.profile import TorchProfileBatch, one_hot

SCHEMA = {
    "layer": pl.Int64,
    "species": pl.String,
    "expert": pl.Int64,
    "share": pl.Float64,
    "entropy": pl.Float64,
    "top_k": pl.Int64,
}
EVERY_SPECIES = "all"


def expert_use(model: ProfileModel, batches: Iterable[TorchProfileBatch]) -> pl.DataFrame:
    """One row per (layer, species, expert); empty for a model without experts.

    `share` is the expert's share of the species' gate weight; of the routed slots where the
    species is "all". Shares sum to 1 over the experts. `entropy` is that of the layer's router
    over ln n, averaged over the bins: 1 undecided, 0 certain.
    """
    layers: dict[int, _Use] = {}
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            for number, routing in enumerate(_routings(model, batch)):
                layers.setdefault(number, _Use()).add(routing, len(model.species))
    rows = []
    for number, use in layers.items():
        parts = [(EVERY_SPECIES, use.slots_E), *zip(model.species, use.mass_SE, strict=True)]
        for species, weight_E in parts:
            shares = (weight_E / weight_E.sum().clamp_min(1e-12)).tolist()
            rows += [
                (number, species, expert, share, use.entropy / max(use.bins, 1.0), use.top_k)
                for expert, share in enumerate(shares)
            ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


class _Use:
    """Sums over the bins that one layer has routed."""

    def __init__(self) -> None:
        self.slots_E: Tensor = torch.zeros(())
        self.mass_SE: Tensor = torch.zeros(())
        self.entropy = 0.0
        self.bins = 0.0
        self.top_k = 0

    def add(self, routing: Routing, species: int) -> None:
        bins = float(routing.weight_T.sum())
        self.slots_E = self.slots_E + routing.load.double().cpu() * bins
        self.mass_SE = self.mass_SE + routing.species_mass(species).double().cpu()
        self.entropy += float(routing.entropy()) * bins
        self.bins += bins
        self.top_k = routing.kept_TK.shape[1]


def _routings(model: ProfileModel, batch: TorchProfileBatch) -> tuple[Routing, ...]:
    device = next(model.parameters()).device
    batch = batch.to(device)
    embedding = model.encoder(one_hot(batch.codes_BL), batch.species_B)
    routing: tuple[Routing, ...] = embedding.routing
    return routing
