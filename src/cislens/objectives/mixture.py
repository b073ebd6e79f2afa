"""Several objectives on one encoder: the weighted sum of their losses.

Metrics and terms are named `<part>.<name>`, as `profile.poisson`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from cislens.models.mixture import MixtureModel
from cislens.objectives.contract import Losses, Metrics, Objective
from cislens.objectives.distillation.objective import DistillationObjective


@dataclass(frozen=True)
class MixtureBatch:
    """A batch of each part in training, and of one part in a pass over a split."""

    parts: Mapping[str, Any]

    def windows(self, part: str = "") -> int:
        """Number of windows of all parts, or of one species of the profile part."""
        if part and "profile" in self.parts:
            return int(self.parts["profile"].windows(part))
        return sum(batch.windows(part) for batch in self.parts.values())

    @property
    def targets(self) -> dict[str, Any]:
        """What each part's metrics compare with; None where the predictions hold it."""
        return {name: getattr(batch, "targets", None) for name, batch in self.parts.items()}

    def to(self, device: torch.device | str) -> "MixtureBatch":
        """The same batch on `device`."""
        return MixtureBatch({name: batch.to(device) for name, batch in self.parts.items()})


class MixtureMetrics:
    """The metrics of every part, `<part>.<name>`."""

    def __init__(self, parts: Mapping[str, Metrics]) -> None:
        self.parts = dict(parts)

    def update(self, predictions: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
        """Take in what the parts that `targets` names have predicted."""
        for name, target in targets.items():
            start = f"{name}."
            mine = {
                key.removeprefix(start): value
                for key, value in predictions.items()
                if key.startswith(start)
            }
            self.parts[name].update(mine, target)

    def merge(self, other: "MixtureMetrics") -> None:
        """Take in what another process saw."""
        for name, metrics in self.parts.items():
            metrics.merge(other.parts[name])

    def summary(self) -> dict[str, float]:
        """All of them by name."""
        return {
            f"{name}.{key}": value
            for name, metrics in self.parts.items()
            for key, value in metrics.summary().items()
        }


class MixtureObjective(Objective):
    """The weighted sum of the losses of several objectives, each on a part of one model.

    Args:
        parts: the objectives by name, each of the part of `model` of that name.
        weights: of their losses.
    """

    model: MixtureModel

    def __init__(
        self, model: MixtureModel, parts: Mapping[str, Objective], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model = model
        self.parts = nn.ModuleDict(parts)
        self.weights = dict(weights)
        for part in self.parts.values():
            if isinstance(part, DistillationObjective):
                part.keeps_teacher = False

    def after_step(self) -> None:
        for part in self._objectives().values():
            part.after_step()

    def loss(self, batch: MixtureBatch) -> Losses:
        objectives = self._objectives()
        found = {name: objectives[name].loss(part) for name, part in batch.parts.items()}
        total = torch.stack([self.weights[name] * each.total for name, each in found.items()]).sum()
        return Losses(
            total=total,
            terms={
                f"{n}.{key}": term for n, each in found.items() for key, term in each.terms.items()
            },
            predictions={
                f"{n}.{key}": value
                for n, each in found.items()
                for key, value in each.predictions.items()
            },
        )

    def metrics(self) -> MixtureMetrics:
        return MixtureMetrics({name: each.metrics() for name, each in self._objectives().items()})

    def _objectives(self) -> dict[str, Objective]:
        return {name: cast("Objective", part) for name, part in self.parts.items()}
