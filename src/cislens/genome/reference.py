"""Random access to a reference genome."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import file_digest, require_file
from cislens.genome import codes as dna
from cislens.genome.codes import Codes
from cislens.genome.sources import SequenceSource, open_source

# Chromosomes kept as codes; one byte a base.
_CACHE_BYTES = 1 << 30


class Genome:
    """A reference: chromosome names, sizes and bases as codes A,C,G,T,N = 0..4.

    Coordinates are 0-based half-open. What lies beyond a chromosome's ends reads as N. A genome
    is pickled as its path, and reopened by each process that uses it.

    Attributes:
        name: how the genome is called in stores and reports, e.g. "sacCer3".
        path: the file it reads.
        chrom_sizes: length of every chromosome, in the order of the file.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = require_file(path, "genome file")
        self.name = name or self.path.name.split(".")[0]
        self._source: SequenceSource = open_source(self.path)
        self.chrom_sizes: dict[str, int] = self._source.sizes
        self._chromosomes: OrderedDict[str, Codes] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.name)

    def __repr__(self) -> str:
        total = sum(self.chrom_sizes.values())
        return f"Genome({self.name!r}, {len(self.chrom_sizes)} chromosomes, {total:,} bp)"

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return file_digest(self.path)

    def fetch(self, chrom: str, start: int, end: int) -> Codes:
        """Codes (end - start,) of one interval; beyond the chromosome is N.

        Raises:
            CislensError: for an unknown chromosome, or start > end.
        """
        if start > end:
            raise CislensError(f"interval {chrom}:{start}-{end} starts after its end.")
        size = self.size(chrom)
        found = np.full(end - start, dna.N, np.uint8)
        left, right = min(max(start, 0), size), min(max(end, 0), size)
        if left < right:
            with self._lock:
                held = self._chromosomes.get(chrom)
                if held is None:
                    inside = dna.encode(self._source.read(chrom, left, right))
                else:
                    inside = held[left:right]
            found[left - start : right - start] = inside
        return found

    def chromosome(self, chrom: str) -> Codes:
        """Codes of a whole chromosome, kept for the next call; do not write to them."""
        size = self.size(chrom)
        with self._lock:
            if chrom not in self._chromosomes:
                codes = dna.encode(self._source.read(chrom, 0, size))
                codes.flags.writeable = False
                self._chromosomes[chrom] = codes
                self._forget()
            self._chromosomes.move_to_end(chrom)
            return self._chromosomes[chrom]

    def windows(
        self,
        chroms: Sequence[str] | pl.Series,
        starts: Sequence[int] | npt.NDArray[np.int64] | pl.Series,
        width: int,
    ) -> Codes:
        """Codes (n, width) of n windows; beyond a chromosome's ends is N."""
        names = np.asarray(chroms, dtype=object)
        begin = np.asarray(starts, dtype=np.int64)
        if names.shape != begin.shape:
            raise CislensError(f"{len(names)} chromosomes were given for {len(begin)} starts.")
        found = np.full((len(begin), width), dna.N, np.uint8)
        for chrom in dict.fromkeys(names.tolist()):
            rows = np.flatnonzero(names == chrom)
            _cut(self.chromosome(chrom), begin[rows], width, found, rows)
        return found

    def soft_mask(self, chrom: str, start: int, end: int) -> npt.NDArray[np.bool_]:
        """True (end - start,) where the source writes lower case, the mark of a repeat."""
        size = self.size(chrom)
        masked = np.zeros(end - start, bool)
        left, right = min(max(start, 0), size), min(max(end, 0), size)
        if left < right:
            with self._lock:
                raw = np.frombuffer(self._source.read(chrom, left, right), np.uint8)
            masked[left - start : right - start] = (raw >= ord("a")) & (raw <= ord("z"))
        return masked

    def ambiguous_bases(self, chrom: str) -> dict[str, int]:
        """Counts of the IUPAC codes other than N on a chromosome; all of them read as N."""
        size = self.size(chrom)
        with self._lock:
            return dna.ambiguous(self._source.read(chrom, 0, size))

    def size(self, chrom: str) -> int:
        """Length of a chromosome.

        Raises:
            CislensError: if the genome has none of that name.
        """
        if chrom not in self.chrom_sizes:
            raise CislensError(
                f"{self.path} has no chromosome {chrom!r}. {nearest(chrom, self.chrom_sizes)}"
            )
        return self.chrom_sizes[chrom]

    def _forget(self) -> None:
        held = sum(codes.size for codes in self._chromosomes.values())
        while held > _CACHE_BYTES and len(self._chromosomes) > 1:
            held -= self._chromosomes.popitem(last=False)[1].size


def _cut(
    chromosome: Codes, starts: npt.NDArray[np.int64], width: int, out: Codes, rows: Any
) -> None:
    size = chromosome.size
    inside = (starts >= 0) & (starts <= size - width)
    if width <= size and width > 0:
        every = np.lib.stride_tricks.sliding_window_view(chromosome, width)
        out[rows[inside]] = every[starts[inside]]
    for row, start in zip(rows[~inside], starts[~inside].tolist(), strict=True):
        left, right = min(max(start, 0), size), min(max(start + width, 0), size)
        if left < right:
            out[row, left - start : right - start] = chromosome[left:right]


def open_genome(path: str | Path, name: str | None = None) -> Genome:
    """Open a FASTA file, a bgzip-compressed FASTA file or a 2bit file.

    A FASTA file without an index gets one in the user's cache folder; its own folder is not
    written to.

    Args:
        path: the file.
        name: what to call the genome; by default the file's name up to its first dot.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if the file is none of the three formats, is truncated, or has an empty or
            duplicated record.
    """
    return Genome(path, name)


def report_ambiguous(genome: Genome, chroms: Iterable[str]) -> dict[str, dict[str, int]]:
    """The IUPAC codes that read as N, by chromosome; chromosomes without any are left out."""
    found = {chrom: genome.ambiguous_bases(chrom) for chrom in chroms}
    return {chrom: counts for chrom, counts in found.items() if counts}
