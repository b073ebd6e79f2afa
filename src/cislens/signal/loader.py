"""Batches of a profile store, shuffled and augmented, ahead of the one who asks for them."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.randomness import generator
from cislens.signal.shards import RowArray
from cislens.signal.store import ProfileStore

_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)
_AHEAD = 3


@dataclass(frozen=True)
class ProfileBatch:
    """B windows of mixed species.

    Attributes:
        codes_BL: A,C,G,T,N = 0..4. They stay uint8 until they are on the device that trains: the
            one-hot form is 16 times as many bytes to copy there and takes no time to make.
        species_B: index into the store's `species`.
        targets: species -> (B_s, bins, T_s) float32, its rows in batch order; species without a
            row in the batch are absent.
        index_B: number of the window in the store, counted through the species in their order.
    """

    codes_BL: Codes
    species_B: npt.NDArray[np.int64]
    targets: dict[str, npt.NDArray[np.float32]]
    index_B: npt.NDArray[np.int64]


class ProfileLoader:
    """Batches of one split, each a pure function of (seed, epoch, step).

    The windows of all species are drawn without replacement from one shuffled list, so a species
    is drawn in proportion to its number of windows. `train` is shuffled anew each epoch and its
    last, smaller batch is left out; `valid` and `test` come in store order and complete.

    A shift moves the sequence by up to `shift` bp through the store's margin; targets stay, as
    in Basenji, since a bin is wider than the shift. Reverse complement, with probability 1/2,
    also flips the bins and swaps tracks with their strand pairs.

    A store that fits into `memory_budget` bytes is read into memory once; a larger one is read
    from its memory-mapped files batch by batch. The batches are the same.

    Attributes:
        wait_seconds: how long the consumer of `epoch` has waited for batches so far.
        next_epoch: the epoch that the next `iter()` goes through.
    """

    def __init__(
        self,
        store: ProfileStore,
        split: Literal["train", "valid", "test"],
        batch_size: int,
        seed: int = 0,
        shift: int = 3,
        reverse_complement: bool = True,
        memory_budget: int = 4 << 30,
    ) -> None:
        if not 0 <= shift <= store.margin:
            raise CislensError(
                f"shift {shift} is not within the margin of {store.margin} bp that {store.path} "
                "was built with; choose a smaller shift or build with a larger margin."
            )
        if batch_size < 1:
            raise CislensError(f"batch_size is {batch_size}, expected at least 1.")
        self.store = store
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.shift = shift
        self.reverse_complement = reverse_complement
        self.wait_seconds = 0.0
        self.next_epoch = 0
        self._arrays = [store.arrays(name) for name in store.species]
        self._swaps = [_strand_swap(store, name) for name in store.species]
        rows = [store.windows(name)["split"].to_numpy() == split for name in store.species]
        self._firsts = np.cumsum([0, *(len(mask) for mask in rows)])
        self._windows = np.flatnonzero(np.concatenate(rows))
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, self._windows)
        if self._windows.size == 0:
            raise CislensError(f"profile store {store.path} has no window in split {split!r}.")
        if store.data_bytes <= memory_budget:
            store.load()

    def __len__(self) -> int:
        """Batches in an epoch."""
        if self.split == "train" and self._windows.size >= self.batch_size:
            return int(self._windows.size // self.batch_size)
        return int(-(-self._windows.size // self.batch_size))

    def __iter__(self) -> Iterator[ProfileBatch]:
        """The next epoch."""
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ProfileBatch]:
        """The batches of an epoch from `first_step` on, made ahead by another thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="cislens-loader") as ahead:
            pending: deque[Future[ProfileBatch]] = deque()
            for step in range(first_step, len(self) + _AHEAD):
                if step < len(self):
                    pending.append(ahead.submit(self.batch, epoch, step))
                if step - first_step >= _AHEAD and pending:
                    start = time.perf_counter()
                    batch = pending.popleft().result()
                    self.wait_seconds += time.perf_counter() - start
                    yield batch

    def batch(self, epoch: int, step: int) -> ProfileBatch:
        """One batch.

        Raises:
            IndexError: if the epoch has no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of an epoch of {len(self)}")
        index = self._epoch_order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        draw = generator(self.seed, "augment", epoch, step)
        shifts = draw.integers(-self.shift, self.shift + 1, size=index.size)
        flips = draw.random(index.size) < 0.5
        if not self.reverse_complement:
            flips[:] = False
        species = np.searchsorted(self._firsts, index, side="right") - 1
        codes = np.empty((index.size, self.store.length), np.uint8)
        targets = {}
        for s, name in enumerate(self.store.species):
            here = np.flatnonzero(species == s)
            if here.size == 0:
                continue
            rows = index[here] - self._firsts[s]
            sequence, profile = self._arrays[s]
            begin = self.store.margin + shifts[here]
            for i, row, at, flip in zip(here, rows, begin, flips[here], strict=True):
                _fill_codes(codes[i], sequence.row(row), int(at), bool(flip))
            targets[name] = _fill_targets(profile, rows, flips[here], self._swaps[s])
        return ProfileBatch(codes, species, targets, index)

    def _epoch_order(self, epoch: int) -> npt.NDArray[np.int64]:
        if self.split != "train":
            return self._windows
        held, order = self._order
        if held != epoch:
            order = generator(self.seed, "order", epoch).permutation(self._windows)
            self._order = (epoch, order)
        return order


def _strand_swap(store: ProfileStore, species: str) -> npt.NDArray[np.int64] | None:
    permutation = store.tracks(species).strand_permutation()
    return None if (permutation == np.arange(permutation.size)).all() else permutation


def _fill_codes(out: Codes, row: Codes, begin: int, flip: bool) -> None:
    window = row[begin : begin + out.size]
    if flip:
        np.take(_COMPLEMENT, window[::-1], out=out, mode="clip")
    else:
        out[:] = window


def _fill_targets(
    profile: RowArray,
    rows: npt.NDArray[np.int64],
    flips: npt.NDArray[np.bool_],
    swap: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.float32]:
    found = np.empty((rows.size, *profile.layout.row_shape), np.float32)
    for i, (row, flip) in enumerate(zip(rows, flips, strict=True)):
        values = profile.row(row)
        if flip:
            values = values[::-1] if swap is None else np.take(values[::-1], swap, axis=1)
        found[i] = values
    return found
