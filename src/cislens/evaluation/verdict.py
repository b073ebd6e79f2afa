"""What the results say: for every task and trained representation one line, and tidy tables."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cislens.evaluation.crosschecks import naive_test
from cislens.evaluation.multiplicity import ALPHA, blocks_needed, holm, minimum_detectable
from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import Contrast, Predictions, Resampled
from cislens.evaluation.suite import Arm, Suite
from cislens.evaluation.tasks.task import Task

# Against what a trained representation is held, in the order of the table's rows.
COMPARISONS = ("onehot", "composition", "random")
_SUFFIXES = (("composition", "composition-explained"), ("random", "not pretraining"))
_TEXT = (
    "task",
    "metric",
    "arm",
    "comparison",
    "baseline",
    "method",
    "naive_test",
    "verdict",
    "line",
)
_COUNTS = ("n_test", "blocks", "seeds")
VERDICT_SCHEMA: dict[str, type[pl.DataType]] = {
    name: pl.String if name in _TEXT else pl.Int64 if name in _COUNTS else pl.Float64
    for name in (
        "task", "metric", "arm", "comparison", "baseline", "point", "low", "high",
        "difference", "diff_low", "diff_high", "diff_low90", "diff_high90",
        "se", "se_examples", "se_seeds", "df", "p", "p_holm", "p_suite", "mde",
        "blocks_for_margin", "naive_test", "naive_p", "valid_score", "n_test", "blocks",
        "effective_blocks", "seeds", "method", "verdict", "line",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A trained representation against the strongest arm of one kind."""

    arm: Arm
    kind: str
    other: Arm
    difference: Contrast
    p_holm: float
    mde: float
    family: int


def verdicts(
    source: ResultStore | Suite, draws: int = 2000, leaky: Collection[str] = ()
) -> pl.DataFrame:
    """The comparisons of every trained representation, one row each.

    Columns: those of `VERDICT_SCHEMA`. `comparison` is onehot, composition or random, `baseline`
    the strongest arm of that kind on validation; `point, low, high` is the metric of the arm with
    its 95 % interval; `difference` has a 95 % interval, and a 90 % one for equivalence. `p_holm`
    is Holm's over the trained representations of the task, `p_suite` over those of all tasks;
    `mde` is adjusted like `p_holm`. `blocks_for_margin` is how many test blocks would find a
    difference of the card's margin. `naive_p` is a textbook test of single examples, blind to
    blocks and seeds. `verdict` and `line` are filled in rows of comparison onehot.

    Args:
        leaky: names of tasks whose audit found leakage; no gain is granted on them.
    """
    suite = Suite.of(source, draws)
    rows = [
        row for name, task in suite.tasks.items() for row in _task_rows(suite, task, name in leaky)
    ]
    for comparison in COMPARISONS:
        mine = [row for row in rows if row["comparison"] == comparison]
        adjusted = holm([float(row["p"]) for row in mine]).tolist()
        for row, p in zip(mine, adjusted, strict=True):
            row["p_suite"] = p
    return pl.DataFrame(rows, schema=VERDICT_SCHEMA)


def arm_scores(source: ResultStore | Suite, draws: int = 2000) -> pl.DataFrame:
    """Every metric of every arm, with its uncertainty and its permutation null.

    Columns: task, metric, primary, arm, kind, point, low, high, null_mean, null_low, null_high
    (labels permuted), best_share (of the draws in which the arm is the best one), valid_score,
    parameters.
    """
    suite = Suite.of(source, draws)
    rows = []
    metrics = [(task, *pair) for task, each in suite.tasks.items() for pair in _metrics(each)]
    for task, name, metric in metrics:
        resampled, null = suite.resampled(task, metric), suite.null(task, metric)
        best = resampled.best_share()
        for arm in suite.arms(task):
            value = resampled.value(arm.name)
            mean, low, high = null[arm.name]
            rows.append(
                {
                    "task": task, "metric": metric, "primary": name == "primary",
                    "arm": arm.name, "kind": arm.kind,
                    "point": value.point, "low": value.low, "high": value.high,
                    "null_mean": mean, "null_low": low, "null_high": high,
                    "best_share": best[arm.name],
                    "valid_score": arm.valid_score, "parameters": arm.parameters,
                }
            )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def verdict_lines(table: pl.DataFrame) -> list[str]:
    """One line per task and trained representation, for the terminal."""
    return table.filter(pl.col("comparison") == "onehot")["line"].to_list()


def judge(
    difference: Contrast, p_holm: float, mde: float, margin: float, leaky: bool = False
) -> str:
    """gain, loss, equivalent, or no detectable gain over one-hot.

    A gain needs both the adjusted p-value below 5 % and the 95 % interval above zero; equivalent
    means that the 90 % interval lies within the margin (two one-sided tests at 5 %). A leaky task
    grants no gain.
    """
    interval = (
        f"diff {difference.point:+.3f}, 95% CI [{difference.low:+.3f}, {difference.high:+.3f}]"
    )
    if p_holm < ALPHA and difference.low > 0:
        if leaky:
            return f"no verdict: gain withheld ({interval})"
        return f"gain over one-hot ({interval})"
    if p_holm < ALPHA and difference.high < 0:
        return f"loss against one-hot ({interval})"
    if -margin < difference.low90 and difference.high90 < margin:
        return f"equivalent to one-hot within {margin:g} ({interval})"
    return f"no detectable gain over one-hot ({interval}, MDE {mde:.3f})"


def compare(resampled: Resampled, arms: Sequence[Arm]) -> list[Comparison]:
    """Every trained arm against its opponents, in the order of arms and `COMPARISONS`."""
    found = []
    trained = [arm for arm in arms if arm.kind == "trained"]
    for comparison in COMPARISONS:
        pairs = [(arm, o) for arm in trained if (o := _opponent(arms, arm, comparison)) is not None]
        differences = [resampled.difference(arm.name, other.name) for arm, other in pairs]
        adjusted = holm([difference.p for difference in differences]).tolist()
        for (arm, other), difference, p in zip(pairs, differences, adjusted, strict=True):
            mde = minimum_detectable(difference.se, len(pairs), difference.df)
            found.append(Comparison(arm, comparison, other, difference, p, mde, len(pairs)))
    return sorted(found, key=lambda c: (trained.index(c.arm), COMPARISONS.index(c.kind)))


def describe(comparisons: Sequence[Comparison], margin: float, leaky: bool = False) -> str:
    """The verdict on one arm with what weakens it, from its comparisons on one task."""
    by_kind = {comparison.kind: comparison for comparison in comparisons}
    if "onehot" not in by_kind:
        return "no one-hot arm to compare with"
    main = by_kind["onehot"]
    parts = [judge(main.difference, main.p_holm, main.mde, margin, leaky)]
    # An interval below zero says so all the more.
    parts += [
        suffix
        for kind, suffix in _SUFFIXES
        if kind in by_kind and by_kind[kind].difference.low <= 0
    ]
    return "; ".join([*parts, "leakage"] if leaky else parts)


def _task_rows(suite: Suite, task: Task, leaky: bool) -> list[dict[str, Any]]:
    name = task.card.name
    predictions, resampled = suite.predictions(name), suite.resampled(name)
    comparisons = compare(resampled, suite.arms(name))
    rows = []
    for comparison in comparisons:
        row = _row(task, predictions, resampled, comparison)
        if comparison.kind == "onehot":
            mine = [each for each in comparisons if each.arm == comparison.arm]
            row["verdict"] = describe(mine, task.card.margin, leaky)
            row["line"] = f"{name}: {comparison.arm.name} {_metric(row)}: {row['verdict']}"
        rows.append(row)
    return rows


def _row(
    task: Task, predictions: Predictions, resampled: Resampled, comparison: Comparison
) -> dict[str, Any]:
    arm, other, difference = comparison.arm, comparison.other, comparison.difference
    value, metric = resampled.value(arm.name), task.card.metric.primary
    naive = naive_test(predictions, metric, arm.name, other.name)
    needed = blocks_needed(difference, resampled.blocks, task.card.margin, comparison.family)
    return {
        "task": task.card.name, "metric": metric, "arm": arm.name,
        "comparison": comparison.kind, "baseline": other.name,
        "point": value.point, "low": value.low, "high": value.high,
        "difference": difference.point, "diff_low": difference.low, "diff_high": difference.high,
        "diff_low90": difference.low90, "diff_high90": difference.high90,
        "se": difference.se, "se_examples": difference.se_examples,
        "se_seeds": difference.se_seeds, "df": difference.df, "p": difference.p,
        "p_holm": comparison.p_holm, "mde": comparison.mde, "blocks_for_margin": needed,
        "naive_test": naive[0] if naive else None, "naive_p": naive[1] if naive else None,
        "valid_score": arm.valid_score, "n_test": len(predictions.y_NT),
        "blocks": resampled.blocks, "effective_blocks": resampled.effective_blocks,
        "seeds": predictions.scores_MRNT.shape[1], "method": resampled.method,
        "verdict": "", "line": "",
    }  # fmt: skip


def _metrics(task: Task) -> list[tuple[str, str]]:
    metric = task.card.metric
    return [("primary", metric.primary), *(("secondary", name) for name in metric.secondary)]


def _metric(row: dict[str, Any]) -> str:
    caution = f", only {row['blocks']} blocks" if row["method"] == "jackknife" else ""
    return (
        f"{row['metric']} {row['point']:.3f} [{row['low']:.3f}, {row['high']:.3f}] "
        f"vs {row['baseline']}{caution}"
    )


def _opponent(arms: Sequence[Arm], arm: Arm, comparison: str) -> Arm | None:
    """The strongest arm on validation of the kind compared with; for random, the arm's twin."""
    rivals = [other for other in arms if other.kind == comparison]
    if comparison == "random":
        rivals = [other for other in rivals if other.twin_of == arm.name]
    return max(rivals, key=lambda other: other.valid_score, default=None)
