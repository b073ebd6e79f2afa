"""How much is learned from how few labels: curves, their area, and labels to match a baseline.

The same arms are judged on the same test set after training on n = 10, 30, 100, ... examples and
on all of them. Differences are paired: by the test examples, and by the seed that drew the nested
subset. Shapes: M arms, S sizes, R seeds, B draws.
"""

from collections.abc import Mapping
from math import inf

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.metrics import Array
from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import Predictions, Resampled, resample
from cislens.evaluation.suite import Arm, Suite

CURVES: dict[str, type[pl.DataType]] = {
    "task": pl.String, "metric": pl.String, "arm": pl.String, "kind": pl.String,
    "labels": pl.Int64, "point": pl.Float64, "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip
AREAS: dict[str, type[pl.DataType]] = {
    "task": pl.String, "metric": pl.String, "arm": pl.String, "kind": pl.String,
    "aulc": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "baseline": pl.String, "difference": pl.Float64, "diff_low": pl.Float64,
    "diff_high": pl.Float64, "p": pl.Float64, "n_match": pl.Float64,
    "n_match_low": pl.Float64, "n_match_high": pl.Float64,
}  # fmt: skip


def area_weights(sizes: npt.ArrayLike) -> Array:
    """Weights (S,) that make the area under a curve over log n, divided by its width.

    Raises:
        CislensError: unless there are at least two rising sizes.
    """
    log = np.log(np.asarray(sizes, dtype=np.float64))
    step = np.diff(log)
    if len(log) < 2 or (step <= 0).any():
        raise CislensError(f"a curve needs two or more rising sizes, found {list(log)}.")
    weights = np.zeros(len(log))
    weights[:-1] += step / 2
    weights[1:] += step / 2
    scaled: Array = weights / step.sum()
    return scaled


def n_match(sizes: npt.ArrayLike, curve_SB: Array, goal_B: Array) -> Array:
    """Labels at which a curve first reaches the goal, (B,); inf where it never does.

    Between two sizes the curve is straight in log n. A curve that starts above the goal matches at
    its first size.
    """
    log = np.log(np.asarray(sizes, dtype=np.float64))
    found = np.full(curve_SB.shape[1], inf)
    for s in range(len(log) - 1, -1, -1):
        reached = curve_SB[s] >= goal_B
        at = np.full(len(found), log[s])
        if s > 0:
            rise = curve_SB[s] - curve_SB[s - 1]
            between = reached & (curve_SB[s - 1] < goal_B)
            part = (goal_B - curve_SB[s - 1]) / np.where(between, rise, 1.0)
            at = np.where(between, log[s - 1] + part * (log[s] - log[s - 1]), at)
        found = np.where(reached, np.exp(at), found)
    return found


def label_efficiency(
    whole: ResultStore | Suite,
    by_labels: Mapping[int, ResultStore],
    draws: int = 2000,
    fraction: float = 1.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Curves (columns `CURVES`) and their summaries (`AREAS`) of every task judged at few labels.

    `baseline` is the one-hot arm that is strongest on validation with all labels: `difference` is
    the arm's area minus its, and `n_match` the labels at which the arm equals it at full data.

    Args:
        whole: results with all training examples.
        by_labels: results with so many training examples; same tasks, arms and seeds.
        fraction: share of the training examples that `whole` was trained on.
    """
    suite = Suite.of(whole, draws)
    curves: list[dict[str, object]] = []
    areas: list[dict[str, object]] = []
    for name, task in suite.tasks.items():
        parts = {n: store for n, store in sorted(by_labels.items()) if _has(store, name)}
        if not parts:
            continue
        full = round(task.examples.filter(pl.col("split") == "train").height * fraction)
        by_size = {n: store.predictions(task) for n, store in parts.items() if n < full}
        by_size[full] = suite.predictions(name)
        metric = task.card.metric.primary
        arms = [
            arm for arm in suite.arms(name) if all(arm.name in p.arms for p in by_size.values())
        ]
        found = curves_of(by_size, metric, arms, suite.draws)
        curves += [{"task": name, "metric": metric, **row} for row in found[0]]
        areas += [{"task": name, "metric": metric, **row} for row in found[1]]
    return pl.DataFrame(curves, schema=CURVES), pl.DataFrame(areas, schema=AREAS)


def curves_of(
    by_size: Mapping[int, Predictions], metric: str, arms: list[Arm], draws: int = 2000
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of `CURVES` and `AREAS` of one task, but for its name and metric.

    Args:
        by_size: predictions of the same test examples by the number of training examples, the
            largest being all of them.
    """
    sizes, names = sorted(by_size), [arm.name for arm in arms]
    resampled = resample(_joined(by_size, names), metric, draws)
    # Arm m at size s stands in row s * M + m.
    unit = np.eye(len(sizes) * len(arms)).reshape(len(sizes), len(arms), -1)
    weights_S = area_weights(sizes)
    rivals = [arm for arm in arms if arm.kind == "onehot"]
    baseline = max(rivals, key=lambda arm: arm.valid_score, default=None)
    curves, areas = [], []
    for m, arm in enumerate(arms):
        for s, size in enumerate(sizes):
            value = resampled.contrast(unit[s, m])
            curves.append(
                {"arm": arm.name, "kind": arm.kind, "labels": size, "point": value.point,
                 "low": value.low, "high": value.high}
            )  # fmt: skip
        area = resampled.contrast(weights_S @ unit[:, m])
        row = {"arm": arm.name, "kind": arm.kind, "aulc": area.point, "low": area.low,
               "high": area.high}  # fmt: skip
        if baseline is not None:
            row |= _against(resampled, unit, sizes, m, names.index(baseline.name))
            row["baseline"] = baseline.name
        areas.append(row)
    return curves, areas


def _against(
    resampled: Resampled, unit: Array, sizes: list[int], m: int, base: int
) -> dict[str, object]:
    weights_S = area_weights(sizes)
    difference = resampled.contrast(weights_S @ (unit[:, m] - unit[:, base]))
    point, both = resampled.full_MR.mean(1, keepdims=True), resampled.both_MB
    match, drawn = (
        n_match(sizes, unit[:, m] @ value, unit[-1, base] @ value) for value in (point, both)
    )
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return {
        "difference": difference.point, "diff_low": difference.low,
        "diff_high": difference.high, "p": difference.p,
        "n_match": float(match[0]), "n_match_low": float(low), "n_match_high": float(high),
    }  # fmt: skip


def _joined(by_size: Mapping[int, Predictions], names: list[str]) -> Predictions:
    """One set of predictions with an arm for every arm and size, sizes rising."""
    parts = [by_size[size] for size in sorted(by_size)]
    seeds = min(part.scores_MRNT.shape[1] for part in parts)
    last = parts[-1]
    for size, part in by_size.items():
        if not np.array_equal(part.y_NT, last.y_NT, equal_nan=True):
            raise CislensError(f"the test examples of {size} labels are not those of all labels.")
    scores = [part.scores_MRNT[[part.arms.index(name) for name in names], :seeds] for part in parts]
    arms = tuple(f"{name} at {size}" for size in sorted(by_size) for name in names)
    return Predictions(arms, np.concatenate(scores), last.y_NT, last.block_N, last.group_N)


def _has(store: ResultStore, name: str) -> bool:
    return any(task.card.name == name for task in store.tasks())
