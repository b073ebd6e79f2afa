"""The arms of a task: a representation under a linear head, or a network trained from scratch."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.heads.onehot_cnn import FittedCNN, Regime, Shape, fit_cnn
from cislens.evaluation.results import Cost
from cislens.evaluation.tasks.task import Fold, Task
from cislens.genome.codes import Codes
from cislens.randomness import generator, seed_of
from cislens.representations.contract import Features, Kind, Representation, Twinned

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """A configuration chosen on validation, and how to score test sequences with it."""

    config: dict[str, object]
    valid_score: float
    parameters: int
    predict: Callable[[tuple[Codes, ...]], Scores]
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
    """What every arm of a task shares: its examples and the training subset of each seed."""

    task: Task
    train: Fold
    valid: Fold
    fraction: float
    seed: int

    def subset(self, seed: int) -> npt.NDArray[np.int64]:
        """Rows of the training examples in a share of the blocks, redrawn for each seed."""
        blocks = np.unique(self.train.blocks)
        rng = generator(self.seed, "subset", self.task.task_hash, seed)
        kept = rng.permutation(len(blocks))[: max(1, round(self.fraction * len(blocks)))]
        return np.flatnonzero(np.isin(self.train.blocks, blocks[kept]))

    def training_labels(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        assert self.train.labels is not None
        return self.train.labels[rows]

    def head_seed(self, seed: int) -> int:
        return seed_of(self.seed, "head", self.task.task_hash, seed)


@dataclass
class ProbeArm:
    """A representation under a ridge or logistic head."""

    representation: Representation
    ground: Ground
    _features: tuple[Features, Features] | None = field(default=None, repr=False)
    _test: Features | None = field(default=None, repr=False)

    twin_of = None

    @property
    def name(self) -> str:
        return self.representation.name

    @property
    def kind(self) -> Kind:
        return self.representation.kind

    @property
    def digest(self) -> str:
        return self.representation.digest

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        costs = []
        if self._features is None:
            self._features, cost = embed_folds(self.representation, self.ground)
            costs.append(cost)
        return fit_probe(
            self._features, self.ground, seed, self.representation.parameters, self._embed, costs
        )

    def _embed(self, sequences: tuple[Codes, ...]) -> Features:
        # The test sequences are the same for every seed, and so are their features.
        if self._test is None:
            self._test = embed(self.representation, self.ground, sequences)
        return self._test


@dataclass
class TwinArm:
    """The random twin of a trained representation; seed r takes draw r."""

    trained: Twinned
    ground: Ground

    kind: Kind = "random"

    @property
    def name(self) -> str:
        return f"{self.trained.name}-random"

    @property
    def twin_of(self) -> str:
        return self.trained.name

    @property
    def digest(self) -> str:
        return f"twin of {self.trained.digest}"

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        ground = self.ground
        twin = self.trained.twin(seed)
        features, cost = embed_folds(twin, ground)
        embedding = partial(embed, twin, ground)
        return fit_probe(features, ground, seed, twin.parameters, embedding, [cost])


@dataclass
class ScratchArm:
    """A one-hot CNN; the learning rate is chosen with seed 0 and kept for the other seeds."""

    shape: Shape
    ground: Ground
    regimes: list[Regime]

    kind: Kind = "onehot"
    twin_of = None

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def digest(self) -> str:
        return f"{self.shape}"

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        rows = self.ground.subset(seed)
        train = self.ground.train.take(rows)
        card = self.ground.task.card
        tried: list[tuple[Regime, FittedCNN]] = []
        for regime in self.regimes:
            if first is None or regime.learning_rate == first["learning_rate"]:
                fitted = fit_cnn(
                    self.shape, train, self.ground.valid, binary=card.kind == "binary",
                    stranded=card.stranded, metric=card.metric.primary, regime=regime,
                    seed=self.ground.head_seed(seed),
                )  # fmt: skip
                tried.append((regime, fitted))
        regime, chosen = max(tried, key=lambda pair: pair[1].valid_metric)
        config: dict[str, object] = {
            "head": self.shape.name, "learning_rate": regime.learning_rate,
            "steps": regime.steps, "batch_size": regime.batch_size,
        }  # fmt: skip
        bases = sum(map(len, train.sequences))
        costs = [
            Cost("train" if fitted is chosen else "tune", fitted.wall_s, fitted.parameters, bases)
            for _, fitted in tried
        ]
        return Fitted(config, chosen.valid_metric, chosen.parameters, chosen.scores, costs)


def embed(representation: Representation, ground: Ground, sequences: tuple[Codes, ...]) -> Features:
    """Features of a task's sequences: with its species, and as stranded as its card says."""
    card = ground.task.card
    return representation.embed(sequences, card.species, card.stranded)


def embed_folds(
    representation: Representation, ground: Ground
) -> tuple[tuple[Features, Features], Cost]:
    """Features of the training and validation examples, and what they cost."""
    began = time.perf_counter()
    sequences = (*ground.train.sequences, *ground.valid.sequences)
    features = embed(representation, ground, sequences)
    wall = time.perf_counter() - began
    cost = Cost("embed", wall, representation.parameters, sum(map(len, sequences)))
    return (features[: len(ground.train)], features[len(ground.train) :]), cost


def fit_probe(
    features: tuple[Features, Features],
    ground: Ground,
    seed: int,
    parameters: int,
    embedding: Callable[[tuple[Codes, ...]], Features],
    costs: list[Cost],
) -> Fitted:
    """A linear head on the features of the seed's training subset.

    Args:
        features: of all training and validation examples.
        parameters: behind the features.
        embedding: gives the features of the test sequences.
    """
    began = time.perf_counter()
    card = ground.task.card
    kind = "logistic" if card.kind == "binary" else "ridge"
    rows = ground.subset(seed)
    assert ground.valid.labels is not None
    head = fit_linear(
        kind, features[0][rows], ground.training_labels(rows), features[1], ground.valid.labels,
        card.metric.primary,
    )  # fmt: skip
    wall = time.perf_counter() - began
    return Fitted(
        {"head": kind, "alpha": head.alpha, "features": features[0].shape[1]},
        head.valid_metric,
        head.parameters + parameters,
        lambda sequences: head.scores(embedding(sequences)),
        [*costs, Cost("tune", wall, head.parameters, 0)],
    )
