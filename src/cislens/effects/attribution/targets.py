"""One number of a window that a model gives, differentiable: what is explained.

`target_parser` makes targets of words. Rates are the model's own: scaled and clipped as in
training.

Dimensions: B window, C track or channel, N bin, D channel of an embedding.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.untrusted import npz_arrays

Reads = Literal["rates", "embedding"]
Stretch = tuple[int, int]

# Added before a logarithm: a rate of 0 has one, and a rate that matters does not notice.
FLOOR = 1e-6


@dataclass(frozen=True)
class Grid:
    """Where the bins of a window lie.

    Attributes:
        first: start of the first bin, in bp from the window's middle.
        bin_size: bp of a bin.
        bins: how many there are.
    """

    first: int
    bin_size: int
    bins: int

    def at(self, offset: int) -> int:
        """The bin that holds the base `offset` bp from the middle.

        Raises:
            CislensError: if none does.
        """
        found = (offset - self.first) // self.bin_size
        if not 0 <= found < self.bins:
            raise CislensError(f"no bin lies {offset} bp from the window's middle; {self._extent}.")
        return found

    def within(self, stretch: Stretch | None) -> slice:
        """The bins that overlap a half-open stretch; all bins of None.

        Raises:
            CislensError: if none does.
        """
        if stretch is None:
            return slice(0, self.bins)
        first = max(0, (stretch[0] - self.first) // self.bin_size)
        last = min(self.bins, -((self.first - stretch[1]) // self.bin_size))
        if first >= last:
            raise CislensError(
                f"no bin overlaps [{stretch[0]}:{stretch[1]}] bp around the window's middle; "
                f"{self._extent}."
            )
        return slice(first, last)

    @property
    def _extent(self) -> str:
        end = self.first + self.bins * self.bin_size
        return f"its bins reach from {self.first} to {end}, {self.bin_size} bp each"


@dataclass(frozen=True)
class Reading:
    """What a model gives for windows, in its place.

    Attributes:
        values_BCN: rates of the tracks, or channels of the embedding.
        valid_BN: bins that count; None if all do.
        summary_BC: the encoder's own vector of the window; None if it makes none.
    """

    values_BCN: Tensor
    grid: Grid
    valid_BN: Tensor | None = None
    summary_BC: Tensor | None = None


class Target(nn.Module, ABC):
    """A differentiable number of each window.

    Attributes:
        text: as it was stated.
        reads: whether of the rates or of the embedding.
    """

    text: str = ""
    reads: Reads = "rates"

    @abstractmethod
    def forward(self, reading: Reading) -> Tensor:
        """(B,)."""

    @abstractmethod
    def require(self, grid: Grid) -> None:
        """Refuse a window that lacks the bins.

        Raises:
            CislensError: as `Grid.at` and `Grid.within`.
        """


class Mean(Target):
    """The mean rate of some tracks over the bins of a stretch."""

    def __init__(self, tracks: Sequence[int], stretch: Stretch | None = None) -> None:
        super().__init__()
        self.tracks = list(tracks)
        self.stretch = stretch

    def forward(self, reading: Reading) -> Tensor:
        bins = reading.grid.within(self.stretch)
        return reading.values_BCN[:, self.tracks, bins].mean((1, 2))

    def require(self, grid: Grid) -> None:
        grid.within(self.stretch)


class Bin(Target):
    """The mean rate of some tracks in one bin."""

    def __init__(self, tracks: Sequence[int], offset: int) -> None:
        super().__init__()
        self.tracks = list(tracks)
        self.offset = offset

    def forward(self, reading: Reading) -> Tensor:
        return reading.values_BCN[:, self.tracks, reading.grid.at(self.offset)].mean(1)

    def require(self, grid: Grid) -> None:
        grid.at(self.offset)


class Log(Target):
    """The natural logarithm of a target of rates."""

    def __init__(self, inner: Target) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, reading: Reading) -> Tensor:
        found: Tensor = (self.inner(reading) + FLOOR).log()
        return found

    def require(self, grid: Grid) -> None:
        self.inner.require(grid)


class Difference(Target):
    """The log ratio of two means: log(mean of one set of tracks / mean of the other)."""

    def __init__(
        self, above: Sequence[int], below: Sequence[int], stretch: Stretch | None = None
    ) -> None:
        super().__init__()
        self.above = Log(Mean(above, stretch))
        self.below = Log(Mean(below, stretch))

    def forward(self, reading: Reading) -> Tensor:
        found: Tensor = self.above(reading) - self.below(reading)
        return found

    def require(self, grid: Grid) -> None:
        self.above.require(grid)


class Probe(Target):
    """A linear head on the embedding.

    Without a stretch the embedding is the encoder's own summary if it makes one, else the mean
    over the valid bins, as in the features that the bench fits heads on; with one the mean over
    its valid bins.
    """

    text: str = "probe"
    reads: Reads = "embedding"

    def __init__(
        self, weights_D: npt.ArrayLike, intercept: float = 0.0, stretch: Stretch | None = None
    ) -> None:
        super().__init__()
        self.weights_D: Tensor
        weights = torch.as_tensor(np.asarray(weights_D, np.float32))
        self.register_buffer("weights_D", weights, persistent=False)
        self.intercept = intercept
        self.stretch = stretch

    def forward(self, reading: Reading) -> Tensor:
        weights_C = self.weights_D.to(reading.values_BCN.dtype)
        return self._pooled(reading) @ weights_C + self.intercept

    def require(self, grid: Grid) -> None:
        grid.within(self.stretch)

    def _pooled(self, reading: Reading) -> Tensor:
        if self.stretch is None and reading.summary_BC is not None:
            return reading.summary_BC
        bins = reading.grid.within(self.stretch)
        values_BCN = reading.values_BCN[:, :, bins]
        if reading.valid_BN is None:
            return values_BCN.mean(2)
        valid_B1N = reading.valid_BN[:, None, bins]
        count_B1 = valid_B1N.sum(2).clamp_min(1).to(values_BCN.dtype)
        return values_BCN.where(valid_B1N, 0.0).sum(2) / count_B1


def write_probe(
    path: str | os.PathLike[str], weights_D: npt.ArrayLike, intercept: float = 0.0
) -> None:
    """A file that `probe(FILE.npz)` reads: the score is `embedding @ weights + intercept`."""
    with atomic_path(path) as aside, Path(aside).open("wb") as file:
        np.savez(file, weights=np.asarray(weights_D, np.float32), intercept=np.float32(intercept))


def read_probe(path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], float]:
    """Weights (D,) and the intercept, 0 if the file has none.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is no such file.
    """
    file = Path(path)
    held = npz_arrays(file, "probe")
    weights = np.asarray(held.get("weights", np.zeros((0, 0))))
    intercept = np.asarray(held.get("intercept", 0.0))
    numbers = weights.dtype.kind in "fiu" and intercept.dtype.kind in "fiu"
    if weights.ndim != 1 or not weights.size or intercept.size != 1 or not numbers:
        raise CislensError(
            f"probe {file} holds {', '.join(sorted(held)) or 'nothing'}; expected `weights` (D,), "
            "one for each channel of the embedding, and `intercept`, one number, or none."
        )
    if not np.isfinite(weights).all() or not np.isfinite(intercept).all():
        raise CislensError(f"probe {file} holds numbers that are not finite.")
    return weights.astype(np.float32), float(intercept.reshape(()))
