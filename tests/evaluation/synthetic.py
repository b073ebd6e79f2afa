"""Results with planted skill, without a bench: what a store would hand to the tables."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from cislens.evaluation.statistics import Predictions
from cislens.evaluation.suite import Suite
from cislens.evaluation.tasks.card import Metric, Target, TaskCard

KINDS = {
    "model": "trained", "other": "trained", "third": "trained", "twin": "random",
    "onehot": "onehot", "cnn": "onehot", "kmer": "composition",
}  # fmt: skip


def predictions(
    rng: np.random.Generator,
    skill: dict[str, float],
    *,
    seeds: int = 3,
    blocks: int = 60,
    per: int = 5,
    binary: bool = True,
    seed_noise: float = 0.05,
) -> Predictions:
    """Arms that see the label with their skill, through shared and own noise.

    `seed_noise` is the spread of the skill over the seeds of an arm.
    """
    n = blocks * per
    y = rng.integers(0, 2, n).astype(float) if binary else rng.normal(size=n)
    mean = np.array(list(skill.values()))[:, None, None]
    own = mean + seed_noise * rng.normal(size=(len(skill), seeds, 1))
    noise = rng.normal(size=n) + 0.3 * rng.normal(size=(len(skill), seeds, n))
    scores = (own * y + noise)[..., None].astype(np.float32)
    return Predictions(tuple(skill), scores, y[:, None], np.arange(n) // per)


def card(name: str, **changes: Any) -> TaskCard:
    fields: dict[str, Any] = {
        "name": name, "kind": "binary", "target": Target(names=["bound"]), "block": "100 kb",
        "metric": Metric(primary="auroc"), "split": "chromosome", **changes,
    }  # fmt: skip
    return TaskCard(**fields)


class Store:
    """Tasks with their predictions; arms are of the kind that `KINDS` names, twin of `model`."""

    def __init__(
        self, tasks: dict[str, Predictions], cards: dict[str, TaskCard] | None = None
    ) -> None:
        self._tasks = tasks
        self._cards = cards or {}

    def tasks(self) -> list[Any]:
        return [SimpleNamespace(card=self._cards.get(n, card(n))) for n in sorted(self._tasks)]

    def predictions(self, task: Any) -> Predictions:
        return self._tasks[task.card.name]

    def records(self) -> pl.DataFrame:
        """Validation favors the arms that are named later."""
        return pl.DataFrame(
            [
                {
                    "task": task, "arm": arm, "seed": seed, "kind": KINDS[arm],
                    "twin_of": "model" if KINDS[arm] == "random" else None,
                    "valid_score": 0.5 + rank / 100, "parameters": 10,
                }
                for task, each in self._tasks.items()
                for rank, arm in enumerate(each.arms)
                for seed in range(each.scores_MRNT.shape[1])
            ],
            infer_schema_length=None,
        ).sort("task", "arm", "seed")  # fmt: skip


def suite(
    tasks: dict[str, Predictions], draws: int = 400, cards: dict[str, TaskCard] | None = None
) -> Suite:
    return Suite(Store(tasks, cards), draws)  # type: ignore[arg-type]
