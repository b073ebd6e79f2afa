"""Views of windows, as arrays.

Dimensions: V view, B window, L base pair of a view, P of a parent window.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import Codes

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Views:
    """V views of one length of each of B windows, in the orientation in which they are read.

    Attributes:
        codes_VBL: what may be shown: N where hidden, other bases where replaced.
        hidden_VBL: bases of which nothing may be seen.
        scored_VBL: bases to be told: hidden, replaced or left; never N.
        target_VBL: the bases themselves; what a teacher reads.
        repeat_VBL: soft-masked bases.
        place_VBL: int32 position in the parent window of each base of a view; -1 where a base
            was inserted. Falls along a view that is turned.
        turned_VB: the view is the reverse complement.
    """

    codes_VBL: Codes
    hidden_VBL: Bools
    scored_VBL: Bools
    target_VBL: Codes
    repeat_VBL: Bools
    place_VBL: npt.NDArray[np.int32]
    turned_VB: Bools


@dataclass(frozen=True)
class SequenceBatch:
    """B parent windows and their views.

    Attributes:
        whole: the global views.
        local: the local views, nothing of which is hidden; None without any.
        parent_BP: the windows as the genome has them.
        repeat_B: float32 share of soft-masked bases of a window.
        label_B: int8, 1 if the window's center lies near an interval of the probe, 0 if not, -1
            where the store knows of none.
        species_B: index into the store's `species`.
        chrom_B, start_B: where the windows lie: index into the chromosomes of the species in the
            store's order, and 0-based start.
    """

    whole: Views
    local: Views | None
    parent_BP: Codes
    repeat_B: npt.NDArray[np.float32]
    label_B: npt.NDArray[np.int8]
    species_B: npt.NDArray[np.int64]
    chrom_B: npt.NDArray[np.int64]
    start_B: npt.NDArray[np.int64]
