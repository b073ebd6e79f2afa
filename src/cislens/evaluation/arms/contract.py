"""What an arm is, and the ground that all arms of a task share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cislens.evaluation.results import Cost
from cislens.evaluation.targets import Labels, metric_labels
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import Fold, Task
from cislens.randomness import generator, seed_of
from cislens.representations.contract import Kind

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_STRATA = 5  # quantiles of a measured value that a small training set is balanced over


@dataclass(frozen=True)
class Fitted:
    """A configuration chosen on validation, and how to score examples with it."""

    config: dict[str, object]
    valid_score: float
    parameters: int
    predict: Callable[[Fold], Scores]
    costs: list[Cost]


class Arm(Protocol):
    """One contestant of one task."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def twin_of(self) -> str | None: ...

    @property
    def digest(self) -> str: ...

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        """Fit on the seed's training subset, choosing on validation.

        Args:
            seed: redraws the training subset and the head's initialization.
            first: the configuration chosen with seed 0, None for seed 0 itself.
        """
        ...


@dataclass(frozen=True)
class Ground:
    """What every arm of a task shares: its examples and the training subset of each seed.

    Attributes:
        fraction: share of the training blocks in a seed's subset.
        labels: number of training examples instead, with a fourth as many for validation (at
            least ten), so that few labels are few everywhere; None for the fraction.
        seed: of the bench.
    """

    task: Task
    fraction: float
    seed: int
    labels: int | None = None

    @cached_property
    def train(self) -> Fold:
        return self.task.fold("train")

    @cached_property
    def valid(self) -> Fold:
        return self.task.fold("valid")

    @cached_property
    def test(self) -> Fold:
        """The test examples, without labels."""
        return self.task.fold("test")

    @property
    def card(self) -> TaskCard:
        return self.task.card

    @cached_property
    def training_card(self) -> TaskCard:
        """What heads are trained for and chosen by."""
        return self.card.as_trained()

    def subset(self, seed: int) -> Rows:
        """Rows of the training examples of a seed, the same for all arms."""
        if self.labels is not None:
            return self._nested(self.train, self.labels, seed)
        blocks = np.unique(self.train.blocks)
        rng = generator(self.seed, "subset", self.task.task_hash, seed)
        kept = rng.permutation(len(blocks))[: max(1, round(self.fraction * len(blocks)))]
        return np.flatnonzero(np.isin(self.train.blocks, blocks[kept]))

    def valid_subset(self, seed: int) -> Rows:
        """Rows of the validation examples of a seed."""
        if self.labels is None:
            return np.arange(len(self.valid))
        return self._nested(self.valid, max(10, self.labels // 4), seed)

    @cached_property
    def train_labels(self) -> Labels:
        """(n, T) of all training examples, as metrics compare them."""
        assert self.train.labels is not None
        return metric_labels(self.card, self.train.labels)

    @cached_property
    def valid_labels(self) -> Labels:
        """(n, T) of all validation examples, as metrics compare them."""
        assert self.valid.labels is not None
        return metric_labels(self.card, self.valid.labels)

    def head_seed(self, seed: int) -> int:
        return seed_of(self.seed, "head", self.task.task_hash, seed)

    def _nested(self, fold: Fold, count: int, seed: int) -> Rows:
        """The first `count` rows of an order whose every beginning is balanced over the labels.

        One example of each class comes first: without it there is nothing to learn or to judge.
        """
        rng = generator(self.seed, "labels", self.task.task_hash, seed)
        assert fold.labels is not None
        strata = label_strata(fold.labels[:, 0], self.card.kind)
        place = np.empty(len(fold))
        for stratum in np.unique(strata):
            rows = rng.permutation(np.flatnonzero(strata == stratum))
            place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
            place[rows[0]] -= 1
        return np.sort(np.argsort(place, kind="stable")[:count])


def label_strata(y_N: Labels, kind: str) -> npt.NDArray[np.int64]:
    """The class of each example, or the fifth of the values that it lies in."""
    y = np.nan_to_num(y_N)
    values = np.unique(y)
    if kind in ("binary", "multiclass", "multilabel") or len(values) <= _STRATA:
        return np.searchsorted(values, y)
    edges = np.quantile(y, np.linspace(0, 1, _STRATA + 1)[1:-1])
    return np.searchsorted(edges, y)
