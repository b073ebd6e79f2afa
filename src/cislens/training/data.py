"""A profile store as a stream of training steps.

Step s of a run is step s % n of epoch s // n of the loader, whatever happened in between: an
interrupted run that is resumed sees the windows that it would have seen.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cislens.objectives.profile import TorchProfileBatch
from cislens.randomness import generator
from cislens.signal.loader import ProfileBatch, ProfileLoader
from cislens.signal.store import ProfileStore


@dataclass(frozen=True)
class SpeciesLabels:
    """How the species of a store's windows are told to a model.

    Attributes:
        names: species of the store, in the order that its batches count.
        number_S: index of each of them among the model's species.
        shown_W: index of the species that the encoder is told of every window of the store; None
            where it is told the truth.
    """

    names: tuple[str, ...]
    number_S: npt.NDArray[np.int64]
    shown_W: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls, store: ProfileStore, model: Sequence[str], shuffled: bool = False, seed: int = 0
    ) -> "SpeciesLabels":
        """The labels of a store for a model of these species.

        Args:
            shuffled: permute the labels over all windows, once for the whole run: the encoder is
                told species as often as they occur, and nothing about the window. The control
                for what a model gains by knowing the species.
        """
        number_S = np.array([model.index(name) for name in store.species], dtype=np.int64)
        if not shuffled:
            return cls(store.species, number_S)
        true_W = np.repeat(number_S, [store.windows(name).height for name in store.species])
        shown_W = generator(seed, "shuffled species").permutation(true_W)
        return cls(store.species, number_S, shown_W)


class StepStream:
    """Batches from the current step to the end of its interval, or of the run.

    On several devices each gets every `world`-th window of a batch, so the batch of a step does
    not depend on their number.

    Args:
        labels: how the model counts the species.
        steps: of the whole run.
        interval: steps between validations.
        position: the number of steps done; asked at the start of each pass, since what was
            fetched ahead and never used must come again.
    """

    def __init__(
        self,
        loader: ProfileLoader,
        labels: SpeciesLabels,
        steps: int,
        interval: int,
        position: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.loader = loader
        self.labels = labels
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
                yield to_tensors(batch, self.labels, self.rank, self.world)


class SplitPass:
    """One pass over a split in store order, without augmentation."""

    def __init__(
        self, loader: ProfileLoader, labels: SpeciesLabels, rank: int = 0, world: int = 1
    ) -> None:
        self.loader = loader
        self.labels = labels
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[TorchProfileBatch]:
        for batch in self.loader.epoch(0):
            if len(batch.index_B) > self.rank:
                yield to_tensors(batch, self.labels, self.rank, self.world)


def to_tensors(
    batch: ProfileBatch, labels: SpeciesLabels, rank: int = 0, world: int = 1
) -> TorchProfileBatch:
    """The batch as CPU tensors; of `world` devices, the share of device `rank`."""
    mine = np.arange(len(batch.species_B)) % world == rank
    targets = {}
    for name, values in batch.targets.items():
        here = mine[batch.species_B == labels.names.index(name)]
        if here.any():
            targets[name] = torch.from_numpy(values[here] if world > 1 else values)
    shown_W = labels.shown_W
    return TorchProfileBatch(
        torch.from_numpy(batch.codes_BL[mine] if world > 1 else batch.codes_BL),
        torch.from_numpy(labels.number_S[batch.species_B[mine]]),
        targets,
        None if shown_W is None else torch.from_numpy(shown_W[batch.index_B[mine]]),
    )
