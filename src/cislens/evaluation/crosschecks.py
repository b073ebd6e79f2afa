"""Textbook tests of one difference on single examples: naive to blocks and to training noise.

They are printed beside the block bootstrap to show what it changes, and never decide.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from cislens.evaluation.metrics import Array
from cislens.evaluation.statistics import Predictions


def delong(y_N: Array, one_N: Array, two_N: Array) -> float:
    """p-value of a difference of two AUROCs (DeLong, DeLong & Clarke-Pearson 1988).

    Fast form with mid-ranks after Sun & Xu (2014). Labels are 0 or 1.
    """
    positive = y_N == 1
    m, n = int(positive.sum()), int((~positive).sum())
    of_positives, of_negatives = [], []
    for score in (one_N, two_N):
        rank = stats.rankdata(score)
        wins = rank[positive] - stats.rankdata(score[positive])  # negatives below each positive
        losses = m - (rank[~positive] - stats.rankdata(score[~positive]))
        of_positives.append(wins / n)
        of_negatives.append(losses / m)
    # Each example's share in the difference.
    v10, v01 = np.subtract(*of_positives), np.subtract(*of_negatives)
    variance = v10.var(ddof=1) / m + v01.var(ddof=1) / n
    return _two_sided(float(v10.mean()), float(variance))


def williams(y_N: Array, one_N: Array, two_N: Array) -> float:
    """p-value of a difference of two correlations with one variable (Williams 1959).

    The form that Steiger (1980, eq. 7) recommends, t with n - 3 degrees of freedom.
    """
    n = len(y_N)
    r_y1, r_y2, r_12 = (
        float(np.corrcoef(a, b)[0, 1]) for a, b in ((y_N, one_N), (y_N, two_N), (one_N, two_N))
    )
    determinant = 1 - r_y1**2 - r_y2**2 - r_12**2 + 2 * r_y1 * r_y2 * r_12
    mean = (r_y1 + r_y2) / 2
    variance = 2 * (n - 1) / (n - 3) * determinant + mean**2 * (1 - r_12) ** 3
    if variance <= 0:
        return 1.0
    t = (r_y1 - r_y2) * np.sqrt((n - 1) * (1 + r_12) / variance)
    return float(2 * stats.t(n - 3).sf(abs(t)))


def mcnemar(y_N: Array, one_NC: Array, two_NC: Array) -> float:
    """Exact p-value of a difference of two accuracies (McNemar 1947, binomial form)."""
    right_one, right_two = (_said(score) == y_N for score in (one_NC, two_NC))
    one, two = int((right_one & ~right_two).sum()), int((right_two & ~right_one).sum())
    return float(stats.binomtest(one, one + two).pvalue) if one + two else 1.0


_TESTS: dict[str, tuple[str, Callable[[Array, Array, Array], float]]] = {
    "auroc": ("DeLong", delong),
    "pearson": ("Williams", williams),
    "accuracy": ("McNemar", mcnemar),
}


def naive_test(
    predictions: Predictions, metric: str, arm: str, baseline: str
) -> tuple[str, float] | None:
    """Name and p-value (median over the seeds) of the metric's textbook test, if it has one.

    Only for one output; examples without a label are left out.
    """
    if metric not in _TESTS or predictions.y_NT.shape[1] > 1:
        return None
    name, test = _TESTS[metric]
    y = predictions.y_NT[:, 0]
    keep = np.isfinite(y)
    one, two = (
        predictions.scores_MRNT[predictions.arms.index(each)][:, keep].astype(np.float64)
        for each in (arm, baseline)
    )
    if metric != "accuracy":
        one, two = one[..., 0], two[..., 0]
    return name, float(np.median([test(y[keep], a, b) for a, b in zip(one, two, strict=True)]))


def _said(score_NC: Array) -> Array:
    """The class that the scores choose."""
    one = score_NC.shape[1] == 1
    said = score_NC[:, 0] > 0 if one else score_NC.argmax(1)
    return np.asarray(said, dtype=np.float64)


def _two_sided(difference: float, variance: float) -> float:
    if variance <= 0:
        return float(difference == 0)
    return float(2 * stats.norm.sf(abs(difference) / np.sqrt(variance)))
