"""How many cores compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def same_bits() -> Iterator[None]:
    """One core within the block, because how many share a sum on the CPU decides its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
