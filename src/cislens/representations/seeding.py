"""Layers draw their first weights from torch's global state; here it is a function of a seed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block torch draws from `seed`, whatever other threads do; afterwards as before.

    One thread at a time: the block should build a network and do nothing else.
    """
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
