"""Views of windows as tensors on one device; `cislens.sequence.batch` says what they hold."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.sequence import batch as arrays


@dataclass(frozen=True)
class Views:
    """`cislens.sequence.batch.Views` as tensors."""

    codes_VBL: Tensor
    hidden_VBL: Tensor
    scored_VBL: Tensor
    target_VBL: Tensor
    repeat_VBL: Tensor
    place_VBL: Tensor
    turned_VB: Tensor

    def to(self, device: torch.device | str) -> "Views":
        """The same views on `device`."""
        return Views(*(_moved(getattr(self, part.name), device) for part in fields(self)))


@dataclass(frozen=True)
class TorchSequenceBatch:
    """`cislens.sequence.batch.SequenceBatch` as tensors; species as the model counts them."""

    whole: Views
    local: Views | None
    parent_BP: Tensor
    repeat_B: Tensor
    label_B: Tensor
    species_B: Tensor
    chrom_B: Tensor
    start_B: Tensor

    def windows(self, part: str = "") -> int:
        """Number of parent windows."""
        return len(self.species_B)

    def to(self, device: torch.device | str) -> "TorchSequenceBatch":
        """The same batch on `device`."""
        return TorchSequenceBatch(
            *(_moved(getattr(self, part.name), device) for part in fields(self))
        )


def to_tensors(
    batch: arrays.SequenceBatch,
    species_S: npt.NDArray[np.int64] | None = None,
    rank: int = 0,
    world: int = 1,
    mine: npt.NDArray[np.bool_] | None = None,
) -> TorchSequenceBatch | None:
    """The batch as CPU tensors; of `world` devices, the share of device `rank`, if it has one.

    Args:
        species_S: index of each of the store's species among the model's, -1 for one that it does
            not tell apart; all -1 unless given.
        mine: the rows that are taken, where it is not every `world`-th.
    """
    if mine is None:
        mine = np.arange(len(batch.species_B)) % world == rank
    if not mine.any():
        return None

    def share(name: str, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, arrays.Views):
            parts = {each.name: getattr(value, each.name) for each in fields(value)}
            return Views(**{key: _tensor(part[:, mine]) for key, part in parts.items()})
        if name == "species_B":
            value = np.full(len(value), -1) if species_S is None else species_S[value]
        return _tensor(value[mine])

    parts = {each.name: share(each.name, getattr(batch, each.name)) for each in fields(batch)}
    return TorchSequenceBatch(**parts)


def _tensor(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _moved(value: Any, device: torch.device | str) -> Any:
    """What can be moved to a device, there; None stays None."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return None if value is None else value.to(device)
