"""That no arm is told what it is asked: tried on pairs whose answer is changed.

If the region were open where it is closed, and much more accessible, an arm that reads nothing of
that gives the very same features.
"""

import copy
from collections.abc import Callable

import numpy as np

from cislens.errors import CislensError
from cislens.evaluation.cells.examples import Pairs
from cislens.evaluation.cells.features import FeaturesOf
from cislens.motifs.store import RegionStore

_TRIED = 3  # pairs of either class
_SHIFT = 5.0  # standard deviations of accessibility


def require_blind(name: str, make: Callable[[RegionStore], FeaturesOf], pairs: Pairs,
                  store: RegionStore) -> None:  # fmt: skip
    """Refuse an arm whose features of a pair depend on the pair's own openness.

    Args:
        make: the arm's features of a store.

    Raises:
        CislensError: naming the arm and the first such pair.
    """
    features = make(store)
    for state in (0, 1):
        at = np.flatnonzero(pairs.open_N == state)
        for number in at[np.linspace(0, len(at) - 1, min(_TRIED, len(at))).astype(np.int64)]:
            row, cell = int(pairs.row_N[number]), int(pairs.cell_N[number])
            one = Pairs(*(np.array([value]) for value in (row, cell, state, 0)))
            changed = make(otherwise(store, row, cell))
            if not np.array_equal(features(one), changed(one)):
                raise CislensError(
                    f"{name} knows how open region {store.regions['region_id'][row]} is in "
                    f"{store.cells['cell_id'][cell]}, which is what it is asked: its features "
                    "change with it. Nothing it scores would mean anything."
                )


def otherwise(store: RegionStore, row: int, cell: int) -> RegionStore:
    """The store if one region were open where it is closed, or closed where it is open."""
    changed = copy.copy(store)
    is_open, access = np.array(store.is_open), np.array(store.access)
    is_open[row, cell] ^= True
    access[row, cell] += _SHIFT if is_open[row, cell] else -_SHIFT
    # Both are properties that are computed once and then kept under their names.
    changed.__dict__ |= {"is_open": is_open, "access": access}
    return changed
