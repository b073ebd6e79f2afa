"""Bases of a species in one run; damage is noticed when a piece is read for the first time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cislens.files import write_atomic
from cislens.genome.codes import Codes
from cislens.signal.checks import checks_file, read_checks, row_checksums

PIECE = 1 << 16  # bp with a checksum of their own

Ints = npt.NDArray[np.int64]


class Bases:
    """The bases of all chromosomes, one after another, from a memory map.

    Attributes:
        data: codes, with marks.
        sizes, begins: of the chromosomes in `data`.
    """

    def __init__(self, folder: Path, file: Path, chrom_sizes: Mapping[str, int]) -> None:
        self.folder = folder
        self.names = tuple(chrom_sizes)
        self.sizes: Ints = np.array(list(chrom_sizes.values()), np.int64)
        self.begins: Ints = np.cumsum(self.sizes) - self.sizes
        self.data: Codes = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
        pieces = -(-self.data.size // PIECE)
        self._checks = read_checks(folder, pieces, self._named)
        self._seen = np.full(pieces, self._checks is None)

    def require(self, begin_B: Ints, end_B: Ints) -> None:
        """Refuse stretches [begin, end) of `data` that are not what was written.

        A piece is compared with its checksum once: when a stretch touches it for the first time.

        Raises:
            CislensError: naming the damaged pieces by chromosome.
        """
        if not begin_B.size or self._checks is None:
            return
        first_B, last_B = begin_B // PIECE, (end_B - 1) // PIECE
        reach = np.arange(int((last_B - first_B).max()) + 1)
        touched = np.minimum(first_B[:, None] + reach, last_B[:, None])
        new = np.unique(touched[~self._seen[touched]])
        if new.size:
            self._checks.require(self.folder, new, [self._piece(at) for at in new.tolist()])
            self._seen[new] = True

    def damaged(self) -> str:
        """Names of the pieces that are not what was written, after reading all of them."""
        if self._checks is None:
            return ""
        every = np.arange(self._seen.size)
        pieces = [self._piece(at) for at in every.tolist()]
        return self._checks.names(self._checks.damaged(every, pieces))

    def _piece(self, at: int) -> Codes:
        return self.data[at * PIECE : (at + 1) * PIECE]

    def _named(self, at: int) -> str:
        """What of which chromosomes a piece holds; 0-based, half-open."""
        first, last = at * PIECE, min((at + 1) * PIECE, self.data.size)
        starts = np.maximum(first - self.begins, 0)
        ends = np.minimum(last - self.begins, self.sizes)
        held = np.flatnonzero(starts < ends).tolist()
        return ", ".join(f"{self.names[chrom]}:{starts[chrom]}-{ends[chrom]}" for chrom in held)


def write_piece_checks(folder: Path, file: Path) -> None:
    """Write the checksums of the pieces of a file of bases beside its array's folder."""
    data = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    found = row_checksums([data[at : at + PIECE] for at in range(0, data.size, PIECE)])
    write_atomic(checks_file(folder), np.array(found, "<u4").tobytes())
