"""Batches of a profile store as tensors, with the species as the model counts them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cislens.objectives.profile import TorchProfileBatch
from cislens.randomness import generator
from cislens.signal.loader import ProfileBatch
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


def to_tensors(
    batch: ProfileBatch,
    labels: SpeciesLabels,
    rank: int = 0,
    world: int = 1,
    mine: npt.NDArray[np.bool_] | None = None,
) -> TorchProfileBatch | None:
    """The batch as CPU tensors; of `world` devices, the share of device `rank`, if it has one.

    Args:
        mine: the rows that are taken, where it is not every `world`-th.
    """
    if mine is None:
        mine = np.arange(len(batch.species_B)) % world == rank
    if not mine.any():
        return None
    whole = mine.all()
    targets = {}
    for name, values in batch.targets.items():
        here = mine[batch.species_B == labels.names.index(name)]
        if here.any():
            targets[name] = torch.from_numpy(values if whole else values[here])
    shown_W = labels.shown_W
    return TorchProfileBatch(
        torch.from_numpy(batch.codes_BL if whole else batch.codes_BL[mine]),
        torch.from_numpy(labels.number_S[batch.species_B[mine]]),
        targets,
        None if shown_W is None else torch.from_numpy(shown_W[batch.index_B[mine]]),
    )
