"""A loader as a stream of training steps, and as one pass over a split."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class EpochLoader(Protocol):
    """Batches that are a pure function of (seed, epoch, step)."""

    @property
    def wait_seconds(self) -> float:
        """How long its batches were waited for so far."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def batch(self, epoch: int, step: int) -> Any:
        """One batch."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """The batches of an epoch from one on."""


class StepStream:
    """Batches from the current step to the end of its interval, or of the run.

    Step s of a run is step s % n of epoch s // n of the loader, whatever happened in between: an
    interrupted run that is resumed sees the batches that it would have seen.

    Args:
        convert: a batch as tensors.
        steps: of the whole run.
        interval: steps between validations.
        position: the number of steps done; asked at the start of each pass, since what was
            fetched ahead and never used must come again.
    """

    def __init__(
        self,
        loader: EpochLoader,
        convert: Callable[[Any], Any],
        steps: int,
        interval: int,
        position: Callable[[], int],
    ) -> None:
        self.loader = loader
        self.convert = convert
        self.steps = steps
        self.interval = interval
        self.position = position

    def __iter__(self) -> Iterator[Any]:
        step = self.position()
        end = min((step // self.interval + 1) * self.interval, self.steps)
        while step < end:
            epoch, first = divmod(step, len(self.loader))
            for batch in itertools.islice(self.loader.epoch(epoch, first), end - step):
                step += 1
                yield self.convert(batch)


class SplitPass:
    """One pass over a split in store order, without augmentation.

    Args:
        convert: a batch as tensors; None for one of which this device has no row.
    """

    def __init__(self, loader: EpochLoader, convert: Callable[[Any], Any]) -> None:
        self.loader = loader
        self.convert = convert

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader.epoch(0):
            converted = self.convert(batch)
            if converted is not None:
                yield converted
