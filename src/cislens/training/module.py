"""An objective as a Lightning module: optimizer, schedule, seeds of each step, metrics."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.nn.gathering import alone
from cislens.objectives.contract import Metrics, Objective
from cislens.objectives.mixture import MixtureBatch
from cislens.randomness import seed_of
from cislens.recipes.schema import Training

_VECTOR = re.compile(r"bias|\bb_(in|out)\b|tokens?\b")


class TermMeans:
    """Means of loss terms over windows, in training those since the last validation.

    A term `<name>/<part>` counts the windows of that part, any other one those of the batch; in a
    mixture, of the batch of its objective. That of a process is weighed by its own windows.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.windows: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor], batch: Any) -> None:
        """Take in the terms of a batch."""
        for name, value in terms.items():
            windows = _windows(name, batch)
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value * windows
            self.windows[name] = self.windows.get(name, 0) + windows

    def merge(self, other: "TermMeans") -> None:
        """Take in what another process saw."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
            self.windows[name] = self.windows.get(name, 0) + other.windows[name]

    def cpu(self) -> "TermMeans":
        """The same on the CPU."""
        moved = TermMeans()
        moved.sums = {name: value.cpu() for name, value in self.sums.items()}
        moved.windows = self.windows
        return moved

    def compute(self) -> dict[str, float]:
        """The means."""
        return {name: float(value) / self.windows[name] for name, value in self.sums.items()}


class ObjectiveModule(LightningModule):
    """Trains an `Objective` with AdamW, warm-up and a cosine schedule.

    Dropout is seeded by (seed, step, rank) before every step, so that an interrupted run that is
    resumed draws the same masks as one that was not. On several devices the masks are others than
    on one; without dropout and noise the losses are the same.

    Args:
        frozen: modules that stay in eval mode.
        origin: what the run depends on beside its recipe, by name; a checkpoint of other origin
            is refused.

    Attributes:
        train_terms: loss terms since `take_terms`.
        valid_metrics, valid_terms: streaming metrics and loss terms of the validation pass.
    """

    def __init__(
        self,
        objective: Objective,
        training: Training,
        seed: int,
        frozen: Sequence[nn.Module] = (),
        origin: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.frozen = tuple(frozen)
        self.origin = dict(origin or {})
        self.objective = objective
        self.recipe = training
        self.seed = seed
        self.train_terms = TermMeans()
        self.valid_metrics: Metrics | None = None
        self.valid_terms = TermMeans()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["origin"] = self.origin

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for what, then in checkpoint.get("origin", {}).items():
            now = self.origin.get(what, "")
            if then != now:
                raise CislensError(
                    f"the interrupted run began with another {what} ({then[:12]}, now "
                    f"{now[:12]}); restore it, or remove the run folder to start over."
                )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        part = batch_idx % self.recipe.accumulate
        share = self.global_rank + self.trainer.world_size * part
        torch.manual_seed(seed_of(self.seed, "dropout", self.global_step, share))
        losses = self.objective.loss(batch)
        self.train_terms.add(losses.terms, batch)
        return losses.total

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        # Weights that a batch had no use for decay on one device too: on several they must.
        for weight in self.objective.parameters():
            if weight.requires_grad and weight.grad is None:
                weight.grad = torch.zeros_like(weight)

    def optimizer_step(self, *given: Any, **more: Any) -> None:
        super().optimizer_step(*given, **more)
        self.objective.after_step()

    def take_terms(self) -> TermMeans:
        """Means of the loss terms since the last call."""
        means, self.train_terms = self.train_terms, TermMeans()
        return means

    def on_validation_epoch_start(self) -> None:
        self.valid_metrics = self.objective.metrics()
        self.valid_terms = TermMeans()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert self.valid_metrics is not None
        with alone():
            losses = self.objective.loss(batch)
        self.valid_metrics.update(losses.predictions, getattr(batch, "targets", None))
        self.valid_terms.add(losses.terms, batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            parameter_groups(self.objective, self.recipe.weight_decay),
            lr=self.recipe.learning_rate,
            betas=(0.9, 0.95),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, self.recipe.steps, self.recipe.warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _windows(term: str, batch: Any) -> int:
    """Windows that a term of a batch is a mean of."""
    if isinstance(batch, MixtureBatch):
        part, _, term = term.partition(".")
        return _windows(term, batch.parts[part])
    return int(batch.windows(term.partition("/")[2]))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two AdamW groups: matrices and kernels decay; biases, norms, codes and tokens do not."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            # Some vectors are kept as (1, H, 1, K), or as one row for each expert.
            vector = parameter.ndim < 2 or _VECTOR.search(name) is not None
            (others if vector else decaying).append(parameter)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear over the first `warmup * steps`, then cosine to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
