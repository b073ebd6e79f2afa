"""The running mean of a student, with a half-life in windows."""

import math

import torch
from torch import nn

# Half-life in windows below which the teacher is the student.
_LEAST = 1e-6


def half_life(step: int, steps: int, windows: float, shares: tuple[float, float]) -> float:
    """Windows until a weight counts half, after `step` of `steps` steps of a run of `windows`.

    From `shares[0]` to `shares[1]` of the windows of the run, on a cosine in the logarithm.
    """
    first, last = (math.log(max(share * windows, _LEAST)) for share in shares)
    done = min(1.0, step / max(1, steps))
    return math.exp(first + (last - first) * 0.5 * (1 - math.cos(math.pi * done)))


def momentum(batch_size: int, windows: float) -> float:
    """What remains of a weight after a step of `batch_size` windows: 2^(-batch / half-life)."""
    return math.exp2(-batch_size / windows)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, kept: float) -> None:
    """Weights of the teacher to `kept` of themselves and 1 - `kept` of the student's.

    In the precision of the weights, written so that what does not change keeps its bits. Buffers
    are taken as they are.
    """
    own: list[torch.Tensor] = list(teacher.parameters())
    if own:
        torch._foreach_lerp_(own, [*student.parameters()], 1 - kept)
    buffers = list(teacher.buffers())
    if buffers:
        torch._foreach_copy_(buffers, list(student.buffers()))


@torch.no_grad()
def distance(teacher: nn.Module, student: nn.Module) -> torch.Tensor:
    """Norm of the difference of all weights over the norm of the teacher's; a scalar."""
    pairs = list(zip(teacher.parameters(), student.parameters(), strict=True))
    gap = torch.stack([(one.float() - two.float()).square().sum() for one, two in pairs]).sum()
    own = torch.stack([one.float().square().sum() for one, _ in pairs]).sum()
    return (gap / own.clamp_min(1e-30)).sqrt()
