"""Activation checkpointing: keep the input of a part and compute the part again for its gradient.

The gradients are those without it, bit by bit on a CPU: the second run draws the same dropout
masks, and it does not count its batch a second time in the running statistics of batch norms.
"""

from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")

_SECOND_RUN: ContextVar[bool] = ContextVar("second_run", default=False)


def run(part: Callable[..., Result], *inputs: object, checkpointing: bool) -> Result:
    """`part(*inputs)`; with checkpointing its activations are not kept for the gradient."""
    if not checkpointing or not torch.is_grad_enabled():
        return part(*inputs)
    result: Result = _run_twice(part, *inputs)
    return result


# The compiler cannot tell a second run from a first: it leaves checkpointed parts as they are.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _run_twice(part: Callable[..., Result], *inputs: object) -> Result:
    result: Result = checkpoint(
        part, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _SecondRun())
    )
    return result


class _SecondRun:
    """Entered again for every backward pass through a graph that is retained."""

    def __enter__(self) -> None:
        self.token = _SECOND_RUN.set(True)

    def __exit__(self, *raised: object) -> None:
        _SECOND_RUN.reset(self.token)


def spare_buffers(norm: nn.Module) -> dict[str, Tensor]:
    """Copies of a norm's running statistics to update in their stead; none in a first run."""
    if torch.compiler.is_compiling() or not _SECOND_RUN.get():
        return {}
    return {name: buffer.clone() for name, buffer in norm.named_buffers()}
