"""What a run reports while it goes: one tidy table."""

import logging
import math
from pathlib import Path
from typing import Any

import polars as pl
from lightning.pytorch import Callback, LightningModule, Trainer

from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.logs import note
from cislens.training.course import Course
from cislens.training.module import ObjectiveModule

SCHEMA = {"step": pl.Int64, "split": pl.String, "metric": pl.String, "value": pl.Float64}

logger = logging.getLogger("cislens")


class Monitor(Callback):
    """Collects `step, split, metric, value` rows and writes `metrics.parquet` at validation.

    Training terms are means over the steps since the rows before, those of validation over its
    windows; what the course's watches saw is listed with the validation metrics. The rows travel
    in the checkpoint, so a resumed run continues its own table. A validation that is not finite
    ends the run with a CislensError, before it becomes a checkpoint.
    """

    def __init__(self, path: Path, course: Course) -> None:
        self.path = path
        self.course = course
        self.rows: list[dict[str, Any]] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ObjectiveModule)
        step = trainer.global_step
        assert pl_module.valid_metrics is not None
        seen = (pl_module.valid_metrics, pl_module.valid_terms.cpu(), pl_module.take_terms().cpu())
        metrics, means, trained = merged(trainer, seen)
        terms = trained.compute()
        self._add(step, "train", terms)
        likelihoods = means.compute()
        self._add(step, "valid", likelihoods | metrics.summary())
        for watch in self.course.watches:
            self._add(step, "valid", watch.metrics())
        chosen = {}
        if selection := self.course.selection:
            chosen[selection] = self.last(selection)
            pl_module.log(selection, chosen[selection], rank_zero_only=True, sync_dist=False)
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._write()
            self._log(trainer)
            self._say(step, trainer.max_steps, terms)
        # The metric leaves out what it cannot measure, the likelihood nothing.
        finite = {name: likelihoods.get(name, 0.0) for name in self.course.finite}
        for name, found in {**chosen, **finite}.items():
            if not math.isfinite(found):
                raise self._diverged(step, name, found, pl_module.recipe.learning_rate)

    def last(self, metric: str) -> float:
        """The newest validation value of a metric, averaged over species."""
        return float(next(r["value"] for r in reversed(self.rows) if r["metric"] == metric))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def _add(self, step: int, split: str, values: dict[str, float]) -> None:
        self.rows += [
            {"step": step, "split": split, "metric": name, "value": value}
            for name, value in values.items()
        ]

    def _diverged(self, step: int, metric: str, value: float, rate: float) -> CislensError:
        folder = self.path.parent
        last = folder / "checkpoints" / "last.ckpt"
        before = [row["step"] for row in self.rows if 0 < row["step"] < step]
        kept = "there is no checkpoint before it"
        if before:
            kept = f"the last good checkpoint, of step {max(before)}, is {last}"
        return CislensError(
            f"{folder}: training diverged. At step {step}, with learning_rate {rate:g}, {metric} "
            f"of the validation is {value}; {kept}. Lower training.learning_rate and train into "
            "another --out; if it diverges at a low rate too, check the targets of the store for "
            "extreme values."
        )

    def _write(self) -> None:
        with atomic_path(self.path) as aside:
            pl.DataFrame(self.rows, schema=SCHEMA).write_parquet(aside)

    def _log(self, trainer: Trainer) -> None:
        """Tell the loggers of the recipe what this validation wrote."""
        if trainer.loggers:
            step = trainer.global_step
            found = {
                f"{r['split']}/{r['metric']}": r["value"] for r in self.rows if r["step"] == step
            }
            for each in trainer.loggers:
                each.log_metrics(found, step=step)

    def _say(self, step: int, steps: int, terms: dict[str, float]) -> None:
        names = [name for name in (self.course.selection, *self.course.headline) if name]
        found = ", ".join(f"{name} {self.last(name):.4f}" for name in names)
        trained = ", ".join(
            f"{name} {value:.4f}" for name, value in terms.items() if "/" not in name
        )
        latest = {r["metric"]: r["value"] for r in self.rows if r["step"] == step}
        message = f"training: step {step} of {steps}, {trained}; valid {found}"
        note(logging.INFO, message, "validation", step=step, steps=steps, **latest)


def merged(trainer: Trainer, seen: tuple[Any, ...]) -> tuple[Any, ...]:
    """Metrics and means of terms, each of all devices together."""
    if trainer.world_size == 1:
        return seen
    import torch.distributed as dist

    gathered: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(gathered, seen)
    first, *others = gathered
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            mine.merge(theirs)
    return tuple(first)
