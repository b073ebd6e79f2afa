"""Batches of a profile store, shuffled and augmented, ahead of the one who asks for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.genome.codes import Codes, reverse_complement
from cislens.prefetch import Prefetched
from cislens.randomness import generator
from cislens.signal.quantization import widen
from cislens.signal.store import ProfileStore

Batches = Literal["mixed", "alternate"]

# Rows are augmented in pieces that stay in a core's cache.
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class ProfileBatch:
    """B windows, of several species or of one.

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


class ProfileLoader(Prefetched[ProfileBatch]):
    """Batches of one split, each a pure function of (seed, epoch, step).

    `batches` "mixed" draws the windows of all species without replacement from one shuffled list,
    so a species is drawn in proportion to its number of windows. "alternate" gives step s windows
    of species s % S alone, each species from a shuffled list of its own that starts anew when it
    is used up; an epoch then goes once through the species with the most windows. `train` is
    shuffled anew each time and its last, smaller batch is left out; `valid` and `test` come in
    store order and complete.

    A shift moves the sequence by up to `shift` bp through the store's margin; targets stay, as
    in Basenji, since a bin is wider than the shift. Reverse complement, with probability 1/2,
    also flips the bins and swaps tracks with their strand pairs.

    A store that fits into `memory_budget` bytes is read into memory once; a larger one is read
    from its memory-mapped files batch by batch. The batches are the same.
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
        batches: Batches = "mixed",
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
        self._arrays = [store.arrays(name) for name in store.species]
        self._swaps = [_strand_swap(store, name) for name in store.species]
        rows = [store.windows(name)["split"].to_numpy() == split for name in store.species]
        self._firsts = np.cumsum([0, *(len(mask) for mask in rows)])
        windows = [
            np.flatnonzero(mask) + first
            for mask, first in zip(rows, self._firsts[:-1], strict=True)
        ]
        if not any(mine.size for mine in windows):
            raise CislensError(f"profile store {store.path} has no window in split {split!r}.")
        augment = (shift, reverse_complement)
        self._lists = (
            [_List(np.concatenate(windows), split, batch_size, (seed,), *augment)]
            if batches == "mixed"
            else [
                _List(mine, split, batch_size, (seed, name), *augment)
                for name, mine in zip(store.species, windows, strict=True)
            ]
        )
        self._refuse_an_empty_turn()
        if store.data_bytes <= memory_budget:
            store.load()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._lists) * max(len(windows) for windows in self._lists)

    def epoch(
        self, epoch: int, first: int = 0, every: int = 1, share: tuple[int, int] = (0, 1)
    ) -> Iterator[ProfileBatch]:
        """Every `every`-th batch from step `first` on, made ahead; `share` as in `batch`."""
        return self._ahead(lambda step: self.batch(epoch, step, share), first, every)

    def batch(self, epoch: int, step: int, share: tuple[int, int] = (0, 1)) -> ProfileBatch:
        """One batch.

        Args:
            share: (rank, world): of its rows those of process `rank` of `world` alone, every
                `world`-th from `rank` on; the others are not read.

        Raises:
            IndexError: if the epoch has no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of an epoch of {len(self)}")
        turn, species_turn = divmod(epoch * len(self) + step, len(self._lists))
        rank, world = share
        drawn = self._lists[species_turn].batch(turn).part(slice(rank, None, world))
        index, shifts, flips = drawn.index, drawn.shifts, drawn.flips
        species = np.searchsorted(self._firsts, index, side="right") - 1
        codes = np.empty((index.size, self.store.length), np.uint8)
        targets = {}
        for s, name in enumerate(self.store.species):
            places = np.flatnonzero(species == s)
            if places.size:
                rows = index[places] - self._firsts[s]
                targets[name] = self._fill(codes, places, s, rows, shifts[places], flips[places])
        return ProfileBatch(codes, species, targets, index)

    def _fill(
        self,
        codes: Codes,
        places: npt.NDArray[np.int64],
        species: int,
        rows: npt.NDArray[np.int64],
        shifts: npt.NDArray[np.int64],
        flips: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float32]:
        """Put the codes of one species' rows in their places; return the targets."""
        sequence, profile = (array.near(rows) for array in self._arrays[species])
        found = np.empty((rows.size, *profile.layout.row_shape), np.float32)
        step = max(1, _PIECE_BYTES // (sequence.layout.row_bytes + profile.layout.row_bytes))
        for first in range(0, rows.size, step):
            piece = slice(first, first + step)
            begins = self.store.margin + shifts[piece]
            cut = sequence.cut(rows[piece], begins, self.store.length)
            cut[flips[piece]] = reverse_complement(cut[flips[piece]])
            codes[places[piece]] = cut
            bins = _augmented_targets(
                profile.gather(rows[piece]), flips[piece], self._swaps[species]
            )
            widen(bins, found[piece])
        return found

    def _refuse_an_empty_turn(self) -> None:
        for name, windows in zip(self.store.species, self._lists, strict=False):
            if len(windows) == 0:
                raise CislensError(
                    f"profile store {self.store.path} has no window of {name} in split "
                    f"{self.split!r}, so {name} cannot take its turn; choose batches: mixed, or "
                    "another split."
                )


@dataclass(frozen=True)
class _Drawn:
    """Windows with the shift and the strand of each."""

    index: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.int64]
    flips: npt.NDArray[np.bool_]

    def part(self, here: slice) -> "_Drawn":
        return _Drawn(self.index[here], self.shifts[here], self.flips[here])


class _List:
    """Windows that are gone through again and again, each time in an order of its own.

    All that is random in one pass (order, shifts and strands, position by position) depends on
    `key` and the number of the pass alone.
    """

    def __init__(
        self,
        windows: npt.NDArray[np.int64],
        split: str,
        batch_size: int,
        key: tuple[int | str, ...],
        shift: int,
        reverse_complement: bool,
    ) -> None:
        self.windows = windows
        self.shuffled = split == "train"
        self.batch_size = batch_size
        self.key = key
        self.shift = shift
        self.reverse_complement = reverse_complement
        self._current = (-1, _Drawn(windows, windows, windows > 0))

    def __len__(self) -> int:
        """Batches in a pass."""
        if self.shuffled and self.windows.size >= self.batch_size:
            return int(self.windows.size // self.batch_size)
        return int(-(-self.windows.size // self.batch_size))

    def batch(self, number: int) -> _Drawn:
        """Batch `number`, counted through all passes."""
        wanted, step = divmod(number, len(self))
        current, drawn = self._current
        if current != wanted:
            drawn = self._draw(wanted)
            self._current = (wanted, drawn)
        return drawn.part(slice(step * self.batch_size, (step + 1) * self.batch_size))

    def _draw(self, this_pass: int) -> _Drawn:
        order, size = self.windows, self.windows.size
        seed, *name = self.key
        if self.shuffled:
            order = generator(seed, "order", *name, this_pass).permutation(order)
        draw = generator(seed, "augment", *name, this_pass)
        shifts = draw.integers(-self.shift, self.shift + 1, size=size)
        flips = (draw.random(size) < 0.5) & self.reverse_complement
        return _Drawn(order, shifts, flips)


def _strand_swap(store: ProfileStore, species: str) -> npt.NDArray[np.int64] | None:
    permutation = store.tracks(species).strand_permutation()
    return None if (permutation == np.arange(permutation.size)).all() else permutation


def _augmented_targets(
    bins: npt.NDArray[Any],
    flips: npt.NDArray[np.bool_],
    swap: npt.NDArray[np.int64] | None,
) -> npt.NDArray[Any]:
    """The bins, in place; where a row flips they are reversed and its strands swapped."""
    turned = bins[flips][:, ::-1]
    bins[flips] = turned if swap is None else np.take(turned, swap, axis=2, mode="clip")
    return bins
