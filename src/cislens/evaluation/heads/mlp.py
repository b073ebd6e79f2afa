"""A small fully connected network on the features of a representation.

Dimensions: N example, D feature, T output.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.evaluation.heads.design import require_finite, standardization
from cislens.evaluation.heads.fitting import (
    Dropout,
    Regime,
    Rows,
    Scores,
    Weights,
    graph_hash,
    train,
)
from cislens.evaluation.heads.goal import Goal
from cislens.randomness import generator, seed_of
from cislens.representations.seeding import seeded

_AT_ONCE = 65_536


@dataclass(frozen=True)
class Layers:
    """Widths of the hidden layers, and the share of units that dropout leaves out of each."""

    widths: tuple[int, ...] = (256,)
    dropout: float = 0.1


class MLP(nn.Module):
    """Hidden layers of linear map, layer norm, GELU and dropout, then a linear map."""

    def __init__(self, features: int, layers: Layers, outputs: int, seed: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        width = features
        for depth, wider in enumerate(layers.widths):
            blocks += [nn.Linear(width, wider), nn.LayerNorm(wider), nn.GELU()]
            blocks += [Dropout(layers.dropout, seed_of("mlp_dropout", seed, depth))]
            width = wider
        self.hidden = nn.Sequential(*blocks)
        self.out = nn.Linear(width, outputs)

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, D) standardized features -> (N, T) logits or standardized values."""
        scores: Tensor = self.out(self.hidden(x_ND))
        return scores


@dataclass(frozen=True)
class MLPHead:
    """A trained network behind the standardization of its training features."""

    net: MLP
    goal: Goal
    mean_D: npt.NDArray[np.float64]
    scale_D: npt.NDArray[np.float64]
    valid_metric: float
    steps: int
    wall_s: float

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    @property
    def graph(self) -> str:
        """Equal for all arms whose heads differ in the number of features alone."""
        return graph_hash(self.net, leaving_out=("hidden.0",))

    def scores(self, x_ND: npt.ArrayLike) -> Scores:
        """(N, T) logits, or values of the target."""
        x = _Features(np.asarray(x_ND), self.mean_D, self.scale_D)
        self.net.eval()
        with torch.inference_mode():
            parts = [self.net(view).numpy() for rows in x.slices() for view in x.views(rows)]
        return self.goal.scores(np.concatenate(parts))


def fit_mlp(
    goal: Goal,
    x_train: npt.ArrayLike,
    x_valid: npt.ArrayLike,
    layers: Layers,
    regime: Regime,
    seed: int,
    weights: Weights | None = None,
) -> MLPHead:
    """Train on the goal's labels; the weights with the best validation metric stay.

    Args:
        goal: labels of the training and validation examples, with loss and metric.
        x_train: (N, D) features.
        seed: of first weights, batches and dropout; torch's global state is left as it was.
        weights: (N,) of the training examples; one is drawn in proportion to its weight.

    Raises:
        CislensError: for features that are not finite.
    """
    x, valid = np.asarray(x_train), np.asarray(x_valid)
    require_finite(x, "training features")
    require_finite(valid, "validation features")
    mean_D, scale_D = standardization(x)
    with seeded(seed_of("mlp", seed)):
        net = MLP(x.shape[1], layers, goal.outputs, seed)
    training = train(
        net, _Features(x, mean_D, scale_D), _Features(valid, mean_D, scale_D), goal, regime,
        generator(seed, "mlp_batches"), weights=weights,
    )  # fmt: skip
    return MLPHead(
        net, goal, mean_D, scale_D, training.valid_metric, training.steps, training.wall_s
    )


class _Features:
    """Standardized features as a network takes them."""

    at_once = _AT_ONCE

    def __init__(
        self, x_ND: npt.NDArray[np.floating], mean_D: npt.ArrayLike, scale_D: npt.ArrayLike
    ) -> None:
        mean = np.asarray(mean_D, dtype=np.float32)
        self.x_ND = (x_ND.astype(np.float32) - mean) * np.asarray(scale_D, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.x_ND)

    @property
    def largest_batch(self) -> int:
        return len(self)

    def batch(self, rows: Rows, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.x_ND[rows])

    def views(self, rows: Rows) -> Iterator[Tensor]:
        yield torch.from_numpy(self.x_ND[rows])

    def slices(self) -> Iterator[Rows]:
        for start in range(0, len(self), _AT_ONCE):
            yield np.arange(start, min(len(self), start + _AT_ONCE))
