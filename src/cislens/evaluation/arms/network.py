"""Arms that are networks trained on the task: from one-hot sequence, on features, or from the
weights of a trained one. All are tuned by the same trials."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Fitted, Ground, Rows, Scores
from cislens.evaluation.arms.features import Source, in_parts
from cislens.evaluation.arms.probe import count_bases, embed_folds
from cislens.evaluation.heads.cnn_probe import fit_cnn_probe
from cislens.evaluation.heads.finetune import LEARNING_RATES, fit_finetuned
from cislens.evaluation.heads.fitting import Regime
from cislens.evaluation.heads.goal import goal_of
from cislens.evaluation.heads.mlp import Layers, fit_mlp
from cislens.evaluation.heads.onehot_cnn import Shape, fit_cnn
from cislens.evaluation.heads.tuning import Budget, Space, Trial, select, trials
from cislens.evaluation.results import Cost
from cislens.evaluation.tasks.task import Fold
from cislens.recipes.schema import BenchSettings
from cislens.representations.contract import Binned, Features, Kind, Representation, Tunable

# Lower rates learn too little within the steps of a bench, which would flatter what is held
# against these networks.
_RATES = (2e-3, 1.2e-2)


@dataclass(frozen=True)
class Trained:
    """A network trained in one trial.

    Attributes:
        embedding: what the features cost that no trial before had needed.
    """

    valid_metric: float
    parameters: int
    steps: int
    wall_s: float
    bp: int
    predict: Callable[[Fold], Scores]
    embedding: Sequence[Cost] = ()


@dataclass
class NetworkArm:
    """A network; its trial is chosen with seed 0 and kept for the other seeds.

    Attributes:
        fit_trial: trains it, given the trial and the seed.
        budget: where the trials come from; None for a network that has its own rates, because it
            is trained already.
    """

    name: str
    kind: Kind
    digest: str
    tried: Sequence[Trial]
    fit_trial: Callable[[Trial, int], Trained]
    budget: Budget | None = None
    twin_of: str | None = None

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        numbered = [{**trial, "trial": number} for number, trial in enumerate(self.tried)]
        if first is not None:
            numbered = [numbered[int(str(first["trial"]))]]
        fitted: list[Trained] = []

        def fit(trial: Trial) -> Trained:
            fitted.append(self.fit_trial(trial, seed))
            return fitted[-1]

        selected = select(numbered, fit)
        best = selected.fitted
        costs = [cost for one in fitted for cost in one.embedding]
        costs += [
            Cost("train" if one is best else "tune", one.wall_s, one.parameters, one.bp,
                 trials=1, steps=one.steps)
            for one in fitted
        ]  # fmt: skip
        config = {"head": self.name, **selected.trial, "steps": best.steps}
        return Fitted(config, best.valid_metric, best.parameters, best.predict, costs)


def budget_of(settings: BenchSettings) -> Budget:
    """What every network of a bench may try, on every task."""
    return Budget(Space(_RATES, batch_size=(settings.cnn_batch,)), settings.trials)


def scratch_arm(shape: Shape, ground: Ground, settings: BenchSettings) -> NetworkArm:
    """A one-hot CNN, trained from scratch."""

    def fit_trial(trial: Trial, seed: int) -> Trained:
        train, valid = _folds(ground, seed)
        net = fit_cnn(
            shape, train, valid, card=ground.training_card, regime=_regime(trial, settings),
            seed=ground.head_seed(seed),
        )  # fmt: skip
        return Trained(
            net.valid_metric, net.parameters, net.steps, net.wall_s, count_bases(train),
            lambda fold: net.scores(fold.sequences),
        )  # fmt: skip

    budget = budget_of(settings)
    return NetworkArm(shape.name, "onehot", f"{shape}", trials(budget), fit_trial, budget)


def mlp_arm(source: Source, ground: Ground, settings: BenchSettings) -> NetworkArm:
    """Frozen features under a small network; layer and pooling are part of its trials."""
    views = source.views if settings.layers else source.views[-1:]
    known: dict[str, Features] = {}
    of_view = {view: _once(partial(_features, source, view)) for view in views}

    def fit_trial(trial: Trial, seed: int) -> Trained:
        view = str(trial["view"])
        embedding = []
        if view not in known:
            found, cost = embed_folds(source, ground, [view])
            known.update(found)
            embedding.append(cost)
        rows, valid = ground.subset(seed), ground.valid_subset(seed)
        x_train, x_valid = known[view][: len(ground.train)], known[view][len(ground.train) :]
        assert ground.train.labels is not None and ground.valid.labels is not None
        goal = goal_of(ground.training_card, ground.train.labels[rows], ground.valid.labels[valid])
        net = fit_mlp(
            goal, x_train[rows], x_valid[valid], Layers(dropout=_number(trial, "dropout")),
            _regime(trial, settings), ground.head_seed(seed),
            None if ground.train.weights is None else ground.train.weights[rows],
        )  # fmt: skip
        return Trained(
            net.valid_metric, net.parameters + source.parameters, net.steps, net.wall_s,
            count_bases(ground.train.take(rows)),
            lambda fold: net.scores(of_view[view](fold)), embedding,
        )  # fmt: skip

    budget = budget_of(settings)
    tried = trials(budget, {"view": views})
    return NetworkArm(f"{source.name}+mlp", source.kind, source.digest, tried, fit_trial, budget)


def bins_arm(representation: Representation, ground: Ground, settings: BenchSettings) -> NetworkArm:
    """The vectors of consecutive bins under a small CNN.

    Raises:
        CislensError: if the representation gives no bins.
    """
    given = representation
    if not isinstance(given, Binned):
        raise CislensError(f"{given.name} gives one vector per sequence; a CNN probe needs bins.")
    card = ground.card
    known: list[Features] = []

    @_once
    def bins(fold: Fold) -> Features:
        # Parts lie side by side along the bins, not the channels.
        found = in_parts(
            card, fold,
            lambda part: {"bins": given.embed_bins(part, card.species, card.stranded).swapaxes(
                1, 2)},
        )  # fmt: skip
        return found["bins"].swapaxes(1, 2)

    def fit_trial(trial: Trial, seed: int) -> Trained:
        embedding = []
        if not known:
            began = time.perf_counter()
            known.extend([bins(ground.train), bins(ground.valid)])
            wall = time.perf_counter() - began
            bases = count_bases(ground.train) + count_bases(ground.valid)
            embedding.append(Cost("embed", wall, given.parameters, bases))
        rows, valid = ground.subset(seed), ground.valid_subset(seed)
        assert ground.train.labels is not None and ground.valid.labels is not None
        net = fit_cnn_probe(
            known[0][rows], ground.train.labels[rows], known[1][valid],
            ground.valid.labels[valid], card=ground.training_card,
            regime=_regime(trial, settings), seed=ground.head_seed(seed),
            weights=None if ground.train.weights is None else ground.train.weights[rows],
        )  # fmt: skip
        return Trained(
            net.valid_metric, net.parameters + given.parameters, net.steps, net.wall_s,
            count_bases(ground.train.take(rows)), lambda fold: net.scores(bins(fold)), embedding,
        )  # fmt: skip

    budget = budget_of(settings)
    tried = trials(budget)
    return NetworkArm(f"{given.name}+cnn", given.kind, given.digest, tried, fit_trial, budget)


def tuned_arm(
    representation: Representation,
    mode: Literal["lora", "full"],
    ground: Ground,
    settings: BenchSettings,
) -> NetworkArm:
    """The network itself, trained further: whole, or through adapters.

    Raises:
        CislensError: if the representation has no network.
    """
    given = representation
    if not isinstance(given, Tunable):
        raise CislensError(f"{given.name} has no network that could be trained further.")
    # Its own rates: those that train a network anew would wipe out what it has learned.
    tried: list[Trial] = [
        {"learning_rate": rate, "weight_decay": 0.01, "batch_size": settings.cnn_batch}
        for rate in LEARNING_RATES[-settings.trials :]
    ]

    def fit_trial(trial: Trial, seed: int) -> Trained:
        train, valid = _folds(ground, seed)
        net = fit_finetuned(
            given, train, valid, card=ground.training_card, mode=mode,
            regime=_regime(trial, settings), seed=ground.head_seed(seed),
        )  # fmt: skip
        return Trained(
            net.valid_metric, net.parameters, net.steps, net.wall_s, count_bases(train),
            lambda fold: net.scores(fold.sequences),
        )  # fmt: skip

    return NetworkArm(f"{given.name}+{mode}", given.kind, given.digest, tried, fit_trial)


def _features(source: Source, view: str, fold: Fold) -> Features:
    return source.features(fold, [view])[view]


def _once(features: Callable[[Fold], Features]) -> Callable[[Fold], Features]:
    """The features of the last fold are kept: test examples are the same for every seed."""
    kept: list[tuple[Fold, Features]] = []

    def of(fold: Fold) -> Features:
        if not kept or kept[0][0] is not fold:
            kept[:] = [(fold, features(fold))]
        return kept[0][1]

    return of


def _folds(ground: Ground, seed: int) -> tuple[Fold, Fold]:
    rows: tuple[Rows, Rows] = ground.subset(seed), ground.valid_subset(seed)
    return ground.train.take(rows[0]), ground.valid.take(rows[1])


def _regime(trial: Mapping[str, Any], settings: BenchSettings) -> Regime:
    return Regime(
        settings.cnn_steps, int(trial["batch_size"]), float(trial["learning_rate"]),
        float(trial["weight_decay"]),
    )  # fmt: skip


def _number(trial: Mapping[str, Any], name: str) -> float:
    return float(trial[name])
