"""Convolutional networks trained from scratch on one-hot sequence: the baseline to beat.

Dimensions: B sequence, L base, C channel, T output.
"""

import copy
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.errors import CislensError, nearest
from cislens.evaluation.metrics import metric_draws
from cislens.evaluation.tasks.task import Fold
from cislens.genome.codes import Codes, N, reverse_complement
from cislens.randomness import generator, seed_of
from cislens.representations.seeding import seeded

_CHECKS = 5  # validations during a fit
_PATIENCE = 2  # of them without a better metric before the fit stops
_BASES_PER_STEP, _LEAST_BATCH = 16_384, 4
_BASES_PREDICTED_AT_ONCE = 131_072
_ONE_HOT = torch.eye(5)[:, :4]  # N is all zeros


@dataclass(frozen=True)
class Shape:
    """Channels and kernel of each convolution (max pool of 4 between them), and the dense layer."""

    name: str
    convolutions: tuple[tuple[int, int], ...]
    dense: int


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("onehot-cnn-tiny", ((64, 11), (64, 5)), 64),
        # Basset and MPRAnn class.
        Shape("onehot-cnn-small", ((128, 15), (192, 7), (256, 5)), 256),
    )
}


def find_shape(name: str) -> Shape:
    """The shape of that name; an unknown one is an error that names the nearest."""
    if name not in SHAPES:
        raise CislensError(f"unknown one-hot CNN {name!r}. {nearest(name, SHAPES)}")
    return SHAPES[name]


class OneHotCNN(nn.Module):
    """Convolutions with batch norm and GELU, global max and mean pool, one hidden layer."""

    def __init__(self, shape: Shape, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 4
        for i, (channels, kernel) in enumerate(shape.convolutions):
            layers += [nn.Conv1d(width, channels, kernel, padding=kernel // 2)]
            layers += [nn.BatchNorm1d(channels)]
            # Before the nonlinearity, which then costs a quarter.
            layers += [nn.MaxPool1d(4, ceil_mode=True)] if i + 1 < len(shape.convolutions) else []
            layers += [nn.GELU()]
            width = channels
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * width, shape.dense), nn.GELU(), nn.Linear(shape.dense, outputs)
        )

    def forward(self, x_B4L: Tensor) -> Tensor:
        """(B, 4, L) -> (B, T) logits or standardized values."""
        h_BCL = self.trunk(x_B4L)
        scores: Tensor = self.head(torch.cat([h_BCL.amax(-1), h_BCL.mean(-1)], dim=1))
        return scores


@dataclass(frozen=True)
class Regime:
    """How every one-hot CNN of a bench is trained: the same for all tasks and arms.

    Long windows come in smaller batches, so that a step costs about the same for every task.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-3


@dataclass(frozen=True)
class FittedCNN:
    """A trained network with the scale of its targets and its best validation metric."""

    net: OneHotCNN
    stranded: bool
    shift_T: npt.NDArray[np.float32]
    scale_T: npt.NDArray[np.float32]
    valid_metric: float
    wall_s: float

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    def scores(self, sequences: tuple[Codes, ...]) -> npt.NDArray[np.float32]:
        """(n, T); the mean of both strands for unstranded tasks."""
        raw = _predict(self.net, _pad(sequences), self.stranded)
        return (raw * self.scale_T + self.shift_T).astype(np.float32)


def fit_cnn(
    shape: Shape,
    train: Fold,
    valid: Fold,
    *,
    binary: bool,
    stranded: bool,
    metric: str,
    regime: Regime,
    seed: int,
) -> FittedCNN:
    """Train with AdamW and a one-cycle rate; the weights with the best validation metric stay.

    Unstranded: each training sequence is reverse-complemented with probability 1/2.
    """
    began = time.perf_counter()
    assert train.labels is not None and valid.labels is not None
    shift_T, scale_T = _target_scale(train.labels, binary)
    y_NT = torch.from_numpy((train.labels - shift_T) / scale_T)
    x_train, x_valid = _pad(train.sequences), _pad(valid.sequences)
    with seeded(seed_of("onehot_cnn", seed)):
        net = OneHotCNN(shape, train.labels.shape[1])
    loss = nn.BCEWithLogitsLoss() if binary else nn.MSELoss()
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=regime.learning_rate, weight_decay=regime.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, regime.learning_rate, total_steps=regime.steps + 1
    )
    rng = generator(seed, "onehot_cnn_batches")
    order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    best, best_state, waited = -np.inf, copy.deepcopy(net.state_dict()), 0
    check_every = max(1, regime.steps // _CHECKS)
    batch = min(regime.batch_size, max(_LEAST_BATCH, _BASES_PER_STEP // x_train.shape[1]))
    for step in range(1, regime.steps + 1):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(len(train))])
        rows, order = order[:batch], order[batch:]
        codes = x_train[rows]
        if not stranded:
            flip = rng.random(len(rows)) < 0.5
            codes[flip] = reverse_complement(codes[flip])
        net.train()
        optimizer.zero_grad()
        loss(net(_one_hot(codes)), y_NT[torch.from_numpy(rows)]).backward()
        optimizer.step()
        schedule.step()
        if step % check_every == 0 or step == regime.steps:
            value = _valid_metric(metric, valid.labels, _predict(net, x_valid, stranded))
            if value > best:
                best, best_state, waited = value, copy.deepcopy(net.state_dict()), 0
            else:
                waited += 1
            if waited >= _PATIENCE:
                break
    net.load_state_dict(best_state)
    wall = time.perf_counter() - began
    return FittedCNN(net, stranded, shift_T, scale_T, float(best), wall)


def _target_scale(
    labels: npt.NDArray[np.float32], binary: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    outputs = labels.shape[1]
    if binary:
        return np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
    spread = labels.std(0)
    return labels.mean(0), np.where(spread > 0, spread, 1).astype(np.float32)


def _valid_metric(
    metric: str, labels: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> float:
    y, s = labels.astype(np.float64), scores.astype(np.float64)
    return float(metric_draws(metric, y, s, np.ones((1, len(y))))[0])


def _predict(net: OneHotCNN, codes: Codes, stranded: bool) -> npt.NDArray[np.float32]:
    net.eval()
    parts = []
    with torch.inference_mode():
        step = max(1, _BASES_PREDICTED_AT_ONCE // codes.shape[1])
        for start in range(0, len(codes), step):
            part = codes[start : start + step]
            scores = net(_one_hot(part))
            if not stranded:
                scores = (scores + net(_one_hot(reverse_complement(part)))) / 2
            parts.append(scores.numpy())
    return np.concatenate(parts)


def _one_hot(codes: Codes) -> Tensor:
    return _ONE_HOT[torch.from_numpy(codes).long()].transpose(1, 2).contiguous()


def _pad(sequences: tuple[Codes, ...]) -> Codes:
    """Sequences as one array (n, L), the shorter ones closed with N."""
    padded = np.full((len(sequences), max(map(len, sequences))), N, dtype=np.uint8)
    for row, codes in zip(padded, sequences, strict=True):
        row[: len(codes)] = codes
    return padded
