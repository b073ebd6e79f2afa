"""What the results say: for every task and trained representation one line, and tidy tables."""

from dataclasses import dataclass

import polars as pl

from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import (
    Contrast,
    Predictions,
    Resampled,
    holm,
    minimum_detectable,
    permutation_null,
    resample,
)
from cislens.evaluation.tasks.task import Task

ALPHA = 0.05
# Against what a trained representation is held, in the order of the table's rows.
COMPARISONS = ("onehot", "composition", "random")


@dataclass(frozen=True)
class Arm:
    """An arm of one task and its mean validation score over the seeds."""

    name: str
    kind: str
    twin_of: str | None
    valid_score: float
    parameters: int


def verdicts(store: ResultStore, draws: int = 2000) -> pl.DataFrame:
    """The comparisons of every trained representation, one row each.

    Columns: task, metric, arm, comparison (onehot, composition, random), baseline (the strongest
    arm of that kind on validation), point, low, high (metric of the arm, 95 %), difference,
    diff_low, diff_high, se, se_examples, se_seeds, p, p_holm, mde, valid_score, n_test, blocks,
    effective_blocks, seeds, method, verdict, line. `p_holm` is Holm's over the trained
    representations of the task; `verdict` and `line` are filled in rows of comparison onehot.
    """
    rows = [row for task in store.tasks() for row in _task_rows(store, task, draws)]
    return pl.DataFrame(rows, infer_schema_length=None)


def arm_scores(store: ResultStore, draws: int = 2000) -> pl.DataFrame:
    """Every metric of every arm, with its uncertainty and its permutation null.

    Columns: task, metric, primary, arm, kind, point, low, high, null_mean, null_low, null_high
    (labels permuted), best_share (of the draws in which the arm is the best one; null where the
    jackknife was used), valid_score, parameters.
    """
    rows = []
    for task in store.tasks():
        predictions, arms = store.predictions(task), _arms(store, task)
        metric = task.card.metric
        for name in (metric.primary, *metric.secondary):
            resampled = resample(predictions, name, draws)
            best = resampled.best_share()
            null = permutation_null(predictions, name)
            for arm in arms:
                value = resampled.value(arm.name)
                mean, low, high = null[arm.name]
                rows.append(
                    {
                        "task": task.card.name, "metric": name, "primary": name == metric.primary,
                        "arm": arm.name, "kind": arm.kind,
                        "point": value.point, "low": value.low, "high": value.high,
                        "null_mean": mean, "null_low": low, "null_high": high,
                        "best_share": best.get(arm.name),
                        "valid_score": arm.valid_score, "parameters": arm.parameters,
                    }
                )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def verdict_lines(table: pl.DataFrame) -> list[str]:
    """One line per task and trained representation, for the terminal."""
    return table.filter(pl.col("comparison") == "onehot")["line"].to_list()


def judge(difference: Contrast, p_holm: float, mde: float, margin: float) -> str:
    """gain, loss, equivalent, or no detectable gain over one-hot.

    A gain needs both the adjusted p-value below 5 % and the 95 % interval above zero; equivalent
    means that the 90 % interval lies within the margin (two one-sided tests at 5 %).
    """
    interval = (
        f"diff {difference.point:+.3f}, 95% CI [{difference.low:+.3f}, {difference.high:+.3f}]"
    )
    if p_holm < ALPHA and difference.low > 0:
        return f"gain over one-hot ({interval})"
    if p_holm < ALPHA and difference.high < 0:
        return f"loss against one-hot ({interval})"
    if -margin < difference.low90 and difference.high90 < margin:
        return f"equivalent to one-hot within {margin:g} ({interval})"
    return f"no detectable gain over one-hot ({interval}, MDE {mde:.3f})"


def _task_rows(store: ResultStore, task: Task, draws: int) -> list[dict[str, object]]:
    predictions, arms = store.predictions(task), _arms(store, task)
    resampled = resample(predictions, task.card.metric.primary, draws)
    trained = [arm for arm in arms if arm.kind == "trained"]
    opponents = {(arm.name, c): _opponent(arms, arm, c) for arm in trained for c in COMPARISONS}
    found: dict[tuple[str, str], tuple[Arm, Contrast, float, float]] = {}
    for comparison in COMPARISONS:
        pairs = [
            (arm, other)
            for arm in trained
            if (other := opponents[arm.name, comparison]) is not None
        ]
        differences = [resampled.difference(arm.name, other.name) for arm, other in pairs]
        adjusted = holm([difference.p for difference in differences])
        for (arm, other), difference, p in zip(pairs, differences, adjusted, strict=True):
            mde = minimum_detectable(difference.se, len(pairs))
            found[arm.name, comparison] = (other, difference, float(p), mde)
    rows = []
    for arm in trained:
        text = _text(found, arm.name, task.card.margin)
        for comparison in COMPARISONS:
            if (arm.name, comparison) in found:
                row = _row(task, predictions, resampled, arm, comparison, found)
                shown = text if comparison == "onehot" else ""
                line = f"{task.card.name}: {arm.name} {_metric(row)}: {text}" if shown else ""
                rows.append({**row, "verdict": shown, "line": line})
    return rows


def _text(
    found: dict[tuple[str, str], tuple[Arm, Contrast, float, float]], arm: str, margin: float
) -> str:
    if (arm, "onehot") not in found:
        return "no one-hot arm to compare with"
    _, difference, p, mde = found[arm, "onehot"]
    parts = [judge(difference, p, mde, margin)]
    for comparison, suffix in (
        ("composition", "composition-explained"),
        ("random", "not pretraining"),
    ):
        # An interval below zero says so all the more.
        if (arm, comparison) in found and found[arm, comparison][1].low <= 0:
            parts.append(suffix)
    return "; ".join(parts)


def _row(
    task: Task,
    predictions: Predictions,
    resampled: Resampled,
    arm: Arm,
    comparison: str,
    found: dict[tuple[str, str], tuple[Arm, Contrast, float, float]],
) -> dict[str, object]:
    other, difference, p_holm, mde = found[arm.name, comparison]
    value = resampled.value(arm.name)
    return {
        "task": task.card.name, "metric": task.card.metric.primary, "arm": arm.name,
        "comparison": comparison, "baseline": other.name,
        "point": value.point, "low": value.low, "high": value.high,
        "difference": difference.point, "diff_low": difference.low, "diff_high": difference.high,
        "se": difference.se, "se_examples": difference.se_examples,
        "se_seeds": difference.se_seeds, "p": difference.p, "p_holm": p_holm, "mde": mde,
        "valid_score": arm.valid_score, "n_test": len(predictions.y_NT),
        "blocks": resampled.blocks, "effective_blocks": resampled.effective_blocks,
        "seeds": predictions.scores_MRNT.shape[1], "method": resampled.method,
    }  # fmt: skip


def _metric(row: dict[str, object]) -> str:
    caution = f", only {row['blocks']} blocks" if row["method"] == "jackknife" else ""
    return (
        f"{row['metric']} {row['point']:.3f} [{row['low']:.3f}, {row['high']:.3f}] "
        f"vs {row['baseline']}{caution}"
    )


def _arms(store: ResultStore, task: Task) -> list[Arm]:
    mine = store.records().filter(pl.col("task") == task.card.name)
    means = mine.group_by("arm", "kind", "twin_of", maintain_order=True).agg(
        pl.col("valid_score").mean(), pl.col("parameters").max()
    )
    return [
        Arm(row["arm"], row["kind"], row["twin_of"], row["valid_score"], row["parameters"])
        for row in means.iter_rows(named=True)
    ]


def _opponent(arms: list[Arm], arm: Arm, comparison: str) -> Arm | None:
    """The strongest arm on validation of the kind compared with; for random, the arm's twin."""
    rivals = [other for other in arms if other.kind == comparison]
    if comparison == "random":
        rivals = [other for other in rivals if other.twin_of == arm.name]
    return max(rivals, key=lambda other: other.valid_score, default=None)
