"""Metrics of the order of scores, under many weightings of the examples.

Each function takes one output: labels y, (N,) or (B, N), 0 where weightings leave the example
out; scores s_N; weights w, (B, N) or (1, N). It gives (B,), NaN where the labels leave the value
undefined. A weight of 2 is an example that was drawn twice.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


def auroc(y: Array, s_N: Array, w: Array) -> Array:
    """Share of pairs of a positive and a negative in the right order; a tie counts one half."""
    true, false = _steps(y, s_N, w)
    above = np.cumsum(true, axis=-1)
    wins = np.einsum("...k,...k->...", false, above) - _dot(false, true) / 2
    area: Array = wins / (above[..., -1] * false.sum(-1))
    return area


def auprc(y: Array, s_N: Array, w: Array) -> Array:
    """Average precision: precision at each threshold weighted by the recall it adds."""
    true, false = _steps(y, s_N, w)
    above = np.cumsum(true, axis=-1)
    all_ = np.cumsum(false, axis=-1)
    all_ += above
    precision = np.divide(above, all_, out=np.zeros_like(above), where=all_ > 0)
    value: Array = _dot(true, precision) / above[..., -1]
    return value


def spearman(y: Array, s_N: Array, w: Array) -> Array:
    """Correlation of mid-ranks, ranked anew under each weighting; 0 where scores are constant."""
    total = w.sum(-1, keepdims=True)
    rank_s = _midranks(s_N, w) - total / 2
    if y.ndim == 1:
        rank_y = _midranks(y, w) - total / 2
    else:
        rows = range(max(len(y), len(w)))
        each = [_midranks(y[b % len(y)], w[b % len(w)][None]) for b in rows]
        rank_y = np.concatenate(each) - total / 2
    # Mid-ranks have a mean of half the total weight, whatever the ties.
    weighted = w * rank_y
    vary_y, vary_s = _dot(weighted, rank_y), _dot(w, rank_s**2)
    flat = vary_s <= 1e-12 * total[..., 0] ** 3
    value = _dot(weighted, rank_s) / np.sqrt(vary_y * np.where(flat, 1.0, vary_s))
    defined = vary_y > 1e-12 * total[..., 0] ** 3
    return np.where(defined, np.where(flat, 0.0, value), np.nan)


def log_odds(s_NC: Array) -> Array:
    """Log-odds of each class against the others under the softmax of the logits, (N, C)."""
    classes = range(s_NC.shape[1])
    return np.stack([s_NC[:, c] - logsumexp(np.delete(s_NC, c, 1), axis=1) for c in classes], 1)


def _steps(y: Array, s_N: Array, w: Array) -> tuple[Array, Array]:
    """Weight of the positives and negatives at each distinct score, from the highest, (B, K)."""
    order = np.argsort(-s_N, kind="stable")
    ranked = np.take(w, order, axis=-1)
    true = ranked * y[..., order]
    false = ranked - true
    starts = _starts(s_N[order])
    if len(starts) < len(order):
        true, false = (np.add.reduceat(values, starts, axis=-1) for values in (true, false))
    return true, false


def _midranks(values_N: Array, w: Array) -> Array:
    """Mid-ranks (less one half) in a sample that has each value as often as its weight, (B, N)."""
    order = np.argsort(values_N, kind="stable")
    ranked = np.take(w, order, axis=-1)
    starts = _starts(values_N[order])
    home = np.empty_like(order)
    if len(starts) < len(order):
        ranked = np.add.reduceat(ranked, starts, axis=-1)
        home[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    else:
        home[order] = np.arange(len(order))
    rank = np.cumsum(ranked, axis=-1)
    rank -= ranked / 2
    return np.take(rank, home, axis=-1)


def _starts(ranked_N: Array) -> Rows:
    """Where a new value begins."""
    return np.flatnonzero(np.append(True, ranked_N[1:] != ranked_N[:-1]))


def _dot(a: Array, b: Array) -> Array:
    product: Array = np.einsum("...k,...k->...", a, b)
    return product
