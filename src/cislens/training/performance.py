"""How well a run uses its machine: time, waiting, utilization, memory, and how long is left."""

import logging
import math
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cislens.files import atomic_path
from cislens.logs import note
from cislens.training.course import Course
from cislens.usage import cores, memory_high_water, processor_seconds, time_left

SCHEMA = {"step": pl.Int64, "metric": pl.String, "value": pl.Float64}

# A GPU says how busy it was in about the last second; asking is not free.
_ASK_EVERY_SECONDS = 5.0


class Performance(Callback):
    """Measures training between validations and writes `step, metric, value` rows at each.

    Of several devices the means are written; memory is that of the device with the most. The
    rows travel in the checkpoint, and so do the totals.

    Attributes:
        step_flops: of one step over all devices; 0 as long as it is not counted.
        train_seconds: time in training steps, loading included, validation excluded.
        wait_seconds: the part of it in which the loader was waited for.
    """

    def __init__(self, path: Path, course: Course) -> None:
        self.path = path
        self.course = course
        self.step_flops = 0
        self.rows: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self.wait_seconds = 0.0
        self._interval = _Interval()
        self._validation_began = 0.0
        self._validation_seconds = 0.0
        self._began = self._waited = self._computed = 0.0
        self._asked = -math.inf

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark()
        self._interval = _Interval(first_step=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *batch: Any, **more: Any
    ) -> None:
        began, waited, computed = self._began, self._waited, self._computed
        self._mark()
        self._interval.seconds += self._began - began
        self._interval.waited += self._waited - waited
        self._interval.computed += self._computed - computed
        self.train_seconds += self._began - began
        self.wait_seconds += self._waited - waited
        if pl_module.device.type == "cuda" and self._began - self._asked > _ASK_EVERY_SECONDS:
            self._asked = self._began
            self._interval.busy += _gpu_busy(pl_module.device)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_began = time.perf_counter()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_seconds = time.perf_counter() - self._validation_began
        steps = trainer.global_step - self._interval.first_step
        if steps <= 0 or self._interval.seconds <= 0:
            return
        found = self._measured(steps, pl_module.device, trainer)
        left = self._seconds_left(trainer, found["seconds_per_step"])
        self.rows += [
            {"step": trainer.global_step, "metric": name, "value": value}
            for name, value in (*found.items(), ("seconds_left", left))
        ]
        if trainer.is_global_zero:
            with atomic_path(self.path) as aside:
                pl.DataFrame(self.rows, schema=SCHEMA).write_parquet(aside)
            if trainer.loggers:
                pl_module.log_dict(
                    {f"performance/{name}": value for name, value in found.items()},
                    rank_zero_only=True, sync_dist=False,
                )  # fmt: skip
            self._say(trainer, found, left)
        self._mark()

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "train_seconds": self.train_seconds,
            "wait_seconds": self.wait_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.train_seconds = state_dict["train_seconds"]
        self.wait_seconds = state_dict["wait_seconds"]

    def high_water(self) -> dict[str, int]:
        """Bytes held at most so far by this process, and on its GPU."""
        found = {"memory_bytes": memory_high_water()}
        if torch.cuda.is_available():
            found["device_memory_bytes"] = torch.cuda.max_memory_allocated()
        return found

    def _mark(self) -> None:
        self._began = time.perf_counter()
        self._waited = self.course.loader.wait_seconds
        self._computed = processor_seconds()

    def _measured(self, steps: int, device: torch.device, trainer: Trainer) -> dict[str, float]:
        """The interval's metrics, reduced over devices."""
        interval = self._interval
        mean = {
            "seconds_per_step": interval.seconds / steps,
            "loader_wait_share": interval.waited / interval.seconds,
            "processor_utilization": interval.computed / (interval.seconds * cores()),
        }
        # All devices reduce the same metrics: what one could not ask is NaN until then.
        busy = [mean["processor_utilization"]] if device.type == "cpu" else interval.busy
        mean["device_utilization"] = sum(busy) / len(busy) if busy else math.nan
        most = {name: float(value) for name, value in self.high_water().items()}
        mean, most = (
            _reduced(values, device, trainer, how)
            for values, how in ((mean, "mean"), (most, "max"))
        )
        mean = {name: value for name, value in mean.items() if math.isfinite(value)}
        seconds = mean["seconds_per_step"]
        rates = {
            "windows_per_second": self.course.windows / seconds,
            "bases_per_second": self.course.bases / seconds,
        }
        if self.step_flops:
            rates["flops_per_second"] = self.step_flops / seconds
        return {**mean, **rates, **most}

    def _seconds_left(self, trainer: Trainer, seconds_per_step: float) -> float:
        steps = trainer.max_steps - trainer.global_step
        interval = max(1, trainer.global_step - self._interval.first_step)
        return steps * seconds_per_step + math.ceil(steps / interval) * self._validation_seconds

    def _say(self, trainer: Trainer, found: dict[str, float], left: float) -> None:
        busy = found.get("device_utilization")
        message = (
            f"training: {found['windows_per_second']:.3g} windows/s, "
            f"{found['loader_wait_share']:.0%} of the time waiting for data, "
            + ("" if busy is None else f"device {busy:.0%} busy, ")
            + f"{found['memory_bytes'] / 2**30:.1f} GiB"
            + (f", about {time_left(left)} left" if left else "")
        )
        fields = {"step": trainer.global_step, "steps": trainer.max_steps, "seconds_left": left}
        note(logging.INFO, message, "performance", **fields, **found)


class _Interval:
    """What the training steps since the last validation took, in seconds."""

    def __init__(self, first_step: int = 0) -> None:
        self.first_step = first_step
        self.seconds = self.waited = self.computed = 0.0
        self.busy: list[float] = []


def _gpu_busy(device: torch.device) -> list[float]:
    """The share of the last moments in which the GPU worked, if its driver can be asked."""
    try:
        return [torch.cuda.utilization(device) / 100]
    except (ImportError, RuntimeError):  # nvidia-ml-py is not installed, or the driver refuses
        return []


def _reduced(
    values: dict[str, float], device: torch.device, trainer: Trainer, how: str
) -> dict[str, float]:
    if trainer.world_size == 1:
        return values
    found = trainer.strategy.reduce(
        torch.tensor(list(values.values()), dtype=torch.float32, device=device), reduce_op=how
    )
    return dict(zip(values, found.tolist(), strict=True))
