"""Pairs of a region and a cell type: is the region open there?

Dimensions: N pair, R region of the store, C cell type.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.motifs.store import RegionStore
from cislens.randomness import generator

Ints = npt.NDArray[np.int64]

# What is new about the pairs of a part: (part of the regions, part of the cell types).
PARTS: Mapping[str, tuple[str, str]] = {
    "train": ("train", "train"),
    "valid": ("valid", "train"),
    "new regions": ("test", "train"),
    "new cell types": ("train", "test"),
    "new regions and cell types": ("test", "test"),
}
JUDGED = tuple(PARTS)[2:]


@dataclass(frozen=True)
class Pairs:
    """Pairs of one part.

    Attributes:
        row_N, cell_N: rows of the region and of the cell type in the store.
        open_N: 1 where the region is open in the cell type, else 0.
        block_N: 0-based number of the region's stretch of the genome.
    """

    row_N: Ints
    cell_N: Ints
    open_N: Ints
    block_N: Ints

    def __len__(self) -> int:
        return len(self.row_N)


def draw_pairs(store: RegionStore, part: str, limit: int, seed: int) -> Pairs:
    """At most `limit` pairs of a part of `PARTS`, each drawn with equal chance, in store order.

    Raises:
        CislensError: if the part has no region, no cell type, or pairs of one class alone.
    """
    of_regions, of_cells = PARTS[part]
    rows = np.flatnonzero((store.regions["split"] == of_regions).to_numpy())
    cells = np.flatnonzero((store.cells["split"] == of_cells).to_numpy())
    if not len(rows):
        raise CislensError(f"region store {store.path} has no {of_regions} region.")
    if not len(cells):
        raise CislensError(
            f"region store {store.path} holds no cell type back for {of_cells}; build it with "
            f"`split: {{{of_cells}_cells: [...]}}`."
        )
    every = len(rows) * len(cells)
    chosen = np.arange(every)
    if every > limit:
        chosen = np.sort(generator(seed, "pairs", part).permutation(every)[:limit])
    row_N, cell_N = rows[chosen // len(cells)], cells[chosen % len(cells)]
    open_N = np.asarray(store.open)[row_N, cell_N].astype(np.int64)
    if open_N.min() == open_N.max():
        state = "open" if open_N.max() else "closed"
        raise CislensError(
            f"region store {store.path}: all {len(open_N)} pairs of {part!r} are {state}, so "
            "nothing can be told apart; with one cell type every region is open in it."
        )
    block_N = np.unique(store.regions["block"].to_numpy()[row_N], return_inverse=True)[1]
    return Pairs(row_N, cell_N, open_N, block_N.astype(np.int64))
