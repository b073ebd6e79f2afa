"""A bench of several training seeds as one table: a row a task, a column an arm.

Arms of `cislens bench` whose names end in a number (`both-0`, `both-1`, ..) are one arm of as many
training seeds; replicate i has training seed i and head seed i, so that the interval holds the
noise of both, and of which blocks of examples were drawn. Random twins and baselines are their own
arms. Prints Markdown: scores with 95 % intervals, then differences from --against, paired by
example and replicate, with Holm's correction over the tasks.

    python benchmarks/control_table.py results/yeasts/bench --against masked
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

from cislens.errors import CislensError
from cislens.evaluation.multiplicity import holm
from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import Contrast, Predictions, Resampled, resample
from cislens.evaluation.suite import Suite

_SEED = re.compile(r"(.+?)-(\d+)((?:-random)?(?:-zero-shot)?)")


def pooled(given: Predictions) -> Predictions:
    """The same scores, training seeds of one arm as its replicates."""
    runs: dict[str, list[int]] = {}
    for row, arm in enumerate(given.arms):
        found = _SEED.fullmatch(arm)
        name = arm if found is None else found[1] + found[3]
        runs.setdefault(name, []).append(row)
    heads = given.scores_MRNT.shape[1]
    replicates = max(len(rows) for rows in runs.values())
    scores = [
        [given.scores_MRNT[rows[i % len(rows)], i % heads] for i in range(replicates)]
        for rows in runs.values()
    ]
    return Predictions(
        tuple(runs), np.array(scores, np.float32), given.y_NT, given.block_N, given.group_N
    )


def scored(value: Contrast, sign: str = "") -> str:
    """A value with its interval."""
    return f"{value.point:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", type=Path)
    parser.add_argument("--against", required=True)
    parser.add_argument("--draws", type=int, default=2000)
    given = parser.parse_args()
    suite = Suite(ResultStore(given.bench / "results"))
    found: dict[str, Resampled] = {}
    for name, task in suite.tasks.items():
        predictions = pooled(suite.predictions(name))
        label = f"{name}, {task.card.metric.primary} ({len(predictions.y_NT)})"
        try:
            found[label] = resample(predictions, task.card.metric.primary, given.draws)
        except CislensError as error:  # too few examples are left to say anything
            print(f"{label} is left out: {error}", file=sys.stderr)
    arms = list(dict.fromkeys(arm for each in found.values() for arm in each.arms))
    print("| task |", " | ".join(arms), "|\n|---|" + "---|" * len(arms))
    for label, each in found.items():
        cells = [scored(each.value(arm)) if arm in each.arms else "" for arm in arms]
        print(f"| {label} |", " | ".join(cells), "|")
    others = [
        arm for arm in arms
        if arm != given.against and all(arm in each.arms for each in found.values())
    ]  # fmt: skip
    gaps = {arm: [each.difference(arm, given.against) for each in found.values()] for arm in others}
    adjusted = {arm: holm([gap.p for gap in gaps[arm]]) for arm in others}
    print(f"\n| minus {given.against} |", " | ".join(others), "|\n|---|" + "---|" * len(others))
    for row, label in enumerate(found):
        cells = [f"{scored(gaps[arm][row], '+')} p {adjusted[arm][row]:.3f}" for arm in others]
        print(f"| {label} |", " | ".join(cells), "|")
    means = [f"{np.mean([gap.point for gap in gaps[arm]]):+.3f}" for arm in others]
    print("| mean |", " | ".join(means), "|")


if __name__ == "__main__":
    main()
