"""Metrics of real-valued scores, computed for many weightings of the examples at once.

Every metric is larger for a better score. Shapes: N examples, T outputs, C classes, B weightings,
G blocks. A bootstrap draw is a weighting: how often each example was drawn. Labels may also come
as B copies, which serves the permutation null. NaN is a label that was not measured; it is left
out of its output. With several outputs the metric is the mean over those that are defined.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError, nearest
from cislens.evaluation.moments import ADDITIVE, block_sums
from cislens.evaluation.ordering import Order, auprc, auroc, log_odds, spearman

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_CHUNK = 100_000  # numbers in an intermediate array: larger ones fall out of the cache

_ORDERED: dict[str, Callable[[Any, Any, Any], Array]] = {
    "auroc": auroc,
    "auprc": auprc,
    "macro_auroc": auroc,  # of each class against the others
    "spearman": spearman,
}
METRICS = (*_ORDERED, *ADDITIVE)
RANKING = frozenset({"auroc", "auprc", "macro_auroc", "within_auroc", "mrr", "site_auprc"})
GROUPED = frozenset({"within_auroc", "mrr"})  # computed inside matched sets
CLASSIFYING = frozenset({"mcc", "accuracy"})  # with one score per class, y is the class number


def metric_value(
    name: str,
    y: npt.ArrayLike,
    scores: npt.ArrayLike,
    group_N: Indices | None = None,
) -> float:
    """One metric over all examples; y and scores are (N,) or (N, T).

    Raises:
        CislensError: for an unknown metric, an undefined value (one class only, no variance), or
            hard labels handed to a ranking metric.
    """
    y_NT, s_NT = as_columns(y), as_columns(scores)
    check_scores(name, s_NT)
    value = float(metric_draws(name, y_NT, s_NT, np.ones((1, len(y_NT))), group_N)[0])
    if not np.isfinite(value):
        raise CislensError(
            f"{name} is undefined here: {len(y_NT)} examples with {len(np.unique(y_NT))} distinct "
            "labels; both classes, or labels that vary, are needed."
        )
    return value


def metric_draws(
    name: str,
    y_NT: Array,
    s_NT: Array,
    w_BN: Array,
    group_N: Indices | None = None,
    block_N: Indices | None = None,
) -> Array:
    """The metric under each weighting, (B,); NaN where it is undefined.

    Args:
        name: one of `METRICS`.
        y_NT: labels, or (B, N, T) when they differ between weightings; for several classes
            (N, 1), the number of the class.
        s_NT: real scores; logits for classes, (N, C) where there are more than two.
        w_BN: weights of the examples, or (1, N) when they do not differ; with `block_N` the
            weights of the blocks, (B, G).
        group_N: the matched set of each example, for the metrics of `GROUPED`. Members of a set
            weigh the same.
        block_N: the block of each example, 0-based.
    """
    if name not in METRICS:
        raise CislensError(f"unknown metric {name!r}. {nearest(name, METRICS)}")
    if name in GROUPED and group_N is None:
        raise CislensError(f"{name} is computed within matched sets, and there are none.")
    s_NT = np.asarray(s_NT, dtype=np.float64)
    check_shapes(name, y_NT, s_NT)
    with np.errstate(divide="ignore", invalid="ignore"):
        if name in ADDITIVE:
            value_BT = _of_sums(name, y_NT, s_NT, w_BN, group_N, block_N)
        else:
            value_BT = _of_order(name, y_NT, s_NT, w_BN, block_N)
    return _mean_output(value_BT)


def check_scores(name: str, s_NT: Array) -> None:
    """Refuse what a ranking metric cannot judge: hard labels and non-finite scores."""
    if not np.isfinite(s_NT).all():
        raise CislensError(
            f"{name}: {int((~np.isfinite(s_NT)).sum())} of {s_NT.size} scores are not finite."
        )
    if name not in RANKING or s_NT.size <= 2:
        return
    values = np.unique(s_NT)
    # Logits of a feature with two values, such as one of two lengths, are no whole numbers.
    if len(values) == 2 and (values == np.round(values)).all():
        raise CislensError(
            f"{name} needs real scores and got only {values[0]:g} and {values[1]:g}, hard labels; "
            "give logits or probabilities."
        )


def check_shapes(name: str, y_NT: Array, s_NT: Array) -> None:
    """Refuse scores whose number of outputs does not fit the labels and the metric."""
    outputs, scores = y_NT.shape[-1], s_NT.shape[1]
    by_class = scores > 1 and outputs == 1
    if name == "macro_auroc":
        fits = by_class
    elif name in GROUPED:
        fits = outputs == scores == 1
    else:
        fits = outputs == scores or (by_class and name in CLASSIFYING)
    if not fits or y_NT.shape[-2] != len(s_NT):
        raise CislensError(
            f"{name} cannot hold scores of shape {s_NT.shape} against labels of shape "
            f"{y_NT.shape[-2:]}."
        )


def as_columns(values: npt.ArrayLike) -> Array:
    """(N,) or (N, T) as float64 (N, T)."""
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array


def _of_sums(
    name: str, y: Array, s_NT: Array, w: Array, group_N: Indices | None, block_N: Indices | None
) -> Array:
    """Value of each output (B, T) from weighted sums of the examples' moments."""
    moments, finish = ADDITIVE[name]
    if y.ndim == 2:
        m_NTJ = moments(y, s_NT, group_N)
        flat = m_NTJ.reshape(len(s_NT), -1)
        if block_N is not None:
            flat = block_sums(flat, block_N, w.shape[1])
        return finish((w @ flat).reshape(len(w), *m_NTJ.shape[1:]))
    step = max(1, _CHUNK // (6 * s_NT.size))
    parts = []
    for start in range(0, len(y), step):
        m_BNTJ = moments(y[start : start + step], s_NT, group_N)
        here = _weights(w, start, step, block_N)
        parts.append(finish(np.einsum("bn,bntj->btj", here, m_BNTJ) if len(here) > 1 else
                            np.tensordot(here[0], m_BNTJ, (0, 1))))  # fmt: skip
    return np.concatenate(parts)


def _of_order(name: str, y: Array, s_NT: Array, w: Array, block_N: Indices | None) -> Array:
    """Value of each output or class (B, T) from the order of its scores."""
    if name == "macro_auroc":
        y = np.where(np.isfinite(y), y == np.arange(s_NT.shape[1]), np.nan)
        s_NT = log_odds(s_NT)
    draws = max(len(w), len(y) if y.ndim == 3 else 1)
    step = max(1, _CHUNK // len(s_NT))
    value_BT = np.empty((draws, s_NT.shape[1]))
    for t in range(s_NT.shape[1]):
        labels, scores, block = y[..., t], s_NT[:, t], block_N
        columns = w
        if y.ndim == 2 and not np.isfinite(labels).all():
            # Fixed gaps are cut out; those that differ between draws get no weight.
            keep = np.flatnonzero(np.isfinite(labels))
            labels, scores = labels[keep], scores[keep]
            if block_N is None:
                columns = w[:, keep]
            else:
                block = block_N[keep]
        order = Order.of(scores)
        fixed = Order.of(labels) if name == "spearman" and y.ndim == 2 else labels
        for start in range(0, draws, step):
            here, mine = _weights(columns, start, step, block), fixed
            if y.ndim == 3:
                mine = labels[start : start + step]
                measured = np.isfinite(mine)
                here, mine = here * measured, np.where(measured, mine, 0.0)
            value_BT[start : start + step, t] = _ORDERED[name](mine, order, here)
    return value_BT


def _weights(w: Array, start: int, step: int, block_N: Indices | None) -> Array:
    """Weights of the examples in one chunk of draws; a single weighting serves all."""
    rows = w[start : start + step] if len(w) > 1 else w
    return rows if block_N is None else np.take(rows, block_N, axis=1)


def _mean_output(value_BT: Array) -> Array:
    if value_BT.shape[1] == 1:
        return value_BT[:, 0]
    defined = np.isfinite(value_BT)
    total = np.where(defined, value_BT, 0.0).sum(1)
    count = defined.sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
