"""Strand-neutral k-mers and the minimizers among them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome import codes as dna
from cislens.genome.codes import Codes

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_NO_KMER = np.uint64(2**64 - 1)
_LONGEST_PERIOD = 3
_LONGEST_RUN = 20
BASES_AT_ONCE = 1 << 16  # the arrays of so many k-mers stay in the cache: five times as fast


def kmer_hashes(codes: Codes, k: int) -> tuple[Words, npt.NDArray[np.bool_]]:
    """A hash of every k-mer (L - k + 1,), equal on both strands, and whether it was read forward.

    k is odd (no k-mer is its own reverse complement) and at most 31. k-mers with N, and those
    that repeat one to three bases all along, hash to the largest integer.
    """
    count = codes.size - k + 1
    if count <= 0:
        return np.empty(0, np.uint64), np.empty(0, bool)
    bases = codes.astype(np.uint64)
    forward, backward = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    for place in range(k):
        base = bases[place : place + count]
        forward = (forward << np.uint64(2)) | (base & np.uint64(3))
        backward |= (np.uint64(3) - (base & np.uint64(3))) << np.uint64(2 * place)
    is_forward = forward < backward
    canonical = np.where(is_forward, forward, backward)
    hashes = _mix(canonical)
    called = np.concatenate([[0], np.cumsum(codes == dna.N)])
    hashes[(called[k:] != called[:-k]) | _periodic(canonical, k)] = _NO_KMER
    return hashes, is_forward


def _periodic(kmers: Words, k: int) -> npt.NDArray[np.bool_]:
    periodic = np.zeros(len(kmers), bool)
    for period in range(1, _LONGEST_PERIOD + 1):
        rest = np.uint64(4 ** (k - period) - 1)
        periodic |= (kmers >> np.uint64(2 * period)) == (kmers & rest)
    return periodic


def _mix(values: Words) -> Words:
    """The finalizer of splitmix64 (Steele et al., OOPSLA 2014): a bijection, so no collisions."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def without_runs(codes: Codes) -> Codes:
    """Codes with N for every stretch of 20 or more bases that repeats one to three bases."""
    masked = codes.copy()
    for period in range(1, _LONGEST_PERIOD + 1):
        again = np.zeros(codes.size + 2, np.int8)
        again[1 : max(codes.size - period, 0) + 1] = (codes[period:] == codes[:-period]) & (
            codes[period:] != dna.N
        )
        edges = np.flatnonzero(np.diff(again))
        begins, ends = edges[::2], edges[1::2] + period
        long = ends - begins >= _LONGEST_RUN
        for begin, end in zip(begins[long].tolist(), ends[long].tolist(), strict=True):
            masked[begin:end] = dna.N
    return masked


@dataclass(frozen=True)
class Seeds:
    """Minimizers of a set of sequences laid end to end.

    Attributes:
        hashes: the k-mer (m,), equal on both strands.
        places: 0-based start of the k-mer in the sequences laid end to end (m,).
        forward: whether the k-mer was read as written (m,).
        k: length of the k-mers.
    """

    hashes: Words
    places: Ints
    forward: npt.NDArray[np.bool_]
    k: int


def minimizers(laid: Codes, k: int, w: int) -> Seeds:
    """The k-mers with the smallest hash of any w neighboring ones (Roberts et al. 2004).

    `laid` are sequences laid end to end with an N between them.
    """
    hashes, forward = kmer_hashes(laid, k)
    if len(hashes) < w:
        picked = np.flatnonzero(hashes == hashes.min()) if len(hashes) else np.empty(0, np.int64)
    else:
        windows = np.lib.stride_tricks.sliding_window_view(hashes, w)
        first = windows.argmin(1) + np.arange(len(windows))  # never falls from window to window
        picked = first[np.append(True, first[1:] != first[:-1])]
    picked = picked[hashes[picked] != _NO_KMER]
    return Seeds(hashes[picked], picked, forward[picked], k)


def sketch(codes: Codes, k: int, scale: int) -> tuple[Words, Ints]:
    """The k-mers of one in `scale` hashes, whatever their neighbors, with their places in order."""
    hashes, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for begin in range(0, len(codes), BASES_AT_ONCE):
        part, _forward = kmer_hashes(codes[begin : begin + BASES_AT_ONCE + k - 1], k)
        kept = np.flatnonzero(part < _NO_KMER // np.uint64(scale))
        hashes.append(part[kept])
        places.append(kept + begin)
    return np.concatenate(hashes), np.concatenate(places)


def lay(sequences: Sequence[Codes]) -> tuple[Codes, Ints]:
    """Sequences laid end to end with an N after each, and the start of each (n,)."""
    lengths = np.array([len(sequence) + 1 for sequence in sequences], np.int64)
    starts = np.concatenate([[0], lengths.cumsum()[:-1]]) if len(lengths) else lengths
    gap = np.array([dna.N], np.uint8)
    parts = [part for sequence in sequences for part in (sequence, gap)]
    return np.concatenate(parts) if parts else np.empty(0, np.uint8), starts
