"""A model is not built only because a configuration asks for it: its size is looked at first."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from cislens.errors import CislensError
from cislens.untrusted import memory

# Modules, weights and buffers of a model. Our largest have 700.
MOST_PARTS = 10_000


@contextmanager
def bounded(source: str, most: int | None = None) -> Iterator[None]:
    """Build a model in this block; one that is too large is refused while it is built.

    Weights are counted when a module gets them, so on the meta device a configuration with
    `dim: 1000000000` costs neither memory nor time.

    Args:
        source: what describes the model, for the error.
        most: bytes of all weights and buffers; half of this machine's memory unless given.

    Raises:
        CislensError: if the model has more bytes or parts than that, or sizes with which it cannot
            be built at all.
    """
    most = memory() // 2 if most is None else most
    found = _Found(source, most)
    handles = [
        hooks.register_module_parameter_registration_hook(found.add),
        hooks.register_module_buffer_registration_hook(found.add),
        hooks.register_module_module_registration_hook(found.add),
    ]
    try:
        yield
    except (RuntimeError, OverflowError, MemoryError, TypeError, ZeroDivisionError) as error:
        line = str(error).split("\n")[0][:200]
        raise CislensError(f"{source} describes a model that cannot be built: {line}.") from error
    finally:
        for handle in handles:
            handle.remove()


def require_room(source: str, build: Callable[[], object]) -> None:
    """Refuse a model that is too large, before memory is taken or a number drawn.

    Raises:
        CislensError: as `bounded`.
    """
    with bounded(source), torch.random.fork_rng(devices=()), torch.device("meta"):
        build()


class _Found:
    """What a thread has built so far."""

    def __init__(self, source: str, most: int) -> None:
        self.source = source
        self.most = most
        self.parts = 0
        self.bytes = 0
        self.thread = threading.get_ident()

    def add(self, module: nn.Module, name: str, part: Any) -> None:
        if threading.get_ident() != self.thread:
            return
        self.parts += 1
        if isinstance(part, Tensor):
            self.bytes += part.numel() * part.element_size()
        if self.parts > MOST_PARTS or self.bytes > self.most:
            raise CislensError(
                f"{self.source} describes a model of more than {self.most / 1e9:.1f} GB or "
                f"{MOST_PARTS:,} parts, which this machine does not hold; are its sizes right?"
            )
