"""Error rates of many comparisons, and what a test set can find at all."""

from math import ceil, inf

import numpy as np
import numpy.typing as npt
from scipy import stats

from cislens.errors import CislensError
from cislens.evaluation.metrics import Array
from cislens.evaluation.statistics import Contrast

ALPHA = 0.05
POWER = 0.8


def holm(p: npt.ArrayLike) -> Array:
    """Holm's step-down adjustment of p-values, in their own order."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factor = len(p) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factor))
    return adjusted


def minimum_detectable(se: float, family: int = 1, df: float = inf, alpha: float = ALPHA) -> float:
    """The true difference that would be found with 80 % power by a test at alpha / family.

    2.80 standard errors for one comparison at 5 %, more where the error is known by few degrees
    of freedom.
    """
    reach = stats.t(df) if np.isfinite(df) else stats.norm
    return float((reach.ppf(1 - alpha / family / 2) + reach.ppf(POWER)) * se)


def blocks_needed(contrast: Contrast, blocks: int, delta: float, family: int = 1) -> float:
    """How many blocks a test set needs to find a difference of delta with 80 % power.

    Blocks reduce the part of the error that comes from examples; inf where the noise of the
    seeds alone is too large, so that more seeds are needed first.
    """
    if delta <= 0:
        raise CislensError(f"delta is {delta:g}; give a difference above 0.")
    target = delta / minimum_detectable(1.0, family)
    room = target**2 - contrast.se_seeds**2
    return inf if room <= 0 else float(max(2, ceil(blocks * contrast.se_examples**2 / room)))


def corrected_resampled(differences: npt.ArrayLike, test_share: float) -> Contrast:
    """Mean difference over outer folds, whose training sets overlap (Nadeau & Bengio 2003).

    Args:
        differences: metric of the arm minus that of the baseline, one per fold; raw scores are
            never pooled over folds.
        test_share: test examples of a fold divided by its training examples.

    Returns:
        A contrast with the variance (1 / J + test_share) s^2 and J - 1 degrees of freedom.
    """
    values = np.asarray(differences, dtype=np.float64)
    folds = len(values)
    if folds < 2:
        raise CislensError(f"{folds} fold; a variance over folds needs at least two.")
    point, df = float(values.mean()), folds - 1
    se = float(values.std(ddof=1) * np.sqrt(1 / folds + test_share))
    wide, narrow = stats.t(df).ppf(0.975) * se, stats.t(df).ppf(0.95) * se
    p = float(2 * stats.t(df).sf(abs(point) / se)) if se > 0 else float(point == 0)
    return Contrast(
        point, point - wide, point + wide, point - narrow, point + narrow, se, se, 0.0, df, p
    )
