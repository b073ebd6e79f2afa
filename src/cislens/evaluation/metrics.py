"""Metrics of real-valued scores, computed for many weightings of the examples at once.

Every metric is larger for a better score. Shapes: N examples, T outputs, B weightings. A bootstrap
draw is a weighting: how often each example was drawn. Labels may also come as B copies, which
serves the permutation null.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError, nearest

Array = npt.NDArray[np.float64]
_CHUNK = 250_000  # numbers in an intermediate array: larger ones fall out of the cache


def metric_value(name: str, y: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """One metric over all examples; y and scores are (N,) or (N, T).

    Raises:
        CislensError: for an unknown metric, an undefined value (one class only, no variance), or
            hard labels handed to a ranking metric.
    """
    y_NT, s_NT = as_columns(y), as_columns(scores)
    check_scores(name, s_NT)
    value = float(metric_draws(name, y_NT, s_NT, np.ones((1, len(y_NT))))[0])
    if not np.isfinite(value):
        raise CislensError(
            f"{name} is undefined here: {len(y_NT)} examples with {len(np.unique(y_NT))} distinct "
            "labels; both classes, or labels that vary, are needed."
        )
    return value


def metric_draws(name: str, y_NT: Array, s_NT: Array, w_BN: Array) -> Array:
    """The metric under each weighting, (B,); NaN where it is undefined.

    Args:
        name: one of `METRICS`.
        y_NT: labels, or (B, N, T) when they differ between weightings.
        s_NT: real scores; for binary labels they are logits.
        w_BN: weights of the examples, or (1, N) when they do not differ.
    """
    if name not in METRICS:
        raise CislensError(f"unknown metric {name!r}. {nearest(name, METRICS)}")
    draws = max(len(w_BN), len(y_NT) if y_NT.ndim == 3 else 1)
    step = max(1, _CHUNK // max(1, s_NT.size))
    parts = []
    for start in range(0, draws, step):
        rows = slice(start, start + step)
        y = y_NT[rows] if y_NT.ndim == 3 else y_NT
        w = w_BN[rows] if len(w_BN) > 1 else w_BN
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(METRICS[name](y, s_NT, w))
    return np.concatenate(parts)


def check_scores(name: str, s_NT: Array) -> None:
    """Refuse what a ranking metric cannot judge: hard labels and non-finite scores."""
    if not np.isfinite(s_NT).all():
        raise CislensError(
            f"{name}: {int((~np.isfinite(s_NT)).sum())} of {s_NT.size} scores are not finite."
        )
    if name in RANKING and s_NT.size > 2 and len(np.unique(s_NT)) <= 2:
        raise CislensError(
            f"{name} needs real scores and got at most two distinct values, as hard labels have; "
            "give logits or probabilities."
        )


def as_columns(values: npt.ArrayLike) -> Array:
    """(N,) or (N, T) as float64 (N, T)."""
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array


def _thresholds(y: Array, s_NT: Array, w_BN: Array) -> tuple[Array, Array]:
    """Weighted true and false positives at each distinct threshold, from the highest, (B, K)."""
    order = np.argsort(-s_NT[:, 0], kind="stable")
    ranked = s_NT[order, 0]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    positive = y[..., order, 0]
    w = np.take(w_BN, order, axis=1)
    true = np.cumsum(w * positive, axis=-1)[:, last]
    both = np.broadcast_to(np.cumsum(w, axis=-1)[:, last], true.shape)
    return true, both - true


def _auroc(y: Array, s_NT: Array, w_BN: Array) -> Array:
    true, false = _thresholds(y, s_NT, w_BN)
    # Trapezoids over false positives: a tie between classes counts one half.
    width = np.diff(false, axis=-1, prepend=0.0)
    height = true - np.diff(true, axis=-1, prepend=0.0) / 2
    area: Array = (width * height).sum(-1) / (true[:, -1] * false[:, -1])
    return area


def _auprc(y: Array, s_NT: Array, w_BN: Array) -> Array:
    # Average precision: precision at each threshold weighted by the recall it adds.
    true, false = _thresholds(y, s_NT, w_BN)
    total = true + false
    precision = np.where(total > 0, true / np.where(total > 0, total, 1), 0.0)
    value: Array = (np.diff(true, axis=-1, prepend=0.0) * precision).sum(-1) / true[:, -1]
    return value


def _mcc(y: Array, s_NT: Array, w_BN: Array) -> Array:
    # Matthews correlation of the labels with the sign of the logit; 0, as scikit-learn has it,
    # where all signs are equal.
    return np.nan_to_num(_pearson(y, (s_NT > 0).astype(np.float64), w_BN), nan=0.0)


def _pearson(y: Array, s_NT: Array, w_BN: Array) -> Array:
    # Standardizing before the weighted moments keeps them accurate for labels far from zero.
    y, s = _standard(y), _standard(s_NT)
    total = w_BN.sum(-1, keepdims=True)

    def mean(values: Array) -> Array:
        if values.ndim == 2:
            moment: Array = (w_BN @ values) / total
        else:
            moment = (w_BN[:, None, :] @ values)[:, 0] / total
        return moment

    my, ms = mean(y), mean(s)
    covariance = mean(y * s) - my * ms
    variance = (mean(y * y) - my**2) * (mean(s * s) - ms**2)
    # A column without variance has no correlation; rounding may leave a trace of one.
    variance = np.where(variance > 1e-20, variance, np.nan)
    value: Array = (covariance / np.sqrt(variance)).mean(-1)
    return value


def _standard(values: Array) -> Array:
    centered = values - values.mean(axis=-2, keepdims=True)
    scaled: Array = centered / centered.std(axis=-2, keepdims=True)
    return scaled


METRICS: dict[str, Callable[[Any, Any, Any], Array]] = {
    "auroc": _auroc,
    "auprc": _auprc,
    "mcc": _mcc,
    "pearson": _pearson,  # several outputs: the mean of their correlations
}
RANKING = frozenset({"auroc", "auprc"})
