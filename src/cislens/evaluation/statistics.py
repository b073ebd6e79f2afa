"""Uncertainty of a comparison between arms that scored the same test examples.

Crossed block bootstrap: blocks of examples and head seeds are drawn with replacement, all arms
share the draws, so that differences are paired. Fewer than ten blocks: leave-one-block-out
jackknife. The interval covers the sampling of test examples and the noise of training (data
subset, initialization), not the choice of the training set as a whole.

Shapes: M arms, R seeds, N examples, T outputs, G blocks, B draws.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from cislens.errors import CislensError
from cislens.evaluation.metrics import GROUPED, Array, Indices, check_scores, metric_draws
from cislens.randomness import generator

MIN_BLOCKS = 10
ENOUGH_BLOCKS = 30  # from here on intervals are corrected for bias and skewness
LEVEL = 0.95
_LEFT_OUT = 200  # the skewness is taken from at most so many leave-out values


@dataclass(frozen=True)
class Predictions:
    """Scores of every arm on one test set, joined by example.

    Attributes:
        arms: names of the M arms.
        scores_MRNT: score of arm m, trained with seed r, for example n and output t.
        y_NT: labels; for several classes (N, 1), the number of the class.
        block_N: 0-based number of the block that an example belongs to.
        group_N: number of the matched set of each example, where the task has such sets.
    """

    arms: tuple[str, ...]
    scores_MRNT: npt.NDArray[np.float32]
    y_NT: Array
    block_N: Indices
    group_N: Indices | None = None

    def __post_init__(self) -> None:
        arms, seeds, examples, _ = self.scores_MRNT.shape
        assert arms == len(self.arms)
        assert examples == len(self.y_NT) == len(self.block_N)
        assert self.group_N is None or len(self.group_N) == examples
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
    the value is zero; `se_examples` and `se_seeds` are the parts of the standard error, `df` the
    degrees of freedom of the whole.
    """

    point: float
    low: float
    high: float
    low90: float
    high90: float
    se: float
    se_examples: float
    se_seeds: float
    df: float
    p: float


@dataclass(frozen=True)
class Resampled:
    """One statistic of every arm under resampling of the test examples and seeds.

    Attributes:
        full_MR: on the whole test set.
        both_MB: draws of examples and seeds; for the jackknife, draws from the t distribution
            with its standard errors, which serve the ranks alone.
        examples_MB: the same draws with every seed once; empty for the jackknife.
        out_MK: values when a part of the blocks is left out; each single block for the jackknife.
    """

    arms: tuple[str, ...]
    method: str  # bootstrap or jackknife
    full_MR: Array
    both_MB: Array
    examples_MB: Array
    out_MK: Array
    blocks: int
    effective_blocks: float

    def value(self, arm: str) -> Contrast:
        """The arm's own value."""
        return self.contrast(self._unit(arm))

    def difference(self, arm: str, baseline: str) -> Contrast:
        """The arm's value minus the baseline's, paired by draw."""
        return self.contrast(self._unit(arm) - self._unit(baseline))

    def best_share(self) -> dict[str, float]:
        """Share of the draws in which each arm is the best one."""
        best = np.bincount(self.both_MB.argmax(0), minlength=len(self.arms))
        return dict(zip(self.arms, (best / best.sum()).tolist(), strict=True))

    def contrast(self, c_M: Array) -> Contrast:
        """A weighted sum of the arms' values, e.g. their difference or an area under a curve."""
        per_seed = c_M @ self.full_MR
        point, seeds = float(per_seed.mean()), len(per_seed)
        se_seeds = float(per_seed.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
        if self.method == "jackknife":
            return self._by_jackknife(point, c_M @ self.out_MK, se_seeds)
        examples, moved = c_M @ self.examples_MB, c_M @ (self.both_MB - self.examples_MB)
        se_examples, spread = float(examples.std(ddof=1)), float(moved.std())
        # Crossed draws count three times what seeds and examples have together, once with the
        # examples and twice with the seeds (Owen 2007, the pigeonhole bootstrap). Here the seeds'
        # part gets the variance that it has on the whole test set: twice in all, which keeps the
        # promised error rate where seeds are few.
        both = examples + moved * (se_seeds / spread if spread > 0 else 0.0)
        df = _satterthwaite(se_examples**2, self.blocks - 1, se_seeds**2, seeds - 1)
        ends = np.quantile(both, _levels(both, point, c_M @ self.out_MK))
        # Few seeds: their spread is known badly, so the tails are those of Student's t.
        wider = stats.t(df).ppf([0.975, 0.95]) / stats.norm.ppf([0.975, 0.95])
        low, high, low90, high90 = (point + (ends - point) * np.repeat(wider, 2)).tolist()
        se = float(both.std(ddof=1))
        p = _p_value(both, point, se, df)
        return Contrast(point, low, high, low90, high90, se, se_examples, se_seeds, df, p)

    def _by_jackknife(self, point: float, out_G: Array, se_seeds: float) -> Contrast:
        blocks = len(out_G)
        se_examples = float(np.sqrt(((out_G - out_G.mean()) ** 2).sum() * (blocks - 1) / blocks))
        se = float(np.hypot(se_examples, se_seeds))
        reach = stats.t(blocks - 1)
        wide, narrow = reach.ppf((1 + LEVEL) / 2) * se, reach.ppf(0.95) * se
        p = float(2 * reach.sf(abs(point) / se)) if se > 0 else float(point == 0)
        return Contrast(
            point, point - wide, point + wide, point - narrow, point + narrow,
            se, se_examples, se_seeds, blocks - 1, p,
        )  # fmt: skip

    def _unit(self, arm: str) -> Array:
        if arm not in self.arms:
            raise CislensError(f"no scores of {arm!r}; there are {', '.join(self.arms)}.")
        return np.array([name == arm for name in self.arms], dtype=np.float64)


# Values of one seed's scores (N, T) under each weighting of the blocks (B, G).
Measure = Callable[[Array, Array], Array]


def resample(predictions: Predictions, metric: str, draws: int = 2000, seed: int = 0) -> Resampled:
    """Resample one metric of all arms together; see `resample_measure`.

    Raises:
        CislensError: as `resample_measure`, and when a matched set lies in several blocks.
    """
    block_N, group_N = predictions.block_N, predictions.group_N
    if metric in GROUPED and group_N is not None:
        pairs = len(np.unique(np.stack([group_N, block_N]), axis=1).T)
        if pairs > len(np.unique(group_N)):
            raise CislensError(
                f"{metric}: a matched set lies in several blocks; give its members one block."
            )

    def measure(s_NT: Array, w_BG: Array) -> Array:
        check_scores(metric, s_NT)
        return metric_draws(metric, predictions.y_NT, s_NT, w_BG, group_N, block_N)

    return resample_measure(predictions, measure, metric, draws, seed)


def resample_measure(
    predictions: Predictions, measure: Measure, what: str, draws: int = 2000, seed: int = 0
) -> Resampled:
    """Resample a measure of all arms together.

    Each bootstrap draw takes G blocks and R seeds with replacement, the same for every arm: with
    a seed goes its training subset. The deviations are widened by sqrt(G / (G - 1)) and
    sqrt(R / (R - 1)), because R drawn of R values vary less than the values do. Intervals are
    BCa (Efron 1987) from 30 blocks on, percentiles below, and the jackknife under ten.

    Raises:
        CislensError: if the measure is undefined on the test set, or in more than one draw of a
            hundred, or when any single block is left out of fewer than ten.
    """
    blocks, seeds = predictions.blocks, predictions.scores_MRNT.shape[1]
    few = blocks < MIN_BLOCKS
    out_KG = _leave_out(blocks, seed)
    drawn_BG = np.empty((0, blocks)) if few else _counts(draws, blocks, generator(seed, "blocks"))
    weights = np.concatenate([np.ones((1, blocks)), out_KG, drawn_BG])
    value_MRB = _values(predictions, measure, weights)
    full_MR, out_MRK, value_MRB = np.split(value_MRB, [1, 1 + len(out_KG)], axis=2)
    full_MR = full_MR[:, :, 0]
    if not np.isfinite(full_MR).all():
        raise CislensError(
            f"{what} is undefined on the test set: its labels, or an arm's scores, do not vary."
        )
    _check_defined(out_MRK if few else value_MRB, what, 1.0 if few else 0.99)
    out_MK = out_MRK.mean(1)
    out_MK = out_MK[:, np.isfinite(out_MK).all(0)]
    point_M1 = full_MR.mean(1, keepdims=True)
    if few:
        examples_MB = np.empty((len(full_MR), 0))
        both_MB = _student_draws(full_MR, out_MK, draws, seed)
    else:
        keep = np.isfinite(value_MRB).all(axis=(0, 1))
        value_MRB = value_MRB[:, :, keep]
        share_BR = _counts(draws, seeds, generator(seed, "seeds"))[keep] / seeds
        mean_MB = value_MRB.mean(1)
        moved_MB = np.einsum("mrb,br->mb", value_MRB, share_BR) - mean_MB
        examples_MB = point_M1 + np.sqrt(blocks / (blocks - 1)) * (mean_MB - point_M1)
        both_MB = examples_MB + np.sqrt(seeds / max(1, seeds - 1)) * moved_MB
    return Resampled(
        predictions.arms, "jackknife" if few else "bootstrap", full_MR, both_MB, examples_MB,
        out_MK, blocks, predictions.effective_blocks,
    )  # fmt: skip


def _values(predictions: Predictions, measure: Measure, weights_BG: Array) -> Array:
    """The measure of every arm and seed under every weighting, (M, R, B)."""
    arms, seeds, examples = predictions.scores_MRNT.shape[:3]
    jobs = [(m, r) for m in range(arms) for r in range(seeds)]

    def one(job: tuple[int, int]) -> Array:
        return measure(predictions.scores_MRNT[job].astype(np.float64), weights_BG)

    values = side_by_side(one, jobs, len(jobs) * len(weights_BG) * examples)
    return np.stack(values).reshape(arms, seeds, len(weights_BG))


def side_by_side(
    work: Callable[[tuple[int, int]], Array], jobs: Sequence[tuple[int, int]], size: float
) -> list[Array]:
    """The work on each job, (arm, seed), in threads where its size makes up for them."""
    if size < 1e7:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(min(16, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(work, jobs))


def _counts(draws: int, size: int, rng: np.random.Generator) -> Array:
    """How often each of `size` things is drawn when as many are, with replacement; (B, size)."""
    taken = rng.integers(0, size, size=(draws, size))
    return np.stack([np.bincount(row, minlength=size) for row in taken]).astype(np.float64)


def _leave_out(blocks: int, seed: int) -> Array:
    """Weights that leave out each block, or one of 200 random parts of many blocks, (K, G).

    The skewness of a mean is the same for parts as for blocks, once scaled by their number.
    """
    parts = min(blocks, _LEFT_OUT)
    part_G = np.arange(blocks) % parts
    if blocks > parts:
        part_G = generator(seed, "parts").permutation(part_G)
    return np.not_equal(part_G, np.arange(parts)[:, None]).astype(np.float64)


def _check_defined(value_MRB: Array, what: str, least: float) -> None:
    draws = value_MRB.shape[2]
    undefined = draws - int(np.isfinite(value_MRB).all(axis=(0, 1)).sum())
    if undefined > (1 - least) * draws:
        raise CislensError(
            f"{what} is undefined in {undefined} of {draws} resampled test "
            "sets, because a class lies in too few blocks; use smaller blocks or a larger test set."
        )


def _student_draws(full_MR: Array, out_MG: Array, draws: int, seed: int) -> Array:
    """Joint draws of the arms' values with the jackknife's standard errors, (M, B)."""
    rng = generator(seed, "jackknife")
    blocks, seeds = out_MG.shape[1], full_MR.shape[1]
    point_M1 = full_MR.mean(1, keepdims=True)
    scale = np.sqrt((blocks - 1) / blocks)
    moved = scale * (out_MG - out_MG.mean(1, keepdims=True)) @ rng.normal(size=(blocks, draws))
    if seeds > 1:
        part = (full_MR - point_M1) / np.sqrt(seeds * (seeds - 1))
        moved += part @ rng.normal(size=(seeds, draws))
    heavy: Array = point_M1 + moved * np.sqrt((blocks - 1) / rng.chisquare(blocks - 1, draws))
    return heavy


def _p_value(both: Array, point: float, se: float, df: float) -> float:
    """Share of the draws that lie as far from the point as 0 does, with the tails of t.

    Where none does, they say only that z is large; how large, the error says.
    """
    draws = len(both)
    beyond = int((np.abs(both - point) >= abs(point)).sum())
    if beyond or se == 0:
        z = stats.norm.isf((1 + beyond) / (draws + 1) / 2)
    else:
        z = abs(point) / se
    return max(1 / (draws + 1), float(2 * stats.t(df).sf(z)))


def _levels(both: Array, point: float, out_K: Array) -> Array:
    """Levels of the quantiles that bound the 95 % and the 90 % interval."""
    z = stats.norm.ppf([0.025, 0.975, 0.05, 0.95])
    if len(out_K) < ENOUGH_BLOCKS:
        return np.asarray(stats.norm.cdf(z))
    share = ((both < point).mean() + (both <= point).mean()) / 2
    # Beyond these levels a point lies outside of its own draws and no correction helps.
    bias = stats.norm.ppf(np.clip(share, 0.1, 0.9))
    moved = out_K.mean() - out_K
    spread = (moved**2).sum()
    skew = (moved**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    return np.asarray(stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z))))


def _satterthwaite(var_a: float, df_a: int, var_b: float, df_b: int) -> float:
    """Degrees of freedom of a sum of two variances (Satterthwaite 1946), at least two.

    With one, that of two seeds, t's tails are so long that nothing could be found; two still keep
    the rate of false gains (one-sided) below 8 %.
    """
    if var_b == 0 or df_b < 1:
        return float(df_a)
    return max(2.0, (var_a + var_b) ** 2 / (var_a**2 / df_a + var_b**2 / df_b))
