"""Statistics over every process that trains together; on one process they are those of its rows.

Dimensions: B row of this process, A row of all processes.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_devices(value: Tensor) -> Tensor:
    """Sum of a detached tensor over all processes."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def mean_over_devices(value: Tensor) -> Tensor:
    """Mean of a detached tensor over all processes."""
    return sum_over_devices(value) / world_size()


def mean_over_rows(value_BK: Tensor) -> Tensor:
    """Mean of a detached (B, K) over the rows of all processes, which may differ in number."""
    count = value_BK.new_full((1,), len(value_BK))
    total_K = sum_over_devices(torch.cat([value_BK.sum(dim=0), count]))
    return total_K[:-1] / total_K[-1]


def gather_rows(value_BD: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes one after another, (A, D), and where those of this one begin.

    The gradient flows back to the process that a row is from, summed over what every process
    made of it. Where each process takes the mean over its own rows, the mean of the gradients
    over processes, which data-parallel training takes, is hence the gradient of one process with
    all rows. Processes may hold different numbers of rows.
    """
    if world_size() == 1:
        return value_BD, 0
    sizes = [torch.zeros(1, dtype=torch.int64, device=value_BD.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(value_BD)], device=value_BD.device))
    rows = [int(size) for size in sizes]
    gathered: Tensor = _Gather.apply(value_BD, rows)  # type: ignore[no-untyped-call]
    return gathered, sum(rows[: dist.get_rank()])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value_BD: Tensor, rows: list[int]) -> Tensor:
        ctx.rows = rows
        most = max(rows)
        padded = F.pad(value_BD, (0, 0, 0, most - len(value_BD))).contiguous()
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
        return torch.cat([part[:own] for part, own in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        slope_AD = slopes[0].contiguous().clone()
        dist.all_reduce(slope_AD)
        first = sum(ctx.rows[: dist.get_rank()])
        return slope_AD[first : first + ctx.rows[dist.get_rank()]], None


def reaching_all(total: Tensor, module: nn.Module) -> Tensor:
    """The same loss with every trained parameter in its graph, as data-parallel training wants."""
    if not (dist.is_available() and dist.is_initialized()):
        return total
    return total + 0.0 * sum(weight.sum() for weight in module.parameters() if weight.requires_grad)
