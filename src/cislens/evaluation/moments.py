"""Metrics that are functions of sums over examples: moments per example, and what they add up to.

Each metric has two parts. `*_moments(y, s_NT, group_N)` gives (..., N, T, J): J numbers for each
example and output, 0 where the label is missing; leading dimensions are those of the labels.
`*_of(sums)` turns sums (..., T, J) over weighted examples into the value of each output (..., T),
NaN where the labels leave it undefined. A resampling of blocks therefore needs the moments of the
blocks alone, and no example again.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64] | None
_FLAT = 1e-12  # share of a column's variance below which it counts as constant


def correlation_moments(y: Array, s_NT: Array, group_N: Groups) -> Array:
    # Standardizing before the sums keeps them accurate for values far from zero.
    valid = np.isfinite(y)
    y = np.where(valid, _standard(y, valid), 0.0)
    s = np.broadcast_to(_standard(s_NT, np.ones_like(s_NT, dtype=bool)), y.shape) * valid
    return np.stack([valid, y, s, y * y, s * s, y * s], -1)


def correlation_of(sums: Array) -> Array:
    """Pearson's correlation; 0, as for a guess, where only the scores are constant."""
    total, y, s, yy, ss, ys = np.moveaxis(sums, -1, 0)
    y, s = y / total, s / total
    vary_y, vary_s = yy / total - y**2, ss / total - s**2
    flat = vary_s <= _FLAT
    value = (ys / total - y * s) / np.sqrt(vary_y * np.where(flat, 1.0, vary_s))
    return np.where(vary_y > _FLAT, np.where(flat, 0.0, value), np.nan)


def confusion_moments(y: Array, s_NT: Array, group_N: Groups) -> Array:
    # 1, correct, the predicted and the true class; the sign of the logit chooses of two classes.
    valid = np.isfinite(y)[..., None]
    if _of_classes(y, s_NT):
        count, said = s_NT.shape[1], s_NT.argmax(1)[:, None]
    else:
        count, said = 2, (s_NT > 0).astype(np.int64)
    classes = np.arange(count)
    predicted, true = said[..., None] == classes, y[..., None] == classes
    predicted = np.broadcast_to(predicted, true.shape) & valid
    correct = (predicted & true).any(-1, keepdims=True)
    return np.concatenate([valid, correct, predicted, true], -1).astype(np.float64)


def matthews_of(sums: Array) -> Array:
    """Matthews correlation of any number of classes (Gorodkin 2004); 0 where one class is left."""
    total, correct = sums[..., 0], sums[..., 1]
    predicted, true = np.split(sums[..., 2:], 2, axis=-1)
    covariance = correct * total - (predicted * true).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (true**2).sum(-1))
    value = covariance / np.sqrt(np.where(spread > 0, spread, 1.0))
    return np.where(total > 0, np.where(spread > 0, value, 0.0), np.nan)


def share_of(sums: Array) -> Array:
    """The second sum as a share of the first: a mean over examples, or accuracy."""
    value: Array = sums[..., 1] / sums[..., 0]
    return value


def within_moments(y: Array, s_NT: Array, group_N: Groups) -> Array:
    """AUROC inside each matched set that has both classes, spread over its members."""
    groups = _Grouped(y, s_NT, group_N)
    rank = groups.rank(groups.score)
    positives = groups.add(groups.positive)
    negatives = groups.add(groups.valid) - positives
    wins = groups.add(groups.positive * rank) - positives * (positives + 1) / 2
    return groups.spread(wins / (positives * negatives))


def reciprocal_moments(y: Array, s_NT: Array, group_N: Groups) -> Array:
    """1 / rank of the best-ranked positive inside each matched set that has both classes."""
    groups = _Grouped(y, s_NT, group_N)
    rank = np.where(groups.positive > 0, groups.rank(-groups.score), np.inf)
    best = np.minimum.reduceat(rank, groups.first, axis=-1)
    negatives = groups.add(groups.valid) - groups.add(groups.positive)
    return groups.spread(np.where((negatives > 0) & np.isfinite(best), 1 / best, np.nan))


def site_moments(y: Array, s_NT: Array, group_N: Groups) -> Array:
    """Average precision of one example's positions against its mask of sites.

    Examples without a site, or with nothing else, are left out.
    """
    size = s_NT.shape[1]
    order = np.argsort(-s_NT, axis=1, kind="stable")
    ranked = np.take_along_axis(s_NT, order, 1)
    # Positions of one score share the precision at the last of them.
    ends = np.append(ranked[:, 1:] != ranked[:, :-1], np.ones((len(s_NT), 1), bool), axis=1)
    last = np.where(ends, np.arange(size), size)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    order, last = np.broadcast_to(order, y.shape), np.broadcast_to(last, y.shape)
    mask = np.take_along_axis(y, order, -1)
    valid = np.isfinite(mask)
    hit = np.where(valid, mask, 0.0)
    true, seen = np.cumsum(hit, -1), np.cumsum(valid, -1)
    precision = np.take_along_axis(true / np.maximum(seen, 1), last, -1)
    sites = true[..., -1]
    value = (hit * precision).sum(-1) / np.where(sites > 0, sites, 1.0)
    counts = (sites > 0) & (sites < seen[..., -1])
    return np.stack([counts, np.where(counts, value, 0.0)], -1)[..., None, :]


def block_sums(m_NK: Array, block_N: npt.NDArray[np.int64], blocks: int) -> Array:
    """Sum of the moments of each block's examples, (G, K)."""
    order = np.argsort(block_N, kind="stable")
    present, starts = np.unique(block_N[order], return_index=True)
    sums = np.zeros((blocks, m_NK.shape[1]))
    sums[present] = np.add.reduceat(m_NK[order], starts, axis=0)
    return sums


class _Grouped:
    """Labels and scores of one column, sorted by matched set."""

    def __init__(self, y: Array, s_NT: Array, group_N: Groups) -> None:
        assert group_N is not None and s_NT.shape[1] == y.shape[-1] == 1
        self.order = np.argsort(group_N, kind="stable")
        home = group_N[self.order]
        self.first = np.flatnonzero(np.append(True, home[1:] != home[:-1]))
        self.number = np.cumsum(np.append(False, home[1:] != home[:-1]))
        label = y[..., self.order, 0]
        self.valid = np.isfinite(label).astype(np.float64)
        self.positive = np.where(self.valid > 0, label, 0.0)
        self.score = s_NT[self.order, 0]

    def add(self, values: Array) -> Array:
        total: Array = np.add.reduceat(values, self.first, axis=-1)
        return total

    def rank(self, score: Array) -> Array:
        """Rank inside the set from the lowest score, among labeled members; ties share theirs."""
        rank = np.zeros_like(self.valid)
        size = np.diff(np.append(self.first, len(score)))
        for members in np.unique(size):
            # Sets of one size side by side: every member against every other.
            at = self.first[size == members][:, None] + np.arange(members)
            mine, valid = score[at], self.valid[..., at]
            below = (mine[:, None, :] < mine[:, :, None]) + 0.5 * (
                mine[:, None, :] == mine[:, :, None]
            )
            rank[..., at] = (below @ valid[..., None])[..., 0] + 0.5
        return rank

    def spread(self, value: Array) -> Array:
        """Give each member its part of the set's value, so that sets weigh the same."""
        defined = np.isfinite(value)
        size = np.diff(np.append(self.first, len(self.number)))
        parts = np.stack([defined / size, np.where(defined, value, 0.0) / size], -1)
        moments = np.empty((*parts.shape[:-2], len(self.order), 1, 2))
        moments[..., self.order, 0, :] = parts[..., self.number, :]
        return moments


def _of_classes(y: Array, s_NT: Array) -> bool:
    """Whether y numbers the class and every class has a score."""
    return bool(s_NT.shape[1] > 1 and y.shape[-1] == 1)


def _standard(values: Array, valid: npt.NDArray[np.bool_]) -> Array:
    centered = values - np.mean(values, axis=-2, keepdims=True, where=valid)
    deviation = np.sqrt(np.mean(centered**2, axis=-2, keepdims=True, where=valid))
    scaled: Array = centered / np.where(deviation > 0, deviation, 1.0)
    return scaled


Moments = Callable[[Any, Any, Any], Array]
Finish = Callable[[Any], Array]
ADDITIVE: dict[str, tuple[Moments, Finish]] = {
    "pearson": (correlation_moments, correlation_of),
    "mcc": (confusion_moments, matthews_of),
    "accuracy": (confusion_moments, share_of),
    "within_auroc": (within_moments, share_of),
    "mrr": (reciprocal_moments, share_of),
    "site_auprc": (site_moments, share_of),
}
