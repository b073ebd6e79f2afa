"""Numbers from the signals of two alleles.

Dimensions: n variant, N bin, T track, D embedding channel.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cislens.effects.alleles import embedding_distances

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

ALL, CENTER, TSS = "", "_center", "_tss"
DISTANCES = ("l1", "l2", "cosine")
LLR = "llr"


def names_by_track(center: bool, tss: bool) -> tuple[str, ...]:
    """Names of the scores of tracks, in the order of tables."""
    places = (ALL, *((CENTER,) if center else ()), *((TSS,) if tss else ()))
    sums = [f"{kind}{place}" for place in places for kind in ("log_fold", "difference")]
    return (*sums, "profile_l2")


def track_measures(
    ref_nNT: Values, alt_nNT: Values, masks: Mapping[str, Mask | None]
) -> dict[str, Values]:
    """Scores (n, T) of the alternate allele against the reference.

    `log_fold` is log((1 + alt) / (1 + ref)) and `difference` alt - ref, of sums over bins: those
    of each mask (n, N), all for None; NaN where a mask holds none. `profile_l2` is the root of
    the sum of (alt - ref)^2 over all bins. Equal signals give exactly 0.
    """
    found: dict[str, Values] = {}
    for place, mask_nN in masks.items():
        ref_nT, alt_nT = _sums(ref_nNT, mask_nN), _sums(alt_nNT, mask_nN)
        found[f"log_fold{place}"] = (np.log1p(alt_nT) - np.log1p(ref_nT)).astype(np.float32)
        found[f"difference{place}"] = (alt_nT - ref_nT).astype(np.float32)
    change = alt_nNT.astype(np.float64) - ref_nNT
    found["profile_l2"] = np.sqrt(np.einsum("xnt,xnt->xt", change, change)).astype(np.float32)
    return found


def vector_measures(ref_nND: Values, alt_nND: Values) -> dict[str, Values]:
    """`embedding_l1`, `_l2` and `_cosine` (n,) of all bins' vectors taken as one."""
    distances = embedding_distances(ref_nND, alt_nND)
    return {f"embedding_{name}": distances[name] for name in DISTANCES}


def _sums(values_nNT: Values, mask_nN: Mask | None) -> npt.NDArray[np.float64]:
    sums: npt.NDArray[np.float64]
    if mask_nN is None:
        sums = values_nNT.sum(1, dtype=np.float64)
        return sums
    sums = np.einsum("xnt,xn->xt", values_nNT.astype(np.float64), mask_nN.astype(np.float64))
    sums[~mask_nN.any(1)] = np.nan
    return sums
