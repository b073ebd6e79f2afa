"""Convolutional networks trained from scratch on one-hot sequence: the baseline to beat.

Dimensions: B sequence, L base, C channel, T output.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.evaluation.heads.fitting import Dropout, Regime, Rows, Scores, predict, train
from cislens.evaluation.heads.goal import Goal, goal_of
from cislens.evaluation.heads.residual_cnn import ResidualTrunk
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import Fold
from cislens.genome.codes import Codes, N, reverse_complement
from cislens.randomness import generator, seed_of
from cislens.representations.seeding import seeded

_BASES_PER_STEP, _LEAST_BATCH = 16_384, 4
_BASES_PREDICTED_AT_ONCE = 131_072
_BASES_PER_SHIFT = 60
_ONE_HOT = torch.eye(5)[:, :4]  # N is all zeros


class Shape(Protocol):
    """The architecture of a one-hot CNN and what belongs to its training.

    Attributes:
        name: how tables call it.
        shift: training sequences are moved by up to so many bp.
        ema_decay: of the moving average of the weights, 0 for none.
    """

    @property
    def name(self) -> str: ...

    @property
    def shift(self) -> int: ...

    @property
    def ema_decay(self) -> float: ...

    def build(self, outputs: int, parts: Sequence[int], seed: int) -> "OneHotCNN":
        """The untrained network; `seed` decides what dropout draws."""
        ...


@dataclass(frozen=True)
class PooledShape:
    """Channels and kernel of each convolution (max pool of 4 between them), and the dense layer."""

    name: str
    convolutions: tuple[tuple[int, int], ...]
    dense: int
    shift: int = 0
    ema_decay: float = 0.0

    def build(self, outputs: int, parts: Sequence[int], seed: int) -> "OneHotCNN":
        return OneHotCNN(_PooledTrunk(self.convolutions), nn.GELU(), self.dense, outputs, parts)


@dataclass(frozen=True)
class ResidualShape:
    """Dilated residual convolutions of one width; `narrowed` for small machines and tests."""

    name: str
    channels: int = 256
    dense: int = 256
    dropout: float = 0.1
    shift: int = 3
    ema_decay: float = 0.98

    def build(self, outputs: int, parts: Sequence[int], seed: int) -> "OneHotCNN":
        trunk = ResidualTrunk(self.channels, self.dropout, seed)
        hidden = nn.Sequential(nn.SiLU(), Dropout(self.dropout, seed - 1))
        return OneHotCNN(trunk, hidden, self.dense, outputs, parts)

    def narrowed(self, factor: float) -> "ResidualShape":
        """The same network with `factor` times the channels; its name says so."""
        return replace(
            self,
            name=f"{self.name}-x{factor:g}",
            channels=max(8, round(self.channels * factor)),
            dense=max(8, round(self.dense * factor)),
        )


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        PooledShape("onehot-cnn-tiny", ((64, 11), (64, 5)), 64),
        # Basset and MPRAnn class.
        PooledShape("onehot-cnn-small", ((128, 15), (192, 7), (256, 5)), 256),
        ResidualShape("onehot-cnn-base"),
    )
}


def find_shape(name: str) -> Shape:
    """The shape of that name; an unknown one is an error that names the nearest."""
    if name not in SHAPES:
        raise CislensError(f"unknown one-hot CNN {name!r}. {nearest(name, SHAPES)}")
    return SHAPES[name]


class OneHotCNN(nn.Module):
    """A trunk, and one hidden layer on what it makes of each part of the sequence."""

    def __init__(
        self, trunk: nn.Module, hidden: nn.Module, dense: int, outputs: int, parts: Sequence[int]
    ) -> None:
        super().__init__()
        self.parts = list(parts)
        self.trunk = trunk
        features = int(trunk.features) * max(1, len(parts))  # type: ignore[arg-type]
        self.head = nn.Sequential(nn.Linear(features, dense), hidden, nn.Linear(dense, outputs))

    def forward(self, x_B4L: Tensor) -> Tensor:
        """(B, 4, L) -> (B, T) logits or standardized values."""
        scores: Tensor = self.head(self._features(x_B4L))
        return scores

    def _features(self, x_B4L: Tensor) -> Tensor:
        if len(self.parts) < 2:
            features: Tensor = self.trunk(x_B4L)
            return features
        # As one batch, so that batch norm sees in training what its running statistics describe.
        longest = max(self.parts)
        parts = [F.pad(x, (0, longest - x.shape[2])) for x in torch.split(x_B4L, self.parts, dim=2)]
        return torch.cat(self.trunk(torch.cat(parts)).chunk(len(parts)), dim=1)


class _PooledTrunk(nn.Module):
    """Convolutions with batch norm and GELU, then global max and mean pool."""

    def __init__(self, convolutions: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 4
        for i, (channels, kernel) in enumerate(convolutions):
            layers += [nn.Conv1d(width, channels, kernel, padding=kernel // 2)]
            layers += [nn.BatchNorm1d(channels)]
            # Before the nonlinearity, which then costs a quarter.
            layers += [nn.MaxPool1d(4, ceil_mode=True)] if i + 1 < len(convolutions) else []
            layers += [nn.GELU()]
            width = channels
        self.layers = nn.Sequential(*layers)
        self.features = 2 * width

    def forward(self, x_B4L: Tensor) -> Tensor:
        h_BCL = self.layers(x_B4L)
        return torch.cat([h_BCL.amax(-1), h_BCL.mean(-1)], dim=1)


@dataclass(frozen=True)
class FittedCNN:
    """A trained network, its best validation metric and what it took."""

    net: OneHotCNN
    card: TaskCard
    goal: Goal
    device: str
    valid_metric: float
    steps: int
    wall_s: float

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    def scores(self, sequences: tuple[Codes, ...]) -> Scores:
        """(n, T); the mean of both strands for unstranded tasks."""
        feed = _Sequences(padded(sequences), self.card, self.device)
        return self.goal.scores(predict(self.net, feed))


def fit_cnn(
    shape: Shape, train_fold: Fold, valid_fold: Fold, *, card: TaskCard, regime: Regime, seed: int
) -> FittedCNN:
    """Train a one-hot CNN on a task; the weights with the best validation metric stay.

    Unstranded: each training sequence is reverse-complemented with probability 1/2.

    Raises:
        CislensError: for an unstranded task of parts whose lengths do not read the same from
            either end, or parts that do not add up to the sequences.
    """
    assert train_fold.labels is not None and valid_fold.labels is not None
    x_train, x_valid = padded(train_fold.sequences), padded(valid_fold.sequences)
    _check_parts(card, x_train.shape[1])
    goal = goal_of(card, train_fold.labels, valid_fold.labels, regime.device)
    with seeded(seed_of("onehot_cnn", seed)):
        net = shape.build(goal.outputs, card.parts, seed_of("onehot_cnn_dropout", seed))
    net.to(regime.device)
    done = train(
        net,
        _Sequences(x_train, card, regime.device, shape.shift),
        _Sequences(x_valid, card, regime.device),
        goal, regime, generator(seed, "onehot_cnn_batches"), ema_decay=shape.ema_decay,
        weights=train_fold.weights,
    )  # fmt: skip
    return FittedCNN(net, card, goal, regime.device, done.valid_metric, done.steps, done.wall_s)


def padded(sequences: Sequence[Codes]) -> Codes:
    """Sequences as one array (n, L), the shorter ones closed with N."""
    codes_NL = np.full((len(sequences), max(map(len, sequences))), N, dtype=np.uint8)
    for row, codes in zip(codes_NL, sequences, strict=True):
        row[: len(codes)] = codes
    return codes_NL


def shifted(codes_BL: Codes, parts: Sequence[int], most: int, rng: np.random.Generator) -> Codes:
    """Every part of every sequence moved by -most to +most bp, N where it leaves room.

    Short parts move less, by up to one bp per 60: in nine bases every position counts.
    """
    moved = codes_BL.copy()
    ends = np.cumsum(parts or [codes_BL.shape[1]])
    for end, length in zip(ends, parts or [codes_BL.shape[1]], strict=True):
        reach = min(most, length // _BASES_PER_SHIFT)
        if reach:
            part = np.pad(
                codes_BL[:, end - length : end], ((0, 0), (reach, reach)), constant_values=N
            )
            windows = np.lib.stride_tricks.sliding_window_view(part, length, axis=1)
            start_B = rng.integers(0, 2 * reach + 1, len(codes_BL))
            moved[:, end - length : end] = windows[np.arange(len(codes_BL)), start_B]
    return moved


@dataclass(frozen=True)
class _Sequences:
    """One-hot sequences of a task, as a feed."""

    codes_NL: Codes
    card: TaskCard
    device: str
    shift: int = 0

    def __len__(self) -> int:
        return len(self.codes_NL)

    @property
    def largest_batch(self) -> int:
        # Long windows come in smaller batches, so that a step costs about the same for any task.
        return max(_LEAST_BATCH, _BASES_PER_STEP // int(self.codes_NL.shape[1]))

    @property
    def at_once(self) -> int:
        return max(1, _BASES_PREDICTED_AT_ONCE // int(self.codes_NL.shape[1]))

    def batch(self, rows: Rows, rng: np.random.Generator) -> Tensor:
        codes_BL = self.codes_NL[rows]
        if not self.card.stranded:
            flip_B = rng.random(len(rows)) < 0.5
            codes_BL[flip_B] = reverse_complement(codes_BL[flip_B])
        if self.shift:
            codes_BL = shifted(codes_BL, self.card.parts, self.shift, rng)
        return self._one_hot(codes_BL)

    def views(self, rows: Rows) -> Iterator[Tensor]:
        codes_BL = self.codes_NL[rows]
        yield self._one_hot(codes_BL)
        if not self.card.stranded:
            yield self._one_hot(reverse_complement(codes_BL))

    def _one_hot(self, codes_BL: npt.NDArray[np.uint8]) -> Tensor:
        one_hot = _ONE_HOT[torch.from_numpy(codes_BL).long()].transpose(1, 2).contiguous()
        return one_hot.to(self.device)


def _check_parts(card: TaskCard, length: int) -> None:
    if card.parts and sum(card.parts) != length:
        raise CislensError(
            f"task {card.name}: its sequences have {length} bp and its parts {card.parts} add up "
            f"to {sum(card.parts)}; correct `parts` on the card."
        )
    if not card.stranded and card.parts != card.parts[::-1]:
        raise CislensError(
            f"task {card.name}: parts {card.parts} change places on the other strand; make the "
            "task stranded, or the lengths the same from either end."
        )
