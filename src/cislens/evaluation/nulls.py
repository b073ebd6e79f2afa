"""What a metric is worth without any knowledge: the permutation null."""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from cislens.evaluation.metrics import GROUPED, Array, Indices, metric_draws
from cislens.evaluation.statistics import Predictions
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
    y_NT = predictions.y_NT
    if metric == "spearman" and np.isfinite(y_NT).all():
        # Ranks do not change when they are permuted.
        metric, y_NT = "pearson", stats.rankdata(y_NT, axis=0)
        scores = stats.rankdata(scores, axis=2)
    ones = np.ones((1, len(y_NT)))
    parts: list[list[Array]] = [[] for _ in predictions.arms]
    for y_PNT in _labels(metric, y_NT, count, seed, stratum_N):
        for values, s_RNT in zip(parts, scores, strict=True):
            each = [metric_draws(metric, y_PNT, s, ones, predictions.group_N) for s in s_RNT]
            values.append(np.mean(each, axis=0))
    null = {}
    for arm, values in zip(predictions.arms, parts, strict=True):
        drawn = np.concatenate(values)
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        null[arm] = (float(drawn.mean()), float(low), float(high))
    return null


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
