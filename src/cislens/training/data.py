"""A profile store as a stream of training steps.

Step s of a run is step s % n of epoch s // n of the loader, whatever happened in between: an
interrupted run that is resumed sees the windows that it would have seen.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from cislens.objectives.profile import TorchProfileBatch
from cislens.signal.loader import ProfileBatch, ProfileLoader


class StepStream:
    """Batches from the current step to the end of its interval, or of the run.

    On several devices each gets every `world`-th window of a batch, so the batch of a step does
    not depend on their number.

    Args:
        steps: of the whole run.
        interval: steps between validations.
        position: the number of steps done; asked at the start of each pass, since what was
            fetched ahead and never used must come again.
    """

    def __init__(
        self,
        loader: ProfileLoader,
        steps: int,
        interval: int,
        position: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.loader = loader
        self.steps = steps
        self.interval = interval
        self.position = position
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[TorchProfileBatch]:
        step = self.position()
        end = min((step // self.interval + 1) * self.interval, self.steps)
        while step < end:
            epoch, first = divmod(step, len(self.loader))
            batches = self.loader.epoch(epoch, first)
            for batch in itertools.islice(batches, end - step):
                step += 1
                yield to_tensors(batch, self.loader.store.species, self.rank, self.world)


class SplitPass:
    """One pass over a split in store order, without augmentation."""

    def __init__(self, loader: ProfileLoader, rank: int = 0, world: int = 1) -> None:
        self.loader = loader
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[TorchProfileBatch]:
        for batch in self.loader.epoch(0):
            if len(batch.index_B) > self.rank:
                yield to_tensors(batch, self.loader.store.species, self.rank, self.world)


def to_tensors(
    batch: ProfileBatch, species: tuple[str, ...], rank: int = 0, world: int = 1
) -> TorchProfileBatch:
    """The batch as CPU tensors; of `world` devices, the share of device `rank`.

    Args:
        species: names in the order that `batch.species_B` counts.
    """
    mine = np.arange(len(batch.species_B)) % world == rank
    targets = {}
    for name, values in batch.targets.items():
        here = mine[batch.species_B == species.index(name)]
        if here.any():
            targets[name] = torch.from_numpy(values[here] if world > 1 else values)
    return TorchProfileBatch(
        torch.from_numpy(batch.codes_BL[mine] if world > 1 else batch.codes_BL),
        torch.from_numpy(batch.species_B[mine]),
        targets,
    )
