"""A profile store as a stream of training steps.

Step s of a run is step s % n of epoch s // n of the loader, whatever happened in between: an
interrupted run that is resumed sees the windows that it would have seen.
"""

from collections.abc import Iterator

import numpy as np
import torch

from cislens.objectives.profile import TorchProfileBatch
from cislens.signal.loader import ProfileBatch, ProfileLoader


class StepStream:
    """Batches of the next `length` of `steps` steps; each pass goes on where the last ended.

    On several devices each gets every `world`-th window of a batch, so the batch of a step does
    not depend on their number.
    """

    def __init__(
        self, loader: ProfileLoader, steps: int, length: int, rank: int = 0, world: int = 1
    ) -> None:
        self.loader = loader
        self.steps = steps
        self.length = length
        self.rank = rank
        self.world = world
        self.next_step = 0

    def __iter__(self) -> Iterator[TorchProfileBatch]:
        end = min(self.next_step + self.length, self.steps)
        while self.next_step < end:
            epoch, first = divmod(self.next_step, len(self.loader))
            for batch in self.loader.epoch(epoch, first):
                self.next_step += 1
                yield to_tensors(batch, self.loader.store.species, self.rank, self.world)
                if self.next_step == end:
                    return


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
