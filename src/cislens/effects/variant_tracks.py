"""What a model of measured tracks says of a variant: the change of each track's signal.

Dimensions: n variant, N bin, T track.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from cislens.effects.alleles import window_pairs
from cislens.effects.tracks import strand_rates
from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.models.profile import ProfileModel

Values = npt.NDArray[np.float32]


def track_effects(
    model: ProfileModel,
    reference: Sequence[Codes] | Codes,
    alternate: Sequence[Codes] | Codes,
    species: str,
    *,
    how: Literal["log_ratio", "difference"] = "log_ratio",
    bins: int | None = None,
    strand_pair: Sequence[int] | None = None,
    batch_size: int = 8,
) -> Values:
    """Effect (n, T) on each track's predicted signal, summed over the central bins, alt over ref.

    log_ratio is log((1 + alt) / (1 + ref)) of the sums, difference alt - ref; both are signed.

    Args:
        bins: of the predicted ones the central so many are summed; all if None.
        strand_pair: the track that each track becomes on the other strand
            (`TrackTable.strand_permutation`); if given, both strands are averaged.

    Raises:
        CislensError: for windows that do not pair, an unknown species, or more bins than there are.
    """
    ref_nL, alt_nL = window_pairs(reference, alternate)
    pair = None if strand_pair is None else torch.as_tensor(list(strand_pair))
    sums: list[list[Values]] = [[], []]
    for start in range(0, len(ref_nL), batch_size):
        for codes, kept in ((ref_nL, sums[0]), (alt_nL, sums[1])):
            rates_BNT = strand_rates(model, codes[start : start + batch_size], species, pair)
            kept.append(_central(rates_BNT, bins).sum(1, dtype=np.float64))
    ref_nT, alt_nT = (np.concatenate(parts) for parts in sums)
    effect = alt_nT - ref_nT if how == "difference" else np.log1p(alt_nT) - np.log1p(ref_nT)
    return effect.astype(np.float32)


def _central(rates_BNT: Values, bins: int | None) -> Values:
    total = rates_BNT.shape[1]
    if bins is None:
        return rates_BNT
    if not 1 <= bins <= total:
        raise CislensError(f"{bins} central bins were asked for, the model predicts {total}.")
    first = (total - bins) // 2
    return rates_BNT[:, first : first + bins]
