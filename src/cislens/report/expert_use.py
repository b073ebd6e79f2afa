"""The table of expert use that a run wrote, as the report draws it."""

from dataclasses import replace

import numpy as np
import polars as pl

from cislens.report.inputs import ExpertUse, Values
from cislens.training.experts import DECODER, EVERY


def expert_use_of(table: pl.DataFrame) -> ExpertUse | None:
    """The use that a run recorded in experts.parquet; None for a model without experts."""
    in_decoder = pl.col("layer") == DECODER
    encoder, decoder = (
        None if part.is_empty() else _of_part(part)
        for part in (table.filter(~in_decoder), table.filter(in_decoder))
    )
    return decoder if encoder is None else replace(encoder, decoder=decoder)


def _of_part(part: pl.DataFrame) -> ExpertUse:
    """Of encoder or decoder, whose layers have equally many experts."""
    layers = part["layer"].unique(maintain_order=True).to_list()

    def shares(species: str, group: str) -> Values:
        rows = part.filter(pl.col("species") == species, pl.col("group") == group)
        values: Values = rows["share"].to_numpy().reshape(len(layers), -1)
        return values

    names = {
        column: [name for name in part[column].unique(maintain_order=True) if name != EVERY]
        for column in ("species", "group")
    }
    by_group = [shares(EVERY, name) for name in names["group"]]
    entropy = part.unique("layer", keep="first", maintain_order=True)["entropy"].to_list()
    return ExpertUse(
        layers=layers,
        species=names["species"],
        load_XE=shares(EVERY, EVERY),
        species_XSE=np.stack([shares(name, EVERY) for name in names["species"]], axis=1),
        top_k=int(part["top_k"][0]),
        entropy_X=entropy,
        groups=names["group"],
        group_XGE=np.stack(by_group, axis=1) if by_group else None,
    )
