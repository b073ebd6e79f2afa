"""What a network is trained towards: the loss of a task's kind and its metric on validation.

Dimensions: N examples, B those of a batch, T outputs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.evaluation.heads.losses import Loss, loss_for
from cislens.evaluation.metrics import metric_draws
from cislens.evaluation.targets import metric_labels
from cislens.evaluation.tasks.card import TaskCard

Labels = npt.NDArray[np.float32]
_MEASURED = {"regression", "multi_regression"}


@dataclass(frozen=True)
class Goal:
    """The labels of a fit and how outputs are judged by them.

    Measured values are standardized for training by `shift_T` and `scale_T`, those of the training
    examples; a network's outputs become scores by the way back.
    """

    outputs: int
    metric: str
    loss: Loss
    shift_T: Labels
    scale_T: Labels
    train_labels: Tensor
    valid_labels: Labels

    def batch_labels(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Labels (B, T) of training examples as the loss takes them."""
        return self.train_labels[torch.from_numpy(rows)]

    def scores(self, outputs_NT: Labels) -> Labels:
        """Logits, or values of the target, from what the network gives."""
        return (outputs_NT * self.scale_T + self.shift_T).astype(np.float32)

    def valid_metric(self, outputs_NT: Labels) -> float:
        """The metric on the validation examples; NaN where it is undefined."""
        scores = self.scores(outputs_NT).astype(np.float64)
        if not np.isfinite(scores).all():
            return float("nan")
        labels = self.valid_labels.astype(np.float64)
        return float(metric_draws(self.metric, labels, scores, np.ones((1, len(labels))))[0])


def goal_of(card: TaskCard, train: Labels, valid: Labels, device: str = "cpu") -> Goal:
    """The goal of a task for labels (N, T) of its training and validation examples."""
    card = card.as_trained()
    shift_T, scale_T = np.zeros(1, np.float32), np.ones(1, np.float32)
    if card.kind in _MEASURED:
        # An output that no training example has is guessed as 0.
        known = np.ma.masked_invalid(train)
        shift_T = known.mean(0).filled(0).astype(np.float32)
        spread_T = known.std(0).filled(0)
        scale_T = np.where(spread_T > 0, spread_T, 1).astype(np.float32)
    labels = torch.from_numpy((train - shift_T) / scale_T).to(device)
    return Goal(
        card.outputs,
        card.metric.primary,
        loss_for(card.kind),
        shift_T,
        scale_T,
        labels,
        metric_labels(card, valid),
    )
