"""Where a trained model sends its bins: the use of its experts over the validation part."""

from collections.abc import Iterable

import polars as pl
import torch
from torch import Tensor

from cislens.models.profile import ProfileModel
from cislens.nn.experts import Routing
from cislens.objectives.profile import TorchProfileBatch, one_hot

SCHEMA = {
    "layer": pl.Int64,
    "species": pl.String,
    "expert": pl.Int64,
    "share": pl.Float64,
    "top_k": pl.Int64,
}
EVERY_SPECIES = "all"


def expert_use(model: ProfileModel, batches: Iterable[TorchProfileBatch]) -> pl.DataFrame:
    """One row per (layer, species, expert); empty for a model without experts.

    `share` is the expert's share of the species' gate weight; of the routed slots where the
    species is "all". Shares sum to 1 over the experts.
    """
    slots: dict[int, Tensor] = {}
    masses: dict[int, Tensor] = {}
    top_k = 0
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            for layer, routing in enumerate(_routings(model, batch)):
                top_k = routing.kept_TK.shape[1]
                count = routing.load * routing.weight_T.sum()
                slots[layer] = slots.get(layer, 0) + count.double()
                mass = routing.species_mass(len(model.species)).double()
                masses[layer] = masses.get(layer, 0) + mass
    rows = []
    for layer, count in slots.items():
        parts = [(EVERY_SPECIES, count), *zip(model.species, masses[layer], strict=True)]
        for species, weight_E in parts:
            shares = (weight_E / weight_E.sum().clamp_min(1e-12)).tolist()
            rows += [(layer, species, expert, share, top_k) for expert, share in enumerate(shares)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _routings(model: ProfileModel, batch: TorchProfileBatch) -> tuple[Routing, ...]:
    device = next(model.parameters()).device
    batch = batch.to(device)
    embedding = model.encoder(one_hot(batch.codes_BL), batch.species_B)
    routing: tuple[Routing, ...] = embedding.routing
    return routing
