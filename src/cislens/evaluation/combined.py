"""Several benches as one: arms of different runs on the same tasks, paired by example."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import Predictions
from cislens.evaluation.suite import Arm, Suite
from cislens.evaluation.tasks.task import Task

_SAME = ("digest", "settings_hash", "config_hash")


class CombinedSuite(Suite):
    """The arms of several result stores on the tasks that all of them judged.

    A task is the same if its hash is. An arm that two stores hold with equal weights, settings
    and configurations is taken once; other arms of one name are told apart by their bench's name.
    Where stores have different numbers of seeds, the first seeds of each are taken.

    Args:
        stores: result stores by the names of their benches, in order.

    Raises:
        CislensError: if there is no task that all of them judged.
    """

    def __init__(self, stores: Mapping[str, ResultStore], draws: int = 2000) -> None:
        if not stores:
            raise CislensError("there is no bench to combine.")
        self._suites = {name: Suite(store, draws) for name, store in stores.items()}
        first, *rest = self._suites.values()
        super().__init__(first.store, draws)
        self._by_task: dict[str, list[tuple[str, str, Arm]]] = {}
        self.tasks: Mapping[str, Task] = {
            name: task
            for name, task in first.tasks.items()
            if all(_hash(other, name) == task.task_hash for other in rest)
        }
        if not self.tasks:
            raise CislensError(
                f"no task was judged by all of {', '.join(stores)}: tasks are the same if their "
                "names and hashes are."
            )

    def arms(self, task: str) -> list[Arm]:
        """The arms of a task, in the order of the benches."""
        return [arm for _, _, arm in self._members(task)]

    def kinds(self) -> dict[str, str]:
        """The kind of every arm."""
        return {arm.name: arm.kind for task in self.tasks for arm in self.arms(task)}

    def predictions(self, task: str) -> Predictions:
        """Test scores of every arm of every bench; those of one task are kept."""
        if self._last is None or self._last[0] != task:
            self._last = (task, self._joined(task))
        return self._last[1]

    def _joined(self, task: str) -> Predictions:
        found = {name: suite.predictions(task) for name, suite in self._suites.items()}
        seeds = min(each.scores_MRNT.shape[1] for each in found.values())
        whole = next(iter(found.values()))
        members = self._members(task)
        scores = [
            found[bench].scores_MRNT[found[bench].arms.index(own), :seeds]
            for bench, own, _ in members
        ]
        names = tuple(arm.name for _, _, arm in members)
        return replace(whole, arms=names, scores_MRNT=np.stack(scores))

    def _members(self, task: str) -> list[tuple[str, str, Arm]]:
        """Bench, name in its bench, and the arm as it is called here."""
        if task not in self._by_task:
            named: dict[str, dict[tuple[object, ...], str]] = {}
            self._by_task[task] = [
                (bench, own, arm)
                for bench, suite in self._suites.items()
                for own, arm in _new_arms(bench, suite, task, named)
            ]
        return self._by_task[task]


def _new_arms(
    bench: str,
    suite: Suite,
    task: str,
    named: dict[str, dict[tuple[object, ...], str]],
) -> list[tuple[str, Arm]]:
    """The arms of a bench that no bench before it has, by their name in it.

    Args:
        named: what arms of each name are called here, by what they are; it is added to.
    """
    mine = suite.records.filter(pl.col("task") == task, pl.col("seed") == 0)
    what = {row["arm"]: tuple(row[key] for key in _SAME) for row in mine.iter_rows(named=True)}
    called: dict[str, str] = {}
    new = []
    for arm in suite.arms(task):
        known = named.setdefault(arm.name, {})
        if what[arm.name] not in known:
            known[what[arm.name]] = f"{arm.name} ({bench})" if known else arm.name
            new.append(arm)
        called[arm.name] = known[what[arm.name]]
    return [
        (arm.name, replace(arm, name=called[arm.name], twin_of=called.get(arm.twin_of or "")))
        for arm in new
    ]


def _hash(suite: Suite, task: str) -> str | None:
    return suite.tasks[task].task_hash if task in suite.tasks else None
