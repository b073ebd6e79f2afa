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
Bools = npt.NDArray[np.bool_]

# What is new about the pairs of a part: (part of the regions, part of the cell types).
PARTS: Mapping[str, tuple[str, str]] = {
    "train": ("train", "train"),
    "valid": ("valid", "train"),
    "new regions": ("test", "train"),
    "new cell types": ("train", "test"),
    "new regions and cell types": ("test", "test"),
}
LEARNED, JUDGED = tuple(PARTS)[:2], tuple(PARTS)[2:]
# A class that lies in fewer blocks would be missing from too many draws of blocks.
_ENOUGH_BLOCKS = 10


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

    @property
    def cells(self) -> Ints:
        """Rows of the cell types that there are pairs of."""
        return np.unique(self.cell_N)

    @property
    def open(self) -> float:
        """Share of open pairs, the mean over cell types: the AUPRC of a score without skill."""
        return float(np.mean([self.open_N[self.cell_N == cell].mean() for cell in self.cells]))


@dataclass(frozen=True)
class Drawn:
    """The pairs of every part that can be judged.

    Attributes:
        parts: name -> pairs; those to learn from first.
        notes: what cannot be judged or is left out, and why.
    """

    parts: dict[str, Pairs]
    notes: list[str]

    @property
    def judged(self) -> dict[str, Pairs]:
        return {part: pairs for part, pairs in self.parts.items() if part in JUDGED}


class Candidates:
    """Which pairs of a store may be asked for.

    Not every pair is a fair question. Where the regions are the peaks of the cell types, one that
    is closed in all others must be open in the last, or it would be no region: so a pair is asked
    for only if the region is open in another training cell type. A cell type may not have been
    measured on a chromosome where nothing else is open in it. And regions that overlap share what
    was measured: a neighbor would tell.

    Attributes:
        allowed_RC: pairs that may be asked for.
        notes: what is left out.
    """

    def __init__(self, store: RegionStore) -> None:
        self.store = store
        self.open_RC: Bools = np.asarray(store.is_open, bool)
        self.regions_C = store.cells["split"].to_numpy()
        self.notes: list[str] = []
        self._stretch_R = store.stretches()
        chrom_R = store.regions["chrom"].rle_id().to_numpy().astype(np.int64)
        open_KC = np.zeros((int(chrom_R.max()) + 1, self.open_RC.shape[1]), np.int64)
        np.add.at(open_KC, chrom_R, self.open_RC)
        self.allowed_RC: Bools = open_KC[chrom_R] > self.open_RC
        if not open_KC.all():
            chroms = store.regions["chrom"].unique(maintain_order=True)
            names = [
                f"{store.cells['cell_id'][int(cell)]} ({chroms[int(chrom)]})"
                for chrom, cell in np.argwhere(open_KC == 0)
            ]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            self.notes.append(
                "Left out, as nothing is open there, so that they may not have been measured: "
                f"{', '.join(names[:5])}{more}."
            )
        crowded_R = _overlapping(store)
        if crowded_R.any():
            self.allowed_RC &= ~crowded_R[:, None]
            self.notes.append(
                f"{int(crowded_R.sum()):,} regions are left out, as they overlap another one, "
                "which shares their signal."
            )
        if made_of_peaks(store):
            trained_C = self.regions_C == "train"
            count_R1 = self.open_RC[:, trained_C].sum(1, keepdims=True)
            self.allowed_RC &= count_R1 - (self.open_RC & trained_C) > 0
            self.notes.append(
                "The regions are peaks of the cell types themselves: one that is closed in all "
                "others is open in the last. So a pair is asked for only if the region is open in "
                "another training cell type."
            )

    def draw(self, part: str, limit: int, seed: int) -> Pairs:
        """At most `limit` pairs of a part of `PARTS`, each with equal chance, in store order.

        To judge on there are none of cell types with too little of either class.

        Raises:
            CislensError: if the part has no region, no cell type, or no pair of either class that
                can be judged.
        """
        of_regions, of_cells = PARTS[part]
        store = self.store
        rows = np.flatnonzero((store.regions["split"] == of_regions).to_numpy())
        cells = np.flatnonzero(self.regions_C == of_cells)
        if not len(rows):
            raise CislensError(f"Region store {store.path} has no {of_regions} region.")
        if not len(cells):
            raise CislensError(
                f"Region store {store.path} holds no cell type back for {of_cells}; build it "
                f"with `split: {{{of_cells}_cells: [...]}}`."
            )
        possible = np.flatnonzero(self.allowed_RC[np.ix_(rows, cells)])
        if len(possible) > limit:
            chosen = generator(seed, "pairs", part).choice(
                possible, limit, replace=False, shuffle=False
            )
            possible = np.sort(chosen)
        row_N, cell_N = rows[possible // len(cells)], cells[possible % len(cells)]
        pairs = self._pairs(row_N, cell_N)
        kept = np.ones(len(pairs), bool)
        if part in JUDGED:
            kept = np.isin(cell_N, [cell for cell in pairs.cells if _tellable(pairs, int(cell))])
        if len(np.unique(pairs.open_N[kept])) < 2:
            raise CislensError(
                f"Region store {store.path} has {len(pairs):,} pairs of a {of_regions} region and "
                f"a {of_cells} cell type to ask for, {int(pairs.open_N.sum()):,} of them open; "
                "open and closed ones are needed in several stretches of the genome."
            )
        return self._pairs(row_N[kept], cell_N[kept])

    def _pairs(self, row_N: Ints, cell_N: Ints) -> Pairs:
        open_N = self.open_RC[row_N, cell_N].astype(np.int64)
        block_N = np.unique(self._stretch_R[row_N], return_inverse=True)[1]
        return Pairs(row_N, cell_N, open_N, block_N.astype(np.int64))


def draw_parts(candidates: Candidates, limit: int, seed: int) -> Drawn:
    """The pairs of every part that can be judged, and of those to learn from.

    Raises:
        CislensError: if there is but one training cell type, nothing to learn from, or nothing
            to judge on.
    """
    store = candidates.store
    trained = int((candidates.regions_C == "train").sum())
    if trained < 2:
        raise CislensError(
            f"Region store {store.path} has {trained} training cell type, so nothing tells what "
            "differs between cell types; build it with two or more, better with ten."
        )
    parts = {part: candidates.draw(part, limit, seed) for part in LEARNED}
    notes = list(candidates.notes)
    held_out = int((candidates.regions_C == "test").sum())
    for part in JUDGED:
        if PARTS[part][1] == "test" and not held_out:
            continue
        try:
            parts[part] = candidates.draw(part, limit, seed)
        except CislensError as problem:
            notes.append(f"Not judged: {part}. {problem}")
            continue
        asked = len(parts[part].cells)
        there = held_out if PARTS[part][1] == "test" else trained
        if asked < there:
            notes.append(
                f"{part}: {there - asked} of {there} cell types are left out, which have open or "
                "closed regions in too few stretches of the genome."
            )
    if not held_out:
        notes.append(
            "No cell type was held back, so only new regions of known cell types are judged; for "
            "new ones build the store with `split: {test_cells: [...]}`."
        )
    if len(parts) == len(LEARNED):
        raise CislensError(
            f"Region store {store.path} has nothing to judge on. {' '.join(notes)} Use more "
            "regions, more cell types, or a list of `regions` that no peak was needed for."
        )
    return Drawn(parts, notes)


def made_of_peaks(store: RegionStore) -> bool:
    """Whether a region is there because it is open somewhere, and not from a list of its own."""
    given = "regions_file" in store.manifest.get("regions", {}).get("read", {})
    return not given or bool(np.asarray(store.is_open).any(1).all())


def _overlapping(store: RegionStore) -> Bools:
    """Regions that overlap another one of the store (R,)."""
    same = (store.regions["chrom"] == store.regions["chrom"].shift(1)).fill_null(False).to_numpy()
    start, end = store.regions["start"].to_numpy(), store.regions["end"].to_numpy()
    first = np.zeros(len(start), bool)
    first[1:] = same[1:] & (start[1:] < end[:-1])
    return np.asarray(first | np.append(first[1:], False))


def _tellable(pairs: Pairs, cell: int) -> bool:
    """Whether draws of blocks nearly all have both classes of the cell type."""
    blocks = int(pairs.block_N.max()) + 1
    least = max(2, min(_ENOUGH_BLOCKS, blocks // 2))
    return all(
        len(np.unique(pairs.block_N[(pairs.cell_N == cell) & (pairs.open_N == state)])) >= least
        for state in (0, 1)
    )
