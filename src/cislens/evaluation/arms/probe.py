"""Arms with frozen features: a representation under a head."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cislens.evaluation.arms.contract import Fitted, Ground, Scores
from cislens.evaluation.arms.features import ByView, all_views, fold_features
from cislens.evaluation.heads.linear import LinearHead, fit_linear
from cislens.evaluation.results import Cost
from cislens.evaluation.tasks.task import Fold
from cislens.representations.contract import Features, Kind, Representation, Twinned


@dataclass
class ProbeArm:
    """A representation under a linear head: ridge, or logistic regression for classes.

    Attributes:
        choose_view: whether layer and pooling are chosen on validation with seed 0; else the
            representation's default is taken.
    """

    representation: Representation
    ground: Ground
    choose_view: bool = False
    twin_of: str | None = None
    _known: ByView = field(default_factory=dict, repr=False)
    _test: tuple[Fold, str, Features] | None = field(default=None, repr=False)

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
        views = self._candidates(first)
        costs = self._embed(views)
        began = time.perf_counter()
        heads = {view: self._fit(view, seed) for view in views}
        view = max(views, key=lambda view: heads[view].valid_metric)
        wall = time.perf_counter() - began
        head = heads[view]
        config: dict[str, object] = {
            "head": head.kind, "alpha": head.alpha, "features": self._known[view].shape[1],
            "view": view,
        }  # fmt: skip
        if len(views) > 1:
            config["views"] = {view: heads[view].valid_metric for view in views}
            self._known = {view: self._known[view]}
        return Fitted(
            config,
            head.valid_metric,
            head.parameters + self.representation.parameters,
            lambda fold: self._scores(head, view, fold),
            [*costs, Cost("tune", wall, head.parameters, 0, trials=len(views))],
        )

    def _candidates(self, first: Mapping[str, object] | None) -> Sequence[str]:
        if first is not None:
            return [str(first["view"])]
        views = all_views(self.representation)
        return views if self.choose_view else views[-1:]

    def _embed(self, views: Sequence[str]) -> list[Cost]:
        """Features of the training and validation examples, one below the other."""
        missing = [view for view in views if view not in self._known]
        if not missing:
            return []
        ground = self.ground
        began = time.perf_counter()
        parts = [
            fold_features(self.representation, ground.card, fold, missing)
            for fold in (ground.train, ground.valid)
        ]
        self._known |= {view: np.concatenate([part[view] for part in parts]) for view in missing}
        wall = time.perf_counter() - began
        bases = count_bases(ground.train) + count_bases(ground.valid)
        return [Cost("embed", wall, self.representation.parameters, bases)]

    def _fit(self, view: str, seed: int) -> LinearHead:
        ground = self.ground
        rows, valid = ground.subset(seed), ground.valid_subset(seed)
        features = self._known[view]
        weights = ground.train.weights
        return fit_linear(
            ground.training_card.kind, features[rows], ground.train_labels[rows],
            features[len(ground.train) :][valid], ground.valid_labels[valid],
            ground.training_card.metric.primary, weights=None if weights is None else weights[rows],
        )  # fmt: skip

    def _scores(self, head: LinearHead, view: str, fold: Fold) -> Scores:
        # The test examples are the same for every seed, and so are their features.
        if self._test is None or self._test[0] is not fold or self._test[1] != view:
            embedded = fold_features(self.representation, self.ground.card, fold, [view])
            self._test = (fold, view, embedded[view])
        return head.scores(self._test[2])


@dataclass
class TwinArm:
    """The random twin of a trained representation; seed r takes draw r."""

    trained: Twinned
    ground: Ground
    choose_view: bool = False

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
        arm = ProbeArm(self.trained.twin(seed), self.ground, self.choose_view)
        return arm.fit(seed, first)


def count_bases(fold: Fold) -> int:
    """Bases of all sequences of a fold, both alleles of a variant."""
    both: Any = (*fold.sequences, *(fold.alternates or ()))
    return sum(map(len, both))
