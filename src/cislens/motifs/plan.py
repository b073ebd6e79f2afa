"""What a region store will hold, with every check of its inputs, before motifs are scanned.

Dimensions: R region, T motif, C cell type.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.genome.reference import Genome
from cislens.genome.splits import TRAIN
from cislens.motifs.archetypes import Archetype, join_alike
from cislens.motifs.channels import Bools, Singles, access_channel, expression_channel
from cislens.motifs.consensus import build_consensus
from cislens.motifs.expression import read_expression
from cislens.motifs.library import MotifLibrary, motifs_digest
from cislens.motifs.parts import Parted, part_cells, part_regions
from cislens.motifs.sources import inputs, opened, settings
from cislens.motifs.store import RegionStore, Sizes
from cislens.recipes.regions import RegionRecipe

_SHARD_ROWS = 1024  # regions of a shard, the unit of work


@dataclass(frozen=True)
class RegionPlan:
    """Everything a build does, resolved; `describe` is what a dry run prints.

    Attributes:
        parted: the regions that stay, with their part.
        cells: `cell_id, split, regions`; motifs: `motif_id, name, width, members, factors, leaf,
            expressed`.
        access_RC, reference_Q, access_2: channel and constants of accessibility.
        expression_TC, expression_2: channel, if there is one, and constants of expression.
        report: counts of what was read and left out.
    """

    recipe: RegionRecipe
    genome: Genome
    library: MotifLibrary
    rows: tuple[Archetype, ...]
    parted: Parted
    cells: pl.DataFrame
    motifs: pl.DataFrame
    open_RC: Bools
    access_RC: Singles
    reference_Q: Singles
    access_2: Singles
    expression_TC: Singles | None
    expression_2: Singles
    report: dict[str, Any]

    @property
    def regions(self) -> pl.DataFrame:
        """The table of regions, in the order of the arrays' rows."""
        return self.parted.regions

    @cached_property
    def sizes(self) -> Sizes:
        return Sizes(
            regions=self.regions.height,
            motifs=len(self.rows),
            cells=self.cells.height,
            width=self.recipe.width,
            margin=self.recipe.margin,
            shard_rows=_SHARD_ROWS,
        )

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Name and sha256 of every file that the recipe names."""
        return inputs(self.recipe, self.genome)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe without its paths, and the versions of what decides the bytes."""
        return settings(self.recipe, self.library)

    @cached_property
    def digest(self) -> str:
        """sha256 of all that decides the store's bytes."""
        digest = hashlib.sha256()
        digest.update(json.dumps([self.settings, self.inputs], sort_keys=True).encode())
        digest.update(motifs_digest([row.motif for row in self.rows]).encode())
        for table in (self.regions, self.cells, self.motifs):
            digest.update(table.write_json().encode())
        for array in (self.open_RC, self.access_RC, self.expression_TC):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def total_bytes(self) -> int:
        """Size of all arrays on disk."""
        return sum(layout.total_bytes for layout in self.sizes.layouts().values())

    def describe(self) -> dict[str, Any]:
        """Cell types, regions, motifs and bytes, as a dry run prints them."""
        return {
            "assembly": self.recipe.assembly or self.genome.name,
            "regions": _by_part(self.regions),
            "width": self.recipe.width,
            "cells": _by_cell(self.cells),
            "motifs": {
                "source": self.library.source,
                "read": len(self.library.motifs),
                "rows": len(self.rows),
                "value": self.recipe.value,
            },
            "expression": self.expression_TC is not None,
            "dropped_split": self.parted.dropped_split,
            "dropped_homologs": self.parted.dropped_homologs,
            "block_bp": self.parted.block_bp,
            "read": self.report,
            "bytes": self.total_bytes,
            "plan": self.digest,
        }


def plan_regions(recipe: RegionRecipe) -> RegionPlan:
    """Choose regions and motifs and check everything; nothing is written.

    Raises:
        CislensError: as the readers of genome, peaks, motifs and expression, and for a split that
            leaves a part or a cell type empty.
    """
    genome, library = opened(recipe)
    rows = join_alike(library.motifs, recipe.archetypes)
    _require_room(rows, recipe.width)
    consensus = build_consensus(recipe, genome)
    cell_parts = part_cells(consensus.cells, recipe.split)
    parted = part_regions(genome, consensus.regions, recipe.split, recipe.margin, recipe.seed)
    train_R = (parted.regions["split"] == TRAIN).to_numpy()
    train_C = np.array([part == TRAIN for part in cell_parts])
    open_RC = consensus.open_RC[parted.row]
    access_RC, reference_Q, access_2 = access_channel(
        consensus.access_RC[parted.row], train_R, train_C, consensus.cells
    )
    expressed, expression_TC, expression_2 = _expression(recipe, rows, consensus.cells, train_C)
    numbered = parted.regions.with_columns(cells=pl.Series(open_RC.sum(1), dtype=pl.Int64))
    counts = pl.Series(open_RC.sum(0), dtype=pl.Int64)
    return RegionPlan(
        recipe=recipe,
        genome=genome,
        library=library,
        rows=rows,
        parted=replace(parted, regions=numbered),
        cells=pl.DataFrame({"cell_id": consensus.cells, "split": cell_parts, "regions": counts}),
        motifs=_motif_table(rows, expressed),
        open_RC=open_RC,
        access_RC=access_RC,
        reference_Q=reference_Q,
        access_2=access_2,
        expression_TC=expression_TC,
        expression_2=expression_2,
        report=dict(consensus.report),
    )


def describe_store(store: RegionStore) -> dict[str, Any]:
    """What `RegionPlan.describe` told when the store was planned."""
    manifest = store.manifest
    read = manifest["motifs"]
    kept = ("dropped_split", "dropped_homologs", "block_bp", "read")
    return {
        "assembly": store.assembly,
        "regions": _by_part(store.regions),
        "width": store.width,
        "cells": _by_cell(store.cells),
        "motifs": {
            "source": read["source"],
            "read": read["read"],
            "rows": store.motifs.height,
            "value": manifest["settings"]["value"],
        },
        "expression": store.expression is not None,
        **{key: manifest["regions"][key] for key in kept},
        "bytes": sum(layout.total_bytes for layout in store.sizes.layouts().values()),
        "plan": manifest["plan_digest"],
    }


def _require_room(rows: tuple[Archetype, ...], width: int) -> None:
    """Refuse, before anything is scanned, motifs that fit in no region."""
    long = [row.motif for row in rows if len(row.motif) > width]
    if long:
        raise CislensError(
            f"{len(long)} of {len(rows)} motifs are longer than a region of {width} bp "
            f"({long[0].id} has {len(long[0])} columns); take wider regions or leave the motifs "
            "out."
        )


def _by_part(regions: pl.DataFrame) -> dict[str, int]:
    return dict(regions["split"].value_counts().sort("split").iter_rows())


def _by_cell(cells: pl.DataFrame) -> dict[str, Any]:
    return {
        name: {"split": part, "regions": count}
        for name, part, count in cells.select("cell_id", "split", "regions").iter_rows()
    }


def _expression(
    recipe: RegionRecipe, rows: tuple[Archetype, ...], cells: tuple[str, ...], train_C: Bools
) -> tuple[Bools, Singles | None, Singles]:
    """Which motifs have a measured factor, the channel and its constants."""
    if recipe.expression is None:
        return np.zeros(len(rows), bool), None, np.array([0, 1], np.float32)
    found = read_expression(recipe.expression, cells, [row.factors for row in rows])
    values_TC, constants = expression_channel(found.tpm_TC, found.missing_T, train_C)
    return ~found.missing_T, values_TC, constants


def _motif_table(rows: tuple[Archetype, ...], expressed: Bools) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "motif_id": [row.motif.id for row in rows],
            "name": [row.motif.name for row in rows],
            "width": [len(row.motif) for row in rows],
            "members": [list(row.members) for row in rows],
            "factors": [list(row.factors) for row in rows],
            "leaf": [row.leaf for row in rows],
            "expressed": expressed,
        },
        schema_overrides={"members": pl.List(pl.String), "factors": pl.List(pl.String)},
    )
