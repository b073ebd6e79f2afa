"""A small convolutional head on binned features, the same for every representation.

Dimensions: n and B example, N bin, D feature, C channel, T output.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.evaluation.heads.fitting import (
    Dropout,
    Regime,
    Rows,
    Scores,
    Weights,
    graph_hash,
    predict,
    train,
)
from cislens.evaluation.heads.goal import Goal, Labels, goal_of
from cislens.evaluation.tasks.card import TaskCard
from cislens.randomness import generator, seed_of
from cislens.representations.seeding import seeded

Bins = npt.NDArray[np.float32]
REDUCTION = "reduce"  # the one layer whose size depends on the representation
_EMA_DECAY = 0.98
_NUMBERS_PER_STEP, _LEAST_BATCH = 4_194_304, 4
_NUMBERS_AT_ONCE = 16_777_216
_POOL = 4


@dataclass(frozen=True)
class ProbeShape:
    """Channels after the reduction, after the second convolution, and of the dense layer."""

    reduced: int = 128
    widened: int = 256
    dense: int = 256
    dropout: float = 0.1


class CNNProbe(nn.Module):
    """LayerNorm, 1 x 1 convolution, convolution of 7, pool, convolution of 5, mean and max, dense.

    Where there are few bins a kernel is cut to those taps that can meet one, 2 N - 1, and nothing
    is pooled below 8 bins; otherwise the network is the same for every N and D but for the
    reduction.
    """

    def __init__(
        self, bins: int, features: int, outputs: int, shape: ProbeShape, seed: int
    ) -> None:
        super().__init__()
        self.pool = _POOL if bins >= 2 * _POOL else 1
        pooled = -(-bins // self.pool)
        self.reduce = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, shape.reduced))
        self.first = _convolution(shape.reduced, shape.reduced, 7, bins)
        self.first_norm = nn.BatchNorm1d(shape.reduced)
        self.second = _convolution(shape.reduced, shape.widened, 5, pooled)
        self.second_norm = nn.BatchNorm1d(shape.widened)
        self.head = nn.Sequential(
            Dropout(shape.dropout, seed), nn.Linear(2 * shape.widened, shape.dense), nn.GELU(),
            Dropout(shape.dropout, seed + 1), nn.Linear(shape.dense, outputs),
        )  # fmt: skip

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, T) logits or standardized values."""
        h_BCN = self.reduce(x_BND).transpose(1, 2)
        h_BCN = F.max_pool1d(self.first_norm(self.first(h_BCN)), self.pool, ceil_mode=True)
        h_BCN = F.gelu(self.second_norm(self.second(F.gelu(h_BCN))))
        scores: Tensor = self.head(torch.cat([h_BCN.mean(-1), h_BCN.amax(-1)], dim=1))
        return scores


@dataclass(frozen=True)
class FittedProbe:
    """A trained probe, its best validation metric and what it took.

    Attributes:
        graph: hash of the network without its reduction, equal for all representations of one
            number of bins.
    """

    net: CNNProbe
    goal: Goal
    device: str
    graph: str
    valid_metric: float
    steps: int
    wall_s: float

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    def scores(self, x_nND: Bins) -> Scores:
        """(n, T) scores of binned features."""
        return self.goal.scores(predict(self.net, _Binned(x_nND, self.device)))


def fit_cnn_probe(
    x_train: Bins,
    y_train: Labels,
    x_valid: Bins,
    y_valid: Labels,
    *,
    card: TaskCard,
    regime: Regime,
    seed: int,
    shape: ProbeShape | None = None,
    weights: Weights | None = None,
) -> FittedProbe:
    """Train the probe on features (n, N, D); the weights with the best validation metric stay.

    Features of an unstranded task are those of both strands already: nothing is augmented.

    Raises:
        CislensError: if features are not of shape (n, N, D) or differ in N or D between the folds.
    """
    if x_train.ndim != 3 or x_train.shape[1:] != x_valid.shape[1:]:
        raise CislensError(
            "the CNN probe takes binned features (n, N, D), equal in N and D for training and "
            f"validation; found {x_train.shape} and {x_valid.shape}."
        )
    goal = goal_of(card, y_train, y_valid, regime.device)
    bins, features = x_train.shape[1:]
    with seeded(seed_of("cnn_probe", seed)):
        net = CNNProbe(
            bins, features, goal.outputs, shape or ProbeShape(), seed_of("cnn_probe_dropout", seed)
        )
    net.to(regime.device)
    done = train(
        net, _Binned(x_train, regime.device), _Binned(x_valid, regime.device), goal, regime,
        generator(seed, "cnn_probe_batches"), ema_decay=_EMA_DECAY, weights=weights,
    )  # fmt: skip
    graph = graph_hash(net, leaving_out=[REDUCTION])
    return FittedProbe(
        net, goal, regime.device, graph, done.valid_metric, done.steps, done.wall_s
    )  # fmt: skip


@dataclass(frozen=True)
class _Binned:
    """Binned features, as a feed."""

    x_nND: Bins
    device: str

    def __len__(self) -> int:
        return len(self.x_nND)

    @property
    def largest_batch(self) -> int:
        return max(_LEAST_BATCH, _NUMBERS_PER_STEP // self._numbers)

    @property
    def at_once(self) -> int:
        return max(1, _NUMBERS_AT_ONCE // self._numbers)

    @property
    def _numbers(self) -> int:
        return int(np.prod(self.x_nND.shape[1:]))

    def batch(self, rows: Rows, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.x_nND[rows]).to(self.device)

    def views(self, rows: Rows) -> Iterator[Tensor]:
        yield torch.from_numpy(self.x_nND[rows]).to(self.device)


def _convolution(inputs: int, outputs: int, width: int, positions: int) -> nn.Conv1d:
    width = min(width, 2 * positions - 1)
    return nn.Conv1d(inputs, outputs, width, padding=width // 2)
