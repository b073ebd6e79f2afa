"""Which windows are read: any that is mappable, as often as any other.

Dimensions: B window, R run of starts.
"""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.sequence.store import SequenceStore

Ints = npt.NDArray[np.int64]
Windows = tuple[Ints, Ints, Ints]


class WindowSampler:
    """Windows of one part of a store.

    Attributes:
        store: where they lie.
        part: train, valid or test.
        total: number of starts in the part.
    """

    def __init__(self, store: SequenceStore, part: str) -> None:
        self.store = store
        self.part = part
        runs = store.starts.filter(pl.col("split") == part)
        if runs.is_empty():
            known = ", ".join(store.starts["split"].unique().sort().to_list())
            raise CislensError(f"sequence store {store.path} has no part {part!r} (has: {known}).")
        self._first_R: Ints = runs["first"].to_numpy()
        count_R: Ints = runs["last"].to_numpy() - self._first_R
        self._begin_R = np.cumsum(count_R) - count_R
        self.total = int(count_R.sum())
        self._species_R = _numbers(runs["species"], store.species)
        self._chrom_R = np.empty(len(runs), np.int64)
        for number, species in enumerate(store.species):
            here = self._species_R == number
            self._chrom_R[here] = _numbers(runs["chrom"].filter(here), store.chroms(species))
        self._count_R = count_R

    @cached_property
    def starts(self) -> dict[str, int]:
        """How many starts each species has."""
        return {
            name: int(self._count_R[self._species_R == number].sum())
            for number, name in enumerate(self.store.species)
        }

    @cached_property
    def bases(self) -> int:
        """bp that lie in a window of the part."""
        # Runs are in genomic order; those of neighboring blocks share all but the first bases.
        key_R = self._species_R << 32 | self._chrom_R
        last_R = self._first_R + self._count_R - 1 + self.store.window
        same_R = np.append(False, key_R[1:] == key_R[:-1])
        before_R = np.append(0, last_R[:-1])
        return int((last_R - np.maximum(self._first_R, np.where(same_R, before_R, 0))).sum())

    def draw(self, rng: np.random.Generator, n: int) -> Windows:
        """n windows, every start of the part as likely as any other.

        Returns:
            Index of the species in the store's, index of the chromosome in the species', and
            0-based start; each (n,) int64.
        """
        return self._at(rng.integers(0, self.total, n))

    def fixed(self, n: int) -> Windows:
        """n windows at even distances over the part, as `draw` returns them."""
        return self._at((2 * np.arange(n, dtype=np.int64) + 1) * self.total // (2 * n))

    def _at(self, place_B: Ints) -> Windows:
        """The windows at places in 0 .. total - 1."""
        run_B = np.searchsorted(self._begin_R, place_B, side="right") - 1
        start_B = self._first_R[run_B] + place_B - self._begin_R[run_B]
        return self._species_R[run_B], self._chrom_R[run_B], start_B


def _numbers(names: pl.Series, known: tuple[str, ...]) -> Ints:
    numbers: Ints = names.replace_strict(
        list(known), list(range(len(known))), return_dtype=pl.Int64
    ).to_numpy()
    return numbers
