"""Arms that are networks trained on the task itself, from one-hot sequence."""

from collections.abc import Mapping
from dataclasses import dataclass

from cislens.evaluation.arms.contract import Fitted, Ground
from cislens.evaluation.arms.probe import count_bases
from cislens.evaluation.heads.fitting import Regime
from cislens.evaluation.heads.onehot_cnn import FittedCNN, Shape, fit_cnn
from cislens.evaluation.results import Cost
from cislens.representations.contract import Kind


@dataclass
class ScratchArm:
    """A one-hot CNN; its regime is chosen with seed 0 and kept for the other seeds."""

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
        ground = self.ground
        train = ground.train.take(ground.subset(seed))
        valid = ground.valid.take(ground.valid_subset(seed))
        chosen = 0 if first is None else int(str(first["trial"]))
        tried: dict[int, FittedCNN] = {}
        for number, regime in enumerate(self.regimes):
            if first is None or number == chosen:
                tried[number] = fit_cnn(
                    self.shape, train, valid, card=ground.training_card, regime=regime,
                    seed=ground.head_seed(seed),
                )  # fmt: skip
        best = max(tried, key=lambda number: tried[number].valid_metric)
        fitted, regime = tried[best], self.regimes[best]
        config: dict[str, object] = {
            "head": self.shape.name, "trial": best, "learning_rate": regime.learning_rate,
            "steps": regime.steps, "batch_size": regime.batch_size,
        }  # fmt: skip
        costs = [
            Cost("train" if net is fitted else "tune", net.wall_s, net.parameters,
                 count_bases(train))
            for net in tried.values()
        ]  # fmt: skip
        return Fitted(
            config, fitted.valid_metric, fitted.parameters,
            lambda fold: fitted.scores(fold.sequences), costs,
        )  # fmt: skip
