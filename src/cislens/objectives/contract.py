"""What a model is trained to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Losses:
    """The loss of a batch.

    Attributes:
        total: what is minimized; a scalar in the graph.
        terms: its parts before weighting, by name, detached; the same names and formulas in
            training and evaluation.
        predictions: what the metrics need, detached, by name.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    predictions: Mapping[str, Tensor] = field(default_factory=dict)


class Metrics(Protocol):
    """Streaming metrics of one pass over a data split."""

    def update(self, predictions: Any, targets: Any) -> None:
        """Take in the predictions and targets of one batch."""

    def merge(self, other: Any) -> None:
        """Take in what another process saw."""

    def summary(self) -> dict[str, float]:
        """All of them by name; NaN for what could not be measured."""


class Objective(nn.Module, ABC):
    """A model together with its loss.

    Attributes:
        model: the module that is trained.
    """

    model: nn.Module

    @property
    def kept(self) -> nn.Module:
        """The module that is saved at the end: the one that is trained, or one that follows it."""
        return self.model

    def after_step(self) -> None:
        """Called after every step of the optimizer, on every device."""

    @abstractmethod
    def loss(self, batch: Any) -> Losses:
        """Forward pass and loss of a batch that lies on the model's device."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """Fresh metrics for one pass."""
