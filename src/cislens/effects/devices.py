"""Where a model runs and in what precision, and as it was before once it has run."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from cislens.engines import Worker
from cislens.errors import CislensError

Precision = Literal["fp32", "bf16"]


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises:
        CislensError: for another name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise CislensError(f"there is no device {name!r}; give auto, cpu, cuda or cuda:N.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise CislensError(
            f"device {name!r} was asked for and this machine has {torch.cuda.device_count()} GPUs "
            "that torch can use; give cpu or auto."
        )
    return torch.device(name)


def device_of(worker: Worker, name: str) -> str:
    """The device of one of a machine's workers: they take its GPUs in turn, unless one is named."""
    place = resolve_device(name)
    if place.type == "cpu" or place.index is not None or worker.workers == 1:
        return name
    return f"cuda:{worker.number % torch.cuda.device_count()}"


@contextmanager
def running(
    model: nn.Module, device: str | torch.device | None = None, precision: Precision = "fp32"
) -> Iterator[torch.device]:
    """The model in evaluation mode on a device; its mode and place are restored.

    Parameters and buffers are fp32 throughout; bf16 is autocast around what runs inside.

    Args:
        device: see `resolve_device`; where the model lies if None.

    Raises:
        CislensError: as `resolve_device`.
    """
    before = next((p.device for p in model.parameters()), torch.device("cpu"))
    place = before if device is None else resolve_device(str(device))
    modes = {module: module.training for module in model.modules()}
    fast = torch.autocast(place.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    try:
        model.eval().to(place)
        with fast:
            yield place
    finally:
        model.to(before)
        for module, training in modes.items():
            module.training = training
