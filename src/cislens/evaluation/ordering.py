"""Metrics of the order of scores, under many weightings of the examples.

Each function takes one output: labels y, (N,) or (B, N), 0 where weightings leave the example
out; the order of its scores; weights w, (B, N) or (1, N). It gives (B,), NaN where the labels
leave the value undefined. A weight of 2 is an example that was drawn twice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Order:
    """Values from the lowest; equal values make one step.

    Attributes:
        rows: examples in that order.
        first, last: for each example, how many lie below its step, and below the next one.
    """

    rows: Rows
    first: Rows
    last: Rows

    @classmethod
    def of(cls, values_N: Array) -> "Order":
        rows = np.argsort(values_N, kind="stable")
        ranked = values_N[rows]
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        ends = np.append(starts[1:], len(rows))
        first, last = np.empty_like(rows), np.empty_like(rows)
        first[rows] = np.repeat(starts, ends - starts)
        last[rows] = np.repeat(ends, ends - starts)
        return cls(rows, first, last)

    def below(self, w: Array) -> Array:
        """Weight of the first k examples, (B, N + 1)."""
        sums = np.zeros((len(w), len(self.rows) + 1))
        np.cumsum(np.take(w, self.rows, axis=1), axis=1, out=sums[:, 1:])
        return sums

    def midranks(self, w: Array, of: Rows | None = None) -> Array:
        """Mid-ranks, less one half, in a sample that has each example as often as its weight."""
        below = self.below(w)
        first, last = (self.first, self.last) if of is None else (self.first[of], self.last[of])
        rank = np.take(below, first, axis=1)
        rank += np.take(below, last, axis=1)
        rank /= 2
        return rank


def auroc(y: Array, order: Order, w: Array) -> Array:
    """Share of pairs of a positive and a negative in the right order; a tie counts one half."""
    if y.ndim == 1:
        rows = np.flatnonzero(y)
        positive, rank = np.take(w, rows, axis=1), order.midranks(w, rows)
    else:
        positive, rank = w * y, order.midranks(w)
    positives = positive.sum(-1)
    wins = _dot(positive, rank) - positives**2 / 2
    area: Array = wins / (positives * (w.sum(-1) - positives))
    return area


def auprc(y: Array, order: Order, w: Array) -> Array:
    """Average precision: precision at each threshold weighted by the recall it adds."""
    below = order.below(w)
    if y.ndim == 1:
        # Only positives are needed: `before` counts those among the first k examples.
        rows = order.rows[np.flatnonzero(y[order.rows])]
        before = np.append(0, np.cumsum(y[order.rows])).astype(np.intp)
        positive = np.take(w, rows, axis=1)
        lower = np.zeros((len(w), len(rows) + 1))
        np.cumsum(positive, axis=1, out=lower[:, 1:])
        first, step = order.first[rows], before[order.first[rows]]
    else:
        positive = w * y
        lower = order.below(positive)
        first = step = order.first
    above = below[:, -1:] - np.take(below, first, axis=1)
    true = lower[:, -1:] - np.take(lower, step, axis=1)
    # Where nothing lies above there is no positive either.
    precision = np.divide(true, above, out=np.zeros_like(true), where=above > 0)
    value: Array = _dot(positive, precision) / lower[:, -1]
    return value


def spearman(y: Array | Order, order: Order, w: Array) -> Array:
    """Correlation of mid-ranks, ranked anew under each weighting; 0 where scores are constant.

    Args:
        y: labels, (B, N), or the order of labels that do not differ.
    """
    total = w.sum(-1, keepdims=True)
    if isinstance(y, Order):
        rank_y = y.midranks(w)
    else:
        rows = range(max(len(y), len(w)))
        each = [Order.of(y[b % len(y)]).midranks(w[b % len(w)][None]) for b in rows]
        rank_y = np.concatenate(each)
    # Mid-ranks have a mean of half the total weight, whatever the ties.
    rank_y -= total / 2
    rank_s = order.midranks(w)
    rank_s -= total / 2
    weighted = w * rank_s
    vary_s, covariance = _dot(weighted, rank_s), _dot(weighted, rank_y)
    np.multiply(rank_y, rank_y, out=rank_y)
    vary_y = _dot(w, rank_y)
    least = 1e-12 * total[:, 0] ** 3
    flat = vary_s <= least
    value = covariance / np.sqrt(vary_y * np.where(flat, 1.0, vary_s))
    return np.where(vary_y > least, np.where(flat, 0.0, value), np.nan)


def log_odds(s_NC: Array) -> Array:
    """Log-odds of each class against the others under the softmax of the logits, (N, C)."""
    classes = range(s_NC.shape[1])
    return np.stack([s_NC[:, c] - logsumexp(np.delete(s_NC, c, 1), axis=1) for c in classes], 1)


def _dot(a: Array, b: Array) -> Array:
    product: Array = np.einsum("...k,...k->...", a, b)
    return product
