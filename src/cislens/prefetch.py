"""Batches made ahead of the one who asks for them, by another thread."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

_AHEAD = 3

Batch = TypeVar("Batch")


class Prefetched(ABC, Generic[Batch]):
    """Epochs of batches, of which each is a function of its number alone.

    Attributes:
        wait_seconds: how long the consumer of `epoch` has waited for batches so far.
        next_epoch: the epoch that the next `iter()` goes through.
    """

    wait_seconds: float = 0.0
    next_epoch: int = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def batch(self, epoch: int, step: int) -> Batch:
        """One batch.

        Raises:
            IndexError: if the epoch has no such step.
        """

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch."""
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """Every `every`-th batch from step `first` on, made ahead by another thread."""
        return self._ahead(partial(self.batch, epoch), first, every)

    def _ahead(self, make: Callable[[int], Batch], first: int, every: int) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, thread_name_prefix="cislens-loader") as ahead:
            pending: deque[Future[Batch]] = deque()
            for step in range(first, len(self) + _AHEAD * every, every):
                if step < len(self):
                    pending.append(ahead.submit(make, step))
                if step - first >= _AHEAD * every and pending:
                    start = time.perf_counter()
                    batch = pending.popleft().result()
                    self.wait_seconds += time.perf_counter() - start
                    yield batch
