"""What a run folder says about itself, so that it can be understood and repeated."""

import math
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from cislens import __version__
from cislens.recipes.schema import TrainRecipe
from cislens.training.course import Course
from cislens.training.monitor import Monitor
from cislens.training.performance import Performance

_LIBRARIES = ("torch", "lightning", "numpy", "polars", "zarr", "figwig", "pysam")


@dataclass(frozen=True)
class Spent:
    """What a run has cost.

    Attributes:
        step_flops: of one step, forward and backward, over all devices.
        monitor: knows the metrics.
        performance: knows the seconds and the memory.
        devices: that trained.
    """

    step_flops: int
    monitor: Monitor
    performance: Performance
    devices: int = 1


def run_manifest(
    recipe: TrainRecipe, course: Course, model: Any, spent: Spent, chosen_step: int
) -> dict[str, Any]:
    """Versions, data, seeds, devices and the compute ledger.

    A metric that could not be measured is None.

    Args:
        model: as trained; a module with a `config`.
    """
    training, monitor, performance = recipe.training, spent.monitor, spent.performance
    parameters = sum(value.numel() for value in model.parameters())
    # What is kept may only have followed what was trained.
    weights = course.objective.model.parameters()
    trained = sum(value.numel() for value in weights if value.requires_grad)
    bases = training.steps * course.bases
    chosen = {
        row["metric"]: row["value"] if math.isfinite(row["value"]) else None
        for row in monitor.rows
        if row["split"] == "valid" and row["step"] == chosen_step
    }
    return {
        "cislens": __version__,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "device": _device(),
        "threads": torch.get_num_threads(),
        "seed": recipe.seed,
        "objective": recipe.objective.name,
        **course.facts(),
        "model": model.config.model_dump(mode="json"),
        "selection": {
            "metric": course.selection,  # None: the last weights are kept
            "split": "valid",
            "step": chosen_step,
            "headline": list(course.headline),
        },
        "valid": chosen,
        "ledger": {
            "parameters": parameters,
            "trained_parameters": trained,
            "steps": training.steps,
            "windows": training.steps * course.windows,
            "bases": bases,
            "step_flops": spent.step_flops,
            "flops": spent.step_flops * training.steps,
            "devices": spent.devices,
            "device_seconds": round(performance.train_seconds * spent.devices, 2),
            "train_seconds": round(performance.train_seconds, 2),
            "loader_wait_seconds": round(performance.wait_seconds, 3),
            "loader_wait_share": performance.wait_seconds / max(performance.train_seconds, 1e-9),
            "bases_per_second": bases / max(performance.train_seconds, 1e-9),
            "high_water": performance.high_water(),
        },
    }


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
