"""Statistics over every process that trains together; on one process they are those of its rows.

The loss of a step is the mean over processes of what each of them computes, as data-parallel
training has it. Two rules make it the loss of one process with all rows of the batch:

- a mean over what is counted (bases, tokens, bins) has numerator and denominator summed over
  processes (`sum_over_devices`), and is then the same on all of them;
- everything else is a mean over the process's own rows, and `share_of_loss` weighs it by their
  number.

Process r of W holds rows r, r + W, r + 2 W, ... of the batch.

Dimensions: B row of this process, A row of all processes in the order of the batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Within, a process is by itself: in validation each reads whole batches of its own."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def world_size() -> int:
    """Number of processes that train together."""
    if _ALONE.get() or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def sum_over_devices(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, through which the gradient flows to all of them.

    Either every process's tensor is in its graph or none is.
    """
    if world_size() == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


def ratio_over_devices(value: Tensor, count: Tensor) -> Tensor:
    """Sum of a value over all processes over that of a count, of one shape; 0 where that is 0."""
    total, counted = sum_over_devices(torch.stack([value, count]))
    ratio: Tensor = total / counted.where(counted > 0, 1.0)
    return ratio


def mean_over_rows(value_BK: Tensor) -> Tensor:
    """Mean of a (B, K) over the rows of all processes, which may differ in number."""
    count = value_BK.new_full((1,), len(value_BK))
    total_K = sum_over_devices(torch.cat([value_BK.sum(dim=0), count]))
    return total_K[:-1] / total_K[-1]


def gather_rows(value_B: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (of any shape) of all processes in the order of the batch, and where its own are.

    The gradient flows back to the process that a row is from, summed over what every process
    made of it. Processes may hold different numbers of rows.

    Returns:
        (A, ...), and the indices of the process's rows in it, (B,).
    """
    device = value_B.device
    if world_size() == 1:
        return value_B, torch.arange(len(value_B), device=device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(value_B)], device=device))
    rows = [int(size) for size in sizes]
    process_A = torch.repeat_interleave(torch.tensor(rows))
    place_A = torch.cat([torch.arange(count) for count in rows]) * len(rows) + process_A
    order_A = place_A.argsort()
    own_B = (process_A[order_A] == dist.get_rank()).nonzero()[:, 0].to(device)
    gathered: Tensor = _Gather.apply(value_B, rows, order_A.to(device), own_B)  # type: ignore[no-untyped-call]
    return gathered, own_B


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        slope = slopes[0].contiguous().clone()
        dist.all_reduce(slope)
        return slope


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value_B: Tensor, rows: list[int], order_A: Tensor, own_B: Tensor
    ) -> Tensor:
        ctx.save_for_backward(own_B)
        padded = value_B.new_zeros(max(rows), *value_B.shape[1:])
        padded[: len(value_B)] = value_B
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
        joined = torch.cat([part[:own] for part, own in zip(parts, rows, strict=True)])
        return joined[order_A]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        slope_A = slopes[0].contiguous().clone()
        dist.all_reduce(slope_A)
        (own_B,) = ctx.saved_tensors
        return slope_A[own_B], None, None, None


def share_of_rows(rows: int, device: torch.device) -> Tensor:
    """What a mean over this process's rows weighs in the mean over processes; 1 if all are even."""
    own = torch.tensor(float(rows), device=device)
    return own * world_size() / sum_over_devices(own)


def share_of_loss(loss: Tensor, module: nn.Module, rows: int) -> Tensor:
    """The loss of this process, weighed by its rows.

    With every trained parameter in its graph, as data-parallel training wants.
    """
    if _ALONE.get() or not (dist.is_available() and dist.is_initialized()):
        return loss
    # What processes hold shares of belongs to blocks, all of which every process has computed.
    every = sum(
        weight.sum()
        for weight in module.parameters()
        if weight.requires_grad and not hasattr(weight, "placements")
    )
    return share_of_rows(rows, loss.device) * loss + 0.0 * every
