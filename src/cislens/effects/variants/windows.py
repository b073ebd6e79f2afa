"""The windows of variants: reference windows that variants share, and alternate ones.

Reference windows start on a grid, so that variants close to each other have one in common. Bins
are compared over the same bases, also where the alternate allele is longer or shorter: it is cut
out twice, once with the bases left of the change at their places and once with those right of it,
and each bin is taken from the window in which its bases did not move.

Positions are 0-based. Dimensions: n variant, W base pair of a window with margin, N bin.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.genome.codes import Codes, encode
from cislens.genome.reference import Genome

Ints = npt.NDArray[np.int64]

# Where the value of a bin of the alternate allele comes from; see `sources`.
LEFT, RIGHT, DELETED = range(3)
_STEPS_PER_WINDOW = 2


@dataclass(frozen=True)
class Layout:
    """Where the windows of a model lie.

    Attributes:
        length: bases of a window, whole bins.
        bin_size: bases of a bin.
        crop: bins at either side of a window that are not compared.
        step: bases from the start of one window to that of the next: whole bins, then every bin
            is one of the grid from base 0 that predicted tracks have; or 1, then every variant
            has a window of its own with its first base at `length // 2`.
    """

    length: int
    bin_size: int
    crop: int
    step: int

    @property
    def central(self) -> int:
        """Bins of a window that are compared."""
        return self.length // self.bin_size - 2 * self.crop

    def starts(self, first_n: Ints) -> Ints:
        """Start of the window (n,) whose middle is nearest to the first base of each variant."""
        phase = self.crop * self.bin_size
        return (
            first_n - self.length // 2 + phase + self.step // 2
        ) // self.step * self.step - phase


def layout(length: int, bin_size: int, crop: int = 0, step: int | None = None) -> Layout:
    """Windows of a model, half of the compared bins apart unless `step` bp are given.

    Variants then lie within a quarter of the compared bins of the window's middle. Where a
    window lies depends on the variant alone, so that its scores do not depend on the others.

    Raises:
        CislensError: for a length that leaves no bin, or a step that is neither 1 nor whole bins,
            or at which a variant could miss the compared bins.
    """
    central = length // bin_size - 2 * crop
    if length % bin_size or central < 1:
        raise CislensError(
            f"windows of {length} bp must be whole bins of {bin_size} bp and more than the "
            f"{2 * crop} bins that the model crops; give the length that the model was trained on."
        )
    if step is None:
        step = max(1, central // _STEPS_PER_WINDOW) * bin_size
    if step != 1 and (step < 1 or step % bin_size or step > central * bin_size):
        raise CislensError(
            f"windows every {step} bp: give 1, or a multiple of the bins of {bin_size} bp up to "
            f"the {central * bin_size} bp that the model predicts."
        )
    return Layout(length, bin_size, crop, step)


@dataclass(frozen=True)
class Alleles:
    """Variants as numbers.

    Attributes:
        chroms: (n,) names.
        first_n: position of the first base of the alleles.
        n_ref_n, n_alt_n: their lengths.
        shared_n: bases that both alleles begin with.
        alternate: codes of each alternate allele.
    """

    chroms: npt.NDArray[np.object_]
    first_n: Ints
    n_ref_n: Ints
    n_alt_n: Ints
    shared_n: Ints
    alternate: tuple[Codes, ...]

    @classmethod
    def of(cls, variants: pl.DataFrame) -> "Alleles":
        """Of a table with `chrom`, `pos` (1-based), `ref` and `alt`."""
        ref, alt = variants["ref"].to_list(), variants["alt"].to_list()
        return cls(
            np.array(variants["chrom"].to_list(), dtype=object),
            variants["pos"].to_numpy().astype(np.int64) - 1,
            np.array([len(text) for text in ref], np.int64),
            np.array([len(text) for text in alt], np.int64),
            np.array([_shared(r, a) for r, a in zip(ref, alt, strict=True)], np.int64),
            tuple(encode(text) for text in alt),
        )

    @property
    def same_n(self) -> npt.NDArray[np.bool_]:
        """Whether both alleles are the same."""
        same: npt.NDArray[np.bool_] = (self.shared_n == self.n_ref_n) & (
            self.n_ref_n == self.n_alt_n
        )
        return same

    @property
    def moving_n(self) -> npt.NDArray[np.bool_]:
        """Whether the alternate allele moves the bases beside it."""
        moving: npt.NDArray[np.bool_] = self.n_ref_n != self.n_alt_n
        return moving


def _shared(ref: str, alt: str) -> int:
    if len(ref) == len(alt) == 1:
        return int(ref == alt)
    pairs = zip(ref, alt, strict=False)
    return next((i for i, (r, a) in enumerate(pairs) if r != a), min(len(ref), len(alt)))


def left_in_place(genome: Genome, alleles: Alleles, row: int, start: int, width: int) -> Codes:
    """The alternate window (width,) with what is left of the change where the reference has it.

    Bases right of the change are drawn in at the right end, or pushed out; N beyond the ends.
    """
    chrom, first, alternate = alleles.chroms[row], int(alleles.first_n[row]), alleles.alternate[row]
    after = first + int(alleles.n_ref_n[row])
    before = genome.fetch(chrom, start, first)
    rest = max(0, width - len(before) - len(alternate))
    return np.concatenate([before, alternate, genome.fetch(chrom, after, after + rest)])[:width]


def right_in_place(genome: Genome, alleles: Alleles, row: int, start: int, width: int) -> Codes:
    """The alternate window (width,) with what is right of the change where the reference has it.

    Bases left of the change are drawn in at the left end, or pushed out; N beyond the ends.
    """
    chrom, first, alternate = alleles.chroms[row], int(alleles.first_n[row]), alleles.alternate[row]
    after = first + int(alleles.n_ref_n[row])
    behind = start + width - after  # negative for a deletion that reaches over the end
    need = width + max(0, -behind)
    parts = [genome.fetch(chrom, first - need, first), alternate]
    whole = np.concatenate([*parts, genome.fetch(chrom, after, after + max(0, behind))])
    end = len(whole) + min(0, behind)
    return whole[end - width : end]


def sources(alleles: Alleles, row: int, start: int, layout: Layout) -> npt.NDArray[np.int8]:
    """Where each compared bin (N,) of a variant's window at `start` comes from.

    The change of length lies behind the first replaced bases that the alternate allele has too.
    The bin that holds this place, and those left of it, are those of `left_in_place`; bins
    right of it those of `right_in_place`; bins of which all bases are deleted are neither.
    """
    replaced = alleles.n_ref_n[row] - alleles.shared_n[row]
    kept = min(replaced, alleles.n_alt_n[row] - alleles.shared_n[row])
    place = alleles.first_n[row] + alleles.shared_n[row] + kept
    after = alleles.first_n[row] + alleles.n_ref_n[row]
    begin_N = start + (layout.crop + np.arange(layout.central)) * layout.bin_size
    found = np.where(begin_N <= place, LEFT, RIGHT).astype(np.int8)
    found[(begin_N >= place) & (begin_N + layout.bin_size <= after)] = DELETED
    return found


def overlapping(begin_n: Ints, end_n: Ints, start_n: Ints, layout: Layout) -> npt.NDArray[np.bool_]:
    """Which compared bins (n, N) of windows at `start_n` overlap [begin, end)."""
    bin_nN = start_n[:, None] + (layout.crop + np.arange(layout.central)) * layout.bin_size
    return (bin_nN < end_n[:, None]) & (bin_nN + layout.bin_size > begin_n[:, None])
