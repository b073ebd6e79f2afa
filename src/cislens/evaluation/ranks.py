"""Which arm is best, with the uncertainty of its rank: within a task and over a suite.

Shapes: M arms, B draws, K tasks. Rank 1 is best.
"""

import numpy as np
import polars as pl
from scipy import stats

from cislens.evaluation.metrics import Array
from cislens.evaluation.multiplicity import ALPHA, holm
from cislens.evaluation.results import ResultStore
from cislens.evaluation.suite import Suite
from cislens.randomness import generator

_OWN_ARMS = ("variant", "attribution")
TASK_RANKS: dict[str, type[pl.DataType] | pl.DataType] = {
    "task": pl.String, "metric": pl.String, "arm": pl.String, "kind": pl.String,
    "rank": pl.Float64, "low": pl.Float64, "high": pl.Float64, "p_best": pl.Float64,
}  # fmt: skip
RANKS: dict[str, type[pl.DataType] | pl.DataType] = {
    "arm": pl.String, "kind": pl.String, "tasks": pl.Int64, "mean_rank": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "p_best": pl.Float64, "cliques": pl.List(pl.Int64),
}  # fmt: skip


def task_ranks(source: ResultStore | Suite, draws: int = 2000) -> pl.DataFrame:
    """Rank of every arm in every task, with its 95 % interval over the bootstrap draws.

    Columns: `TASK_RANKS`. `rank` is that of the metric itself, `p_best` the share of the draws in
    which the arm is the best one.
    """
    suite = Suite.of(source, draws)
    rows = []
    for task in suite.tasks:
        resampled, kinds = suite.resampled(task), suite.kinds()
        rank_M = ranked(resampled.full_MR.mean(1, keepdims=True))[:, 0]
        rank_MB = ranked(resampled.both_MB)
        low_M, high_M = np.quantile(rank_MB, [0.025, 0.975], axis=1)
        best = resampled.best_share()
        rows += [
            {
                "task": task, "metric": suite.tasks[task].card.metric.primary, "arm": arm,
                "kind": kinds[arm], "rank": rank_M[m], "low": low_M[m], "high": high_M[m],
                "p_best": best[arm],
            }
            for m, arm in enumerate(resampled.arms)
        ]  # fmt: skip
    return pl.DataFrame(rows, schema=TASK_RANKS)


def ranks(source: ResultStore | Suite, draws: int = 2000) -> pl.DataFrame:
    """Mean rank over the tasks of every arm that has been judged on all of them, best first.

    Variant and attribution tasks have arms of their own; they are left out where others are.

    Columns: `RANKS`. Each draw takes as many tasks as there are, with replacement, and one
    resampled test set of each, so that interval and `p_best` (lowest mean rank) cover the choice
    of the tasks. Arms that share a number in `cliques` are not told apart: no pair of them differs
    at 5 % by Holm over all pairs. A single task is not resampled.
    """
    suite = Suite.of(source, draws)
    tasks = _ranked_tasks(suite)
    arms = _common(suite, tasks)
    if not arms:
        return pl.DataFrame(schema=RANKS)
    point_KM, draws_KMB = [], []
    for task in tasks:
        resampled = suite.resampled(task)
        rows = [resampled.arms.index(arm) for arm in arms]
        point_KM.append(ranked(resampled.full_MR[rows].mean(1, keepdims=True))[:, 0])
        draws_KMB.append(resampled.both_MB[rows])
    point_M = np.mean(point_KM, 0)
    mean_MB = suite_draws(draws_KMB, suite.draws)
    low_M, high_M = np.quantile(mean_MB, [0.025, 0.975], axis=1)
    best_M = (mean_MB == mean_MB.min(0)).astype(float)
    best_M = (best_M / best_M.sum(0)).mean(1)
    order = np.argsort(point_M, kind="stable")
    groups = cliques(mean_MB[order])
    kinds = suite.kinds()
    rows_ = [
        {
            "arm": arms[m], "kind": kinds[arms[m]], "tasks": len(point_KM),
            "mean_rank": point_M[m], "low": low_M[m], "high": high_M[m], "p_best": best_M[m],
            "cliques": [number for number, group in enumerate(groups) if place in group],
        }
        for place, m in enumerate(order)
    ]  # fmt: skip
    return pl.DataFrame(rows_, schema=RANKS)


def ranked(value_MB: Array) -> Array:
    """Rank of each arm in each draw; arms that are equal share the mean of their ranks."""
    rank: Array = stats.rankdata(-value_MB, axis=0)
    return rank


def suite_draws(value_KMB: list[Array], draws: int, seed: int = 0) -> Array:
    """Mean ranks (M, B) over resampled tasks, each with its own resampled test set."""
    rng = generator(seed, "suite")
    tasks = len(value_KMB)
    # The draws of one task say nothing of another's, though their numbers may be the same.
    rank_KBM = np.stack(
        [ranked(value)[:, rng.integers(0, value.shape[1], draws)].T for value in value_KMB]
    )
    if tasks == 1:
        alone: Array = rank_KBM[0].T
        return alone
    taken_BK = rng.integers(0, tasks, (draws, tasks))
    # Tasks drawn twice bring two test sets of their own: the second copy takes another draw.
    mean_BM: Array = np.zeros(rank_KBM.shape[1:])
    for k in range(tasks):
        copy = rng.permutation(draws)
        mean_BM += rank_KBM[taken_BK[:, k], copy] / tasks
    return mean_BM.T


def cliques(mean_MB: Array) -> list[range]:
    """Groups of neighbors, arms being sorted by rank, none of which differ; the largest ones only.

    p of a pair is twice the share of the draws in which its order is reversed, Holm over pairs.
    """
    count, draws = mean_MB.shape
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    p = []
    for a, b in pairs:
        gap = mean_MB[b] - mean_MB[a]
        less = min((gap <= 0).sum(), (gap >= 0).sum())
        p.append(min(1.0, 2 * (1 + less) / (draws + 1)))
    differs = {pair for pair, value in zip(pairs, holm(p), strict=True) if value < ALPHA}
    groups: list[range] = []
    for start in range(count):
        stop = start + 1
        while stop < count and not any((a, stop) in differs for a in range(start, stop)):
            stop += 1
        if not groups or stop > groups[-1].stop:
            groups.append(range(start, stop))
    return groups


def _ranked_tasks(suite: Suite) -> list[str]:
    """The tasks of the kinds that all arms take part in; of a suite without such, all."""
    own = [task for task, each in suite.tasks.items() if each.card.kind not in _OWN_ARMS]
    return own or list(suite.tasks)


def _common(suite: Suite, tasks: list[str]) -> list[str]:
    """Arms that every one of the tasks has, in the order of the first."""
    if not tasks:
        return []
    first, *rest = (suite.resampled(task).arms for task in tasks)
    return [arm for arm in first if all(arm in others for others in rest)]
