"""Predicted openness as an annotated table: a row per cell type, a column per region.

An evaluation asks for some pairs of a region and a cell type alone. The tables are sparse: what
they do not hold was not asked for.

Dimensions: C cell type, R region, N pair.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cislens.errors import CislensError
from cislens.evaluation.cells.examples import Candidates, Pairs, draw_parts
from cislens.evaluation.cells.run import CellRecipe
from cislens.evaluation.cells.scoring import read_scores
from cislens.evaluation.cells.tables import BASELINES
from cislens.evaluation.profiles.scoring import seeds_of
from cislens.files import require_file
from cislens.motifs.store import RegionStore
from cislens.recipes.reading import read_recipe
from cislens.representations.h5ad import Annotated


def measured_cells(store: RegionStore) -> Annotated:
    """X is how accessible each region is in each cell type, the layer `open` whether it counts.

    `varm` has the motif channel of the regions.
    """
    rows = np.arange(store.regions.height)
    motifs = store.motif_values(rows)
    return Annotated(
        store.cells.rename({"regions": "open_regions"}),
        store.regions,
        sparse.csr_matrix(np.asarray(store.access, np.float32).T),
        {"open": _opened(store)},
        {},
        {"motifs": np.asarray(motifs, np.float32)},
        {"store": store.digest, "assembly": store.assembly, "motifs": list(store.motif_ids)},
    )


def judged_cells(folder: Path) -> Annotated:
    """X is the logit of the first trained arm, the mean over its seeds; each arm is a layer.

    The layer `asked` is 1 where a pair was asked for, `open` where the region is measured as open.

    Raises:
        CislensError: if the store is no longer that of the evaluation, or the folder is damaged.
    """
    require_file(folder / "evaluation.json", "evaluation of cell types")
    recipe = read_recipe(folder / "recipe.yaml", CellRecipe)
    store = RegionStore.open(recipe.store)
    if store.digest != recipe.store_digest:
        raise CislensError(
            f"{folder} judged another store than is at {recipe.store} now; evaluate again."
        )
    judged = draw_parts(Candidates(store), recipe.pairs, recipe.seed).judged
    arms = (*recipe.arms, *(f"{name}-sequence" for name in recipe.arms), *BASELINES)
    layers: dict[str, Any] = {
        arm: _sparse(store, judged, _mean(folder, arm, judged, seeds_of(recipe.arms)))
        for arm in arms
    }
    asked = {part: np.ones(len(pairs), np.float32) for part, pairs in judged.items()}
    first = layers[next(iter(recipe.arms))]
    layers |= {"asked": _sparse(store, judged, asked), "open": _opened(store)}
    uns = {
        "store": store.digest, "assembly": store.assembly,
        "arms": json.dumps({name: len(runs) for name, runs in recipe.arms.items()}),
        "unit": "logit that the region is open",
    }  # fmt: skip
    cells = store.cells.rename({"regions": "open_regions"})
    return Annotated(cells, store.regions, first, layers, {}, {}, uns)


def _mean(
    folder: Path, arm: str, judged: Mapping[str, Pairs], seeds: int
) -> dict[str, np.ndarray[Any, Any]]:
    found = [read_scores(folder, seed, arm, judged) for seed in range(seeds)]
    return {part: np.mean([each[part][:, 0] for each in found], axis=0) for part in judged}


def _opened(store: RegionStore) -> Any:
    return sparse.csr_matrix(np.asarray(store.is_open, bool).T.astype(np.float32))


def _sparse(
    store: RegionStore, judged: Mapping[str, Pairs], values: Mapping[str, np.ndarray[Any, Any]]
) -> Any:
    """(C, R); the parts of an evaluation have no pair in common."""
    cells = np.concatenate([pairs.cell_N for pairs in judged.values()])
    rows = np.concatenate([pairs.row_N for pairs in judged.values()])
    data = np.concatenate([values[part] for part in judged]).astype(np.float32)
    shape = (store.cells.height, store.regions.height)
    return sparse.csr_matrix((data, (cells, rows)), shape=shape)
