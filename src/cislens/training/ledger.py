"""What a run costs, counted rather than timed, so that runs can be held against each other."""

import copy
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_backward_flop, conv_flop

from cislens.errors import CislensError
from cislens.files import read_json, undamaged
from cislens.nn.gathering import alone
from cislens.objectives.contract import Objective
from cislens.training.course import Course


def step_flops(course: Course, world: int = 1) -> int:
    """Count the FLOPs of the course's first training step, on a copy of its objective.

    Products of matrices, convolutions and attention are counted, forward and backward, as many as
    the formulas have: fused attention costs what plain attention does. A product of (M, K) and
    (K, N) has 2 MKN. Element-wise work is not counted, nor is the optimizer, nor are convolutions
    of single channels, which on some devices are element-wise work: every device counts the same.

    Args:
        course: of which the batch is counted in as many shares as it is trained in.
        world: devices that share a batch.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = 0
    for rank in range(world):
        parts = iter(course.stream(lambda: 0, rank, world))
        found += sum(
            flops_of(course.objective, part.to(device))
            for part in itertools.islice(parts, course.recipe.training.accumulate)
        )
    return found


def flops_of(objective: Objective, batch: Any) -> int:
    """FLOPs of the loss of a batch and its gradient; the objective stays as it was."""
    copied = copy.deepcopy(objective).to(batch_device(batch)).train()
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten.convolution: _mixing(conv_flop, 1),
            torch.ops.aten.convolution_backward: _mixing(conv_backward_flop, 2),
        },
    )
    with alone(), torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), counter:
        copied.loss(batch).total.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _mixing(formula: Callable[..., int], weight: int) -> Callable[..., int]:
    """The FLOPs of a convolution, 0 where each channel is for itself.

    Args:
        weight: which argument has the weights, (outputs, inputs of a group, taps).
    """

    def count(*given: Any, **more: Any) -> int:
        return 0 if given[weight].shape[1] == 1 else formula(*given, **more)

    count._get_raw = True  # type: ignore[attr-defined] # the arguments, not their shapes
    return count


def batch_device(batch: Any) -> torch.device:
    """Where the tensors of a batch lie."""
    for value in vars(batch).values():
        if isinstance(value, torch.Tensor):
            return value.device
        if isinstance(value, Mapping):  # of the batches of a mixture
            return batch_device(next(iter(value.values())))
    return torch.device("cpu")


def matched_steps(course: Course, run: Path) -> int:
    """How many steps of a course spend the FLOPs that a finished run has spent.

    Raises:
        CislensError: if the run is not finished, or its manifest counts no FLOPs.
    """
    path = run / "manifest.json"
    with undamaged("manifest", path):
        manifest = read_json(path, "manifest of the finished run")
        budget: int | None = manifest["ledger"].get("flops")
    if not budget:
        raise CislensError(
            f"{path} counts no FLOPs, as runs of earlier versions do; train it again to match it."
        )
    return max(1, round(budget / step_flops(course)))
