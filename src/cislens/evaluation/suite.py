"""The judged tasks of a results store, each metric resampled once for every table."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.nulls import permutation_null
from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import Predictions, Resampled, resample
from cislens.evaluation.tasks.task import Task

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Arm:
    """An arm of one task and its mean validation score over the seeds."""

    name: str
    kind: str
    twin_of: str | None
    valid_score: float
    parameters: int


class Suite:
    """A store whose resampled metrics are kept, so that all tables are of the same draws."""

    def __init__(self, store: ResultStore, draws: int = 2000) -> None:
        self.store = store
        self.draws = draws
        self.tasks: Mapping[str, Task] = {task.card.name: task for task in store.tasks()}
        self._resampled: dict[tuple[str, str], Resampled] = {}
        self._last: tuple[str, Predictions] | None = None
        self._records: pl.DataFrame | None = None

    @classmethod
    def of(cls, source: "ResultStore | Suite", draws: int = 2000) -> "Suite":
        """The suite of a store; a suite is itself."""
        return source if isinstance(source, Suite) else cls(source, draws)

    def leave_out_unmeasured(self) -> None:
        """Leave tasks out of all tables whose test set is too small for one of their metrics.

        Each is named in the log.

        Raises:
            CislensError: if no task is left.
        """
        kept = dict(self.tasks)
        for name, task in self.tasks.items():
            try:
                for metric in (task.card.metric.primary, *task.card.metric.secondary):
                    self.resampled(name, metric)
            except CislensError as error:
                del kept[name]
                if not kept:
                    raise
                logger.warning("task %s is left out of the tables: %s", name, error)
        self.tasks = kept

    @property
    def records(self) -> pl.DataFrame:
        """All records of the store, read once: tables are made of finished benches."""
        if self._records is None:
            self._records = self.store.records()
        return self._records

    def arms(self, task: str) -> list[Arm]:
        """The arms of a task, in the order of their names."""
        mine = self.records.filter(pl.col("task") == task)
        means = mine.group_by(
            pl.col("arm").alias("name"), "kind", "twin_of", maintain_order=True
        ).agg(pl.col("valid_score").mean(), pl.col("parameters").max())
        return [Arm(**row) for row in means.iter_rows(named=True)]

    def kinds(self) -> dict[str, str]:
        """The kind of every arm of the suite."""
        return dict(self.records.select("arm", "kind").unique().rows())

    def predictions(self, task: str) -> Predictions:
        """Test scores of every arm; those of one task are kept."""
        if self._last is None or self._last[0] != task:
            self._last = (task, self.store.predictions(self.tasks[task]))
        return self._last[1]

    def resampled(self, task: str, metric: str | None = None) -> Resampled:
        """A metric of every arm, resampled; by default the primary one."""
        metric = metric or self.tasks[task].card.metric.primary
        if (task, metric) not in self._resampled:
            self._resampled[task, metric] = resample(self.predictions(task), metric, self.draws)
        return self._resampled[task, metric]

    def null(self, task: str, metric: str) -> dict[str, tuple[float, float, float]]:
        """Mean and 95 % range of each arm's metric under permuted labels."""
        return permutation_null(self.predictions(task), metric)
