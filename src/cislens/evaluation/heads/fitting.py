"""One way to train a network on the examples of a task; the validation metric chooses its weights.

Used by the one-hot CNNs, the CNN probe and fine-tuning. Nothing here draws from torch's global
state, so that networks may be trained side by side and a seed decides each.

Dimensions: B example, T output.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.evaluation.heads.goal import Goal

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Regime:
    """How a network is trained: the same for all tasks and arms of a bench.

    Attributes:
        steps: of the optimizer, at most.
        batch_size: examples of a step, at most; long ones come in smaller batches.
        learning_rate: the peak of the one-cycle schedule.
        checks: validations during a fit.
        patience: so many of them in a row without a better metric end it.
        device: where torch computes.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-3
    checks: int = 5
    patience: int = 2
    device: str = "cpu"


class Feed(Protocol):
    """The examples of a fold as a network takes them, on the device where it lies."""

    def __len__(self) -> int: ...

    @property
    def largest_batch(self) -> int:
        """Examples that one step may take."""
        ...

    @property
    def at_once(self) -> int:
        """Examples that may be scored at once, without gradients."""
        ...

    def batch(self, rows: Rows, rng: np.random.Generator) -> Any:
        """What the network takes for these examples, augmented by draws from `rng`."""
        ...

    def views(self, rows: Rows) -> Iterator[Any]:
        """What it takes to score them: one view for each strand that a score is the mean of."""
        ...


@dataclass(frozen=True)
class Part:
    """Parameters that share a peak learning rate."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float


@dataclass(frozen=True)
class Training:
    """What a fit came to; the network itself holds the weights with the best metric."""

    valid_metric: float
    steps: int
    wall_s: float


def train(
    net: nn.Module,
    train_feed: Feed,
    valid_feed: Feed,
    goal: Goal,
    regime: Regime,
    rng: np.random.Generator,
    *,
    ema_decay: float = 0.0,
    parts: Sequence[Part] | None = None,
    head: nn.Module | None = None,
    weights: Weights | None = None,
) -> Training:
    """AdamW under a one-cycle rate; the weights with the best validation metric stay in `net`.

    Args:
        net: maps what the feeds give to (B, T).
        rng: draws the batches and their augmentation.
        ema_decay: above 0 the validated and kept weights are a moving average (Polyak and
            Juditsky 1992); it starts short, at (1 + step) / (10 + step).
        parts: parameters with rates of their own; by default all those that train, with the
            regime's.
        head: every layer of it must be used, by default of all of `net`.
        weights: (n,) of the training examples; one is drawn in proportion to its weight.

    Raises:
        CislensError: if a layer of the head gets no gradient.
    """
    began = time.perf_counter()
    parts = parts or [Part([p for p in net.parameters() if p.requires_grad], regime.learning_rate)]
    optimizer = torch.optim.AdamW(
        [{"params": part.parameters, "lr": part.learning_rate} for part in parts],
        weight_decay=regime.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [part.learning_rate for part in parts], total_steps=regime.steps + 1
    )
    kept = Kept(net, ema_decay)
    size = min(regime.batch_size, train_feed.largest_batch)
    check_every = max(1, regime.steps // regime.checks)
    batches = _batches(len(train_feed), size, regime.steps, rng, weights)
    waited, step = 0, 0
    for step, rows in enumerate(batches, 1):
        net.train()
        optimizer.zero_grad()
        loss = goal.loss(net(train_feed.batch(rows, rng)), goal.batch_labels(rows))
        torch.autograd.backward(loss)
        if step == 1:
            require_every_layer_used(net if head is None else head)
        optimizer.step()
        schedule.step()
        kept.average(step)
        if step % check_every == 0 or step == regime.steps:
            with kept.averaged():
                better = kept.keep_if_better(goal.valid_metric(predict(net, valid_feed)))
            waited = 0 if better else waited + 1
            if waited >= regime.patience:
                break
    kept.restore()
    return Training(kept.best, step, time.perf_counter() - began)


def predict(net: nn.Module, feed: Feed) -> Scores:
    """(n, T) outputs in evaluation mode, the mean over the views of an example."""
    net.eval()
    scores = []
    with torch.inference_mode():
        for start in range(0, len(feed), feed.at_once):
            rows = np.arange(start, min(len(feed), start + feed.at_once))
            views = [net(view) for view in feed.views(rows)]
            scores.append((sum(views[1:], views[0]) / len(views)).float().cpu().numpy())
    return np.concatenate(scores)


class Kept:
    """The tensors of a network that change in training: their moving average and their best."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        tensors: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
        self.tensors = [t.detach() for t in [*tensors, *net.buffers()]]
        self.decay = decay
        self._mean = self._copy() if decay else []
        self._saved = self._copy()
        self.best = -np.inf

    def average(self, step: int) -> None:
        """Move the averages towards the present values."""
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            for mean, now in zip(self._mean, self.tensors, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - decay)
                else:
                    mean.copy_(now)

    def averaged(self) -> "_Swapped":
        """Within the block the network has the averaged values."""
        return _Swapped(self.tensors, self._mean)

    def keep_if_better(self, metric: float) -> bool:
        """Remember the network's present values if their metric is the best so far."""
        if not metric > self.best:
            return False
        self.best, self._saved = metric, self._copy()
        return True

    def restore(self) -> None:
        """Give the network the best values."""
        for tensor, best in zip(self.tensors, self._saved, strict=True):
            tensor.copy_(best)

    def _copy(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self.tensors]


class _Swapped:
    def __init__(self, tensors: list[Tensor], others: list[Tensor]) -> None:
        self.pairs = list(zip(tensors, others, strict=True)) if others else []

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for tensor, other in self.pairs:
            held = tensor.clone()
            tensor.copy_(other)
            other.copy_(held)


class Dropout(nn.Module):
    """Dropout of whole channels (the last axis is position) by a generator of its own."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.share = share
        self.seed = seed
        self._generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, L); a channel is zeroed over all of L."""
        if not self.training or self.share == 0:
            return x
        if self._generator is None or self._generator.device != x.device:
            self._generator = torch.Generator(x.device).manual_seed(self.seed)
        kept = torch.empty(*x.shape[:2], *[1] * (x.ndim - 2), device=x.device, dtype=x.dtype)
        return x * kept.bernoulli_(1 - self.share, generator=self._generator) / (1 - self.share)

    def extra_repr(self) -> str:
        return f"{self.share}"


def require_every_layer_used(net: nn.Module) -> None:
    """Refuse a network after its first backward pass if a parameter that should learn cannot.

    Raises:
        CislensError: naming the layers that the forward pass leaves out.
    """
    idle = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        layers = sorted({name.rpartition(".")[0] for name in idle})
        raise CislensError(
            f"{type(net).__name__}: {', '.join(layers)} is built but not used: its parameters get "
            "no gradient. Use the layer in forward, or leave it out."
        )


def graph_hash(net: nn.Module, leaving_out: Sequence[str] = ()) -> str:
    """128 bits, in hex, of a network's modules and the shapes of its parameters.

    Args:
        leaving_out: names of submodules that may differ, such as the reduction of the input.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, module in net.named_modules():
        if not any(name == left or name.startswith(f"{left}.") for left in leaving_out):
            shapes = [(key, tuple(p.shape)) for key, p in module.named_parameters(recurse=False)]
            digest.update(f"{name} {type(module).__name__} {module.extra_repr()} {shapes}".encode())
    return digest.hexdigest()


def _batches(
    n: int, size: int, steps: int, rng: np.random.Generator, weights: Weights | None
) -> Iterator[Rows]:
    """Rows of one batch after another; without weights, each once before any comes again."""
    if weights is not None:
        for _ in range(steps):
            yield rng.choice(n, size, p=weights / weights.sum())
        return
    order: Rows = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(n)])
        rows, order = order[:size], order[size:]
        yield rows
