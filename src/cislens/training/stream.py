"""A loader as a stream of training steps, and as one pass over a split."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from cislens.errors import CislensError

Place = tuple[str, int]  # species, and number of a block among its own


class EpochLoader(Protocol):
    """Batches that are a pure function of (seed, epoch, step)."""

    @property
    def wait_seconds(self) -> float:
        """How long its batches were waited for so far."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def batch(self, epoch: int, step: int) -> Any:
        """One batch."""

    def epoch(self, epoch: int, first: int = 0, every: int = 1) -> Iterator[Any]:
        """The batches of an epoch from one on, or every so many-th of them."""


def shares(
    convert: Callable[..., Any], rank: int, world: int, parts: int
) -> tuple[Callable[[Any], Any], ...]:
    """The `parts` shares of a batch that one of `world` devices takes one after another.

    Together they are the rows that it would take at once, every `world`-th.

    Args:
        convert: gives share `rank` of `world` of a batch as tensors.
    """
    return tuple(
        partial(convert, rank=rank + world * part, world=world * parts) for part in range(parts)
    )


class StepStream:
    """Batches from the current step to the end of its interval, or of the run.

    Step s of a run is step s % n of epoch s // n of the loader, whatever happened in between: an
    interrupted run that is resumed sees the batches that it would have seen.

    Args:
        converts: each gives a part of a batch as tensors; a step takes all of them in turn.
        steps: of the whole run.
        interval: steps between validations.
        position: the number of steps done; asked at the start of each pass, since what was
            fetched ahead and never used must come again.
        read: gives the batches of an epoch from a step on; the loader does unless given.
    """

    def __init__(
        self,
        loader: EpochLoader,
        converts: Sequence[Callable[[Any], Any]],
        steps: int,
        interval: int,
        position: Callable[[], int],
        read: Callable[[int, int], Iterator[Any]] | None = None,
    ) -> None:
        self.loader = loader
        self.converts = converts
        self.steps = steps
        self.interval = interval
        self.position = position
        self.read = read or loader.epoch

    def __iter__(self) -> Iterator[Any]:
        step = self.position()
        end = min((step // self.interval + 1) * self.interval, self.steps)
        while step < end:
            epoch, first = divmod(step, len(self.loader))
            for batch in itertools.islice(self.read(epoch, first), end - step):
                step += 1
                for convert in self.converts:
                    if (part := convert(batch)) is None:
                        raise CislensError(
                            "The training part has fewer windows than devices share a batch (times "
                            "training.accumulate); train on fewer."
                        )
                    yield part


class SplitPass:
    """One pass over a split in store order, without augmentation.

    Of `world` devices each takes every `world`-th batch as a whole: what is measured within a
    batch is the same on any number of them.

    Args:
        convert: a batch as tensors.
    """

    def __init__(
        self, loader: EpochLoader, convert: Callable[..., Any], rank: int = 0, world: int = 1
    ) -> None:
        self.loader = loader
        self.convert = convert
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[Any]:
        return map(self.convert, self.loader.epoch(0, self.rank, self.world))

    def by_block(self, places: Callable[[Any], Sequence[Place]]) -> Iterator[tuple[Place, Any]]:
        """The same windows, those of a batch that lie in one block at a time.

        Args:
            places: of the windows of one of the loader's batches.
        """
        for batch in self.loader.epoch(0, self.rank, self.world):
            listed = places(batch)
            for place in dict.fromkeys(listed):
                mine = np.array([each == place for each in listed])
                yield place, self.convert(batch, mine=mine)
