"""What a metric is worth without any knowledge: the permutation null."""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from cislens.evaluation.metrics import GROUPED, Array, Indices, metric_draws
from cislens.evaluation.statistics import Predictions, side_by_side
from cislens.randomness import generator

_CHUNK = 2_000_000  # labels in memory at a time


def permutation_null(
    predictions: Predictions,
    metric: str,
    count: int = 1000,
    seed: int = 0,
    stratum_N: Indices | None = None,
) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % range of each arm's metric when labels are permuted.

    Whole rows of labels move, so that outputs keep their correlation. Metrics of matched sets
    permute within the sets; `site_auprc` turns each example's mask of sites by a random number of
    positions, so that sites keep their lengths and distances. A chance value is not always
    obvious: that of AUPRC lies above the prevalence in small sets.

    Args:
        stratum_N: labels are permuted inside each stratum only.
    """
    if metric in GROUPED:
        stratum_N = predictions.group_N
    scores = predictions.scores_MRNT.astype(np.float64)
    if (pair := _correlated(metric, predictions.y_NT, scores)) is not None:
        labels = _labels(metric, pair[0], count, seed, stratum_N)
        parts = [_correlations(y_PNT, pair[1]) for y_PNT in labels]
    else:
        labels = _labels(metric, predictions.y_NT, count, seed, stratum_N)
        parts = [_values(metric, y_PNT, scores, predictions.group_N) for y_PNT in labels]
    null = {}
    for arm, drawn in zip(predictions.arms, np.concatenate(parts, axis=1), strict=True):
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        null[arm] = (float(np.nanmean(drawn)), float(low), float(high))
    return null


def _values(metric: str, y_PNT: Array, scores_MRNT: Array, group_N: Indices | None) -> Array:
    """The metric under each permutation, mean over the seeds, (M, P)."""
    arms, seeds = scores_MRNT.shape[:2]
    ones = np.ones((1, y_PNT.shape[1]))
    jobs = [(m, r) for m in range(arms) for r in range(seeds)]

    def one(job: tuple[int, int]) -> Array:
        return metric_draws(metric, y_PNT, scores_MRNT[job], ones, group_N)

    values = side_by_side(one, jobs, len(jobs) * y_PNT.size)
    mean: Array = np.stack(values).reshape(arms, seeds, len(y_PNT)).mean(1)
    return mean


def _correlated(metric: str, y_NT: Array, scores_MRNT: Array) -> tuple[Array, Array] | None:
    """Labels and scores whose sum of products is the metric; None if there are none.

    Ranks do not change when they are permuted, and Matthews correlation is that of two signs.
    Where labels are missing, the spread of the scores is that of all examples, not of those that
    meet a label in one permutation; of n labels that changes the null by a part in sqrt(2 n).
    """
    binary = metric == "mcc" and y_NT.shape[1] == scores_MRNT.shape[3]
    if not (metric in ("pearson", "spearman") or binary):
        return None
    if metric == "spearman":
        y_NT = stats.rankdata(y_NT, axis=0, nan_policy="omit")
        scores_MRNT = stats.rankdata(scores_MRNT, axis=2)
    if metric == "mcc":
        scores_MRNT = (scores_MRNT > 0).astype(np.float64)
    count_T = np.maximum(1, np.isfinite(y_NT).sum(0))
    return np.nan_to_num(_standard(y_NT, 0)) / count_T, _standard(scores_MRNT, 2)


def _correlations(y_PNT: Array, scores_MRNT: Array) -> Array:
    """Sum of products of `_correlated` columns, mean over outputs and seeds, (M, P)."""
    # The mean over seeds and outputs is linear in the scores.
    mean_MNT = scores_MRNT.mean(1) / y_PNT.shape[2]
    value: Array = mean_MNT.reshape(len(mean_MNT), -1) @ y_PNT.reshape(len(y_PNT), -1).T
    return value


def _standard(values: Array, axis: int) -> Array:
    centered = values - np.nanmean(values, axis, keepdims=True)
    deviation = np.nanstd(values, axis, keepdims=True)
    scaled: Array = centered / np.where(deviation > 0, deviation, 1.0)
    return scaled


def _labels(
    metric: str, y_NT: Array, count: int, seed: int, stratum_N: Indices | None
) -> Iterator[Array]:
    """Permuted labels (P, N, T), `count` of them in several portions."""
    rng = generator(seed, "null")
    examples, positions = y_NT.shape
    step = max(1, _CHUNK // y_NT.size)
    for start in range(0, count, step):
        size = min(step, count - start)
        if metric == "site_auprc":
            turn = rng.integers(0, positions, (size, examples, 1))
            yield y_NT[np.arange(examples)[:, None], (np.arange(positions) + turn) % positions]
        else:
            yield y_NT[_orders(rng, size, examples, stratum_N)]


def _orders(
    rng: np.random.Generator, size: int, examples: int, stratum_N: Indices | None
) -> Indices:
    """Permutations of the examples, inside each stratum; (size, N)."""
    if stratum_N is None:
        every = np.tile(np.arange(examples), (size, 1))
        rng.permuted(every, axis=1, out=every)
        return every
    order_PN = np.empty((size, examples), dtype=np.int64)
    home = np.argsort(stratum_N, kind="stable")
    for row in order_PN:
        row[home] = np.lexsort((rng.random(examples), stratum_N))
    return order_PN
