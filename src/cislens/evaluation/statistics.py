"""Uncertainty of a comparison between arms that scored the same test examples.

Crossed block bootstrap: blocks of examples and head seeds are drawn with replacement, all arms
share the draws, so that differences are paired. Fewer than ten blocks: leave-one-block-out
jackknife. The interval covers the sampling of test examples and the noise of training (data
subset, initialization), not the choice of the training set as a whole.

Shapes: M arms, R seeds, N examples, T outputs, G blocks, B draws.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from cislens.errors import CislensError
from cislens.evaluation.metrics import Array, as_columns, check_scores, metric_draws
from cislens.randomness import generator

MIN_BLOCKS = 10
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Predictions:
    """Scores of every arm on one test set, joined by example.

    Attributes:
        arms: names of the M arms.
        scores_MRNT: score of arm m, trained with seed r, for example n and output t.
        y_NT: labels.
        block_N: 0-based number of the block that an example belongs to.
    """

    arms: tuple[str, ...]
    scores_MRNT: npt.NDArray[np.float32]
    y_NT: Array
    block_N: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        arms, seeds, examples, _ = self.scores_MRNT.shape
        assert arms == len(self.arms)
        assert examples == len(self.y_NT) == len(self.block_N)
        if self.blocks < 2:
            raise CislensError(
                "the test examples lie in a single block, so no uncertainty can be computed; "
                "use smaller blocks or a wider test set."
            )
        if seeds < 1:
            raise CislensError("no seed has been scored.")

    @property
    def blocks(self) -> int:
        return int(self.block_N.max()) + 1

    @property
    def effective_blocks(self) -> float:
        """1 / sum of squared block shares: the number of equal blocks as informative as these."""
        share = np.bincount(self.block_N) / len(self.block_N)
        return float(1 / (share**2).sum())


@dataclass(frozen=True)
class Contrast:
    """A metric, or a difference of metrics, with its uncertainty.

    `low` and `high` bound the 95 % interval, `low90` and `high90` the 90 % one; `p` tests that
    the value is zero; `se_examples` and `se_seeds` are the parts of the standard error.
    """

    point: float
    low: float
    high: float
    low90: float
    high90: float
    se: float
    se_examples: float
    se_seeds: float
    p: float


@dataclass(frozen=True)
class Resampled:
    """One metric of every arm under resampling of the test examples and seeds."""

    arms: tuple[str, ...]
    method: str  # bootstrap or jackknife
    full_MR: Array  # metric on the whole test set
    examples_MB: Array  # mean over seeds; draws, or leave-one-out values for the jackknife
    both_MB: Array  # examples and seeds resampled; empty for the jackknife
    blocks: int
    effective_blocks: float

    def value(self, arm: str) -> Contrast:
        """The arm's own metric."""
        return self._contrast(self._unit(arm))

    def difference(self, arm: str, baseline: str) -> Contrast:
        """The arm's metric minus the baseline's, paired by draw."""
        return self._contrast(self._unit(arm) - self._unit(baseline))

    def best_share(self) -> dict[str, float]:
        """Share of the bootstrap draws in which each arm is the best one; empty for jackknife."""
        if self.method == "jackknife":
            return {}
        best = np.bincount(self.both_MB.argmax(0), minlength=len(self.arms))
        return dict(zip(self.arms, (best / best.sum()).tolist(), strict=True))

    def _unit(self, arm: str) -> Array:
        if arm not in self.arms:
            raise CislensError(f"no scores of {arm!r}; there are {', '.join(self.arms)}.")
        return np.array([name == arm for name in self.arms], dtype=np.float64)

    def _contrast(self, c_M: Array) -> Contrast:
        per_seed = c_M @ self.full_MR
        point = float(per_seed.mean())
        seeds = len(per_seed)
        se_seeds = float(per_seed.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
        examples = c_M @ self.examples_MB
        if self.method == "jackknife":
            blocks = len(examples)
            spread = ((examples - examples.mean()) ** 2).sum() * (blocks - 1) / blocks
            se = float(np.hypot(np.sqrt(spread), se_seeds))
            reach = stats.t(blocks - 1)
            wide, narrow = reach.ppf((1 + LEVEL) / 2) * se, reach.ppf(0.95) * se
            p = float(2 * reach.sf(abs(point) / se)) if se > 0 else float(point == 0)
            return Contrast(
                point, point - wide, point + wide, point - narrow, point + narrow,
                se, float(np.sqrt(spread)), se_seeds, p,
            )  # fmt: skip
        both = c_M @ self.both_MB
        tail = (1 - LEVEL) / 2
        low, high, low90, high90 = np.quantile(both, [tail, 1 - tail, 0.05, 0.95]).tolist()
        p = (1 + int((np.abs(both - point) >= abs(point)).sum())) / (len(both) + 1)
        se, se_examples = float(both.std(ddof=1)), float(examples.std(ddof=1))
        return Contrast(point, low, high, low90, high90, se, se_examples, se_seeds, p)


def resample(predictions: Predictions, metric: str, draws: int = 2000, seed: int = 0) -> Resampled:
    """Resample one metric of all arms together.

    Each bootstrap draw takes G blocks and R seeds with replacement, the same for every arm: with
    a seed goes its training subset. The deviation due to seeds is widened by sqrt(R / (R - 1)),
    because R drawn of R values vary less than the values do.

    Raises:
        CislensError: if the metric is undefined on the test set, or in more than one draw of a
            hundred, or when any single block is left out of fewer than ten.
    """
    block, blocks = predictions.block_N, predictions.blocks
    seeds = predictions.scores_MRNT.shape[1]
    few = blocks < MIN_BLOCKS
    if few:
        weights_BG = 1.0 - np.eye(blocks)
    else:
        drawn = generator(seed, "blocks").integers(0, blocks, size=(draws, blocks))
        weights_BG = np.stack([np.bincount(row, minlength=blocks) for row in drawn]).astype(float)
    weights_BN = np.vstack([np.ones(blocks), weights_BG])[:, block]
    metric_MRB = _metrics(predictions, metric, weights_BN)
    full_MR, metric_MRB = metric_MRB[:, :, 0], metric_MRB[:, :, 1:]
    if not np.isfinite(full_MR).all():
        raise CislensError(
            f"{metric} is undefined on the test set: its labels, or an arm's scores, do not vary."
        )
    defined: npt.NDArray[np.bool_] = np.asarray(np.isfinite(metric_MRB).all(axis=(0, 1)))
    if defined.mean() < (1.0 if few else 0.99):
        raise CislensError(
            f"{metric} is undefined in {int((~defined).sum())} of {len(defined)} resampled test "
            "sets, because a class lies in too few blocks; use smaller blocks or a larger test set."
        )
    metric_MRB = metric_MRB[:, :, defined]
    examples_MB = metric_MRB.mean(1)
    both_MB = np.empty((len(predictions.arms), 0))
    if not few:
        taken = generator(seed, "seeds").integers(0, seeds, size=(draws, seeds))
        share_BR = np.stack([np.bincount(row, minlength=seeds) for row in taken]) / seeds
        moved_MB = np.einsum("mrb,br->mb", metric_MRB, share_BR[defined]) - examples_MB
        widen = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
        both_MB = examples_MB + widen * moved_MB
    return Resampled(
        predictions.arms, "jackknife" if few else "bootstrap", full_MR, examples_MB, both_MB,
        blocks, predictions.effective_blocks,
    )  # fmt: skip


def permutation_null(
    predictions: Predictions,
    metric: str,
    count: int = 1000,
    seed: int = 0,
    stratum_N: npt.NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % range of each arm's metric when labels are permuted (within each stratum)."""
    rng = generator(seed, "null")
    size = len(predictions.y_NT)
    stratum = np.zeros(size, dtype=np.int64) if stratum_N is None else stratum_N
    home = np.argsort(stratum, kind="stable")
    order_PN = np.empty((count, size), dtype=np.int64)
    for row in order_PN:
        row[home] = np.lexsort((rng.random(size), stratum))
    y_PNT = predictions.y_NT[order_PN]
    ones = np.ones((1, size))
    null = {}
    for arm, scores_RNT in zip(predictions.arms, predictions.scores_MRNT, strict=True):
        values = np.mean([metric_draws(metric, y_PNT, as_columns(s), ones) for s in scores_RNT], 0)
        low, high = np.quantile(values, [0.025, 0.975])
        null[arm] = (float(values.mean()), float(low), float(high))
    return null


def holm(p: npt.ArrayLike) -> Array:
    """Holm's step-down adjustment of p-values, in their own order."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factor = len(p) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factor))
    return adjusted


def minimum_detectable(se: float, family: int = 1, alpha: float = 0.05) -> float:
    """The true difference that would be found with 80 % power by a test at alpha / family.

    2.80 standard errors for one comparison at 5 %.
    """
    z = stats.norm.ppf(1 - alpha / family / 2) + stats.norm.ppf(POWER)
    return float(z * se)


def _metrics(predictions: Predictions, metric: str, weights_BN: Array) -> Array:
    arms, seeds = predictions.scores_MRNT.shape[:2]
    values = np.empty((arms, seeds, len(weights_BN)))
    for m in range(arms):
        for r in range(seeds):
            scores = as_columns(predictions.scores_MRNT[m, r])
            check_scores(metric, scores)
            values[m, r] = metric_draws(metric, predictions.y_NT, scores, weights_BN)
    return values
