"""Arms with frozen features under a head that tries all its settings at once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from cislens.evaluation.arms.contract import Arm, Fitted, Ground, Scores
from cislens.evaluation.arms.features import ByView, Source
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.heads.neighbors import fit_neighbors
from cislens.evaluation.results import Cost
from cislens.evaluation.tasks.task import Fold
from cislens.representations.cache import saved
from cislens.representations.contract import Features, Kind, Representation, Twinned


class _Head(Protocol):
    @property
    def valid_metric(self) -> float: ...

    @property
    def parameters(self) -> int: ...

    def scores(self, x_ND: npt.ArrayLike) -> Scores: ...


@dataclass
class ProbeArm:
    """Features under ridge or logistic regression, or the nearest training examples.

    Attributes:
        choose_view: whether layer and pooling are chosen on validation with seed 0; else the
            default ones are taken.
    """

    source: Source
    ground: Ground
    head: Literal["linear", "neighbors"] = "linear"
    choose_view: bool = False
    twin_of: str | None = None
    _known: ByView = field(default_factory=dict, repr=False)
    _test: tuple[Fold, str, Features] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.source.name + ("" if self.head == "linear" else f"+{self.head}")

    @property
    def kind(self) -> Kind:
        return self.source.kind

    @property
    def digest(self) -> str:
        return self.source.digest

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        views = self._candidates(first)
        costs = self._embed(views)
        began = time.perf_counter()
        heads = {view: self._fit(view, seed) for view in views}
        view = max(views, key=lambda view: heads[view][0].valid_metric)
        wall = time.perf_counter() - began
        head, config = heads[view]
        config |= {"features": self._known[view].shape[1], "view": view}
        if len(views) > 1:
            config["views"] = {view: heads[view][0].valid_metric for view in views}
            self._known = {view: self._known[view]}
        return Fitted(
            config,
            head.valid_metric,
            head.parameters + self.source.parameters,
            lambda fold: self._scores(head, view, fold),
            [*costs, Cost("tune", wall, head.parameters, 0, trials=len(views))],
        )

    def _candidates(self, first: Mapping[str, object] | None) -> Sequence[str]:
        if first is not None:
            return [str(first["view"])]
        return self.source.views if self.choose_view else self.source.views[-1:]

    def _embed(self, views: Sequence[str]) -> list[Cost]:
        """Features of the training and validation examples, one below the other."""
        missing = [view for view in views if view not in self._known]
        if not missing:
            return []
        found, cost = embed_folds(self.source, self.ground, missing)
        self._known |= found
        return [cost]

    def _fit(self, view: str, seed: int) -> tuple[_Head, dict[str, object]]:
        ground = self.ground
        card, weights = ground.training_card, ground.train.weights
        rows, valid = ground.subset(seed), ground.valid_subset(seed)
        x = self._known[view]
        data = (
            card.kind, x[rows], ground.train_labels[rows], x[len(ground.train) :][valid],
            ground.valid_labels[valid], card.metric.primary,
        )  # fmt: skip
        mine = None if weights is None else weights[rows]
        classes = card.outputs if card.kind == "multiclass" else 0
        if self.head == "neighbors":
            nearest = fit_neighbors(*data, weights=mine, classes=classes)
            return nearest, {"head": "neighbors", "k": nearest.k}
        linear = fit_linear(*data, weights=mine, classes=classes)
        return linear, {"head": linear.kind, "alpha": linear.alpha}

    def _scores(self, head: _Head, view: str, fold: Fold) -> Scores:
        # The test examples are the same for every seed, and so are their features.
        if self._test is None or self._test[0] is not fold or self._test[1] != view:
            self._test = (fold, view, self.source.features(fold, [view])[view])
        return head.scores(self._test[2])


@dataclass
class TwinArm:
    """An arm on the random twin of a trained representation; seed r takes draw r.

    Attributes:
        twin_of: name of the arm on the trained one.
        arm_of: makes the arm on a representation.
    """

    trained: Twinned
    name: str
    twin_of: str
    arm_of: Callable[[Representation], Arm]

    kind: Kind = "random"

    @property
    def digest(self) -> str:
        return f"twin of {self.trained.digest}"

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        return self.arm_of(self.trained.twin(seed)).fit(seed, first)


def embed_folds(source: Source, ground: Ground, views: Sequence[str]) -> tuple[ByView, Cost]:
    """Features of the training examples with those of the validation examples below, by view;
    and what they cost."""
    began = time.perf_counter()
    with saved() as before:
        parts = [source.features(fold, views) for fold in (ground.train, ground.valid)]
    found = {view: np.concatenate([part[view] for part in parts]) for view in views}
    # As if nobody had embedded them before: costs do not depend on who came first.
    wall = time.perf_counter() - began + before.seconds
    bases = count_bases(ground.train) + count_bases(ground.valid)
    return found, Cost("embed", wall, source.parameters, bases)


def count_bases(fold: Fold) -> int:
    """Bases of all sequences of a fold, both alleles of a variant."""
    return sum(map(len, fold.sequences)) + sum(map(len, fold.alternates or ()))
