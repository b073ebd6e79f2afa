"""Alignment of many pairs of sequences at once.

Scores: match +1, mismatch -1, gap -2 a base. N matches nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome import codes as dna
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.minimizers import BASES_AT_ONCE, Ints, Words
from cislens.randomness import generator

BAND = 16
_FLANK = 32  # bases in a word
_PAIRS_AT_ONCE = 2048  # small enough for the band to stay in the cache
_GAP = -2
# A path's score, length and matches in one number, so that among the paths of the best score the
# shortest is found by the same recurrence.
_SCORE_UNIT, _LENGTH_UNIT = 1 << 40, 1 << 20
_OUTSIDE_A, _OUTSIDE_B = 254, 255


def _extension_tables() -> tuple[npt.NDArray[np.int8], ...]:
    """For 8 bases, one bit pair each, mismatches marked: sum, best prefix, best suffix score."""
    marks = np.arange(1 << 16)
    steps = np.stack([1 - 2 * ((marks >> (2 * place)) & 1) for place in range(8)])
    nothing = np.zeros((1, len(marks)), np.int64)
    prefix = np.concatenate([nothing, steps.cumsum(0)]).max(0)
    suffix = np.concatenate([nothing, steps[::-1].cumsum(0)]).max(0)
    return steps.sum(0).astype(np.int8), prefix.astype(np.int8), suffix.astype(np.int8)


_TOTAL, _PREFIX, _SUFFIX = _extension_tables()


class Flanks:
    """The 32 bases before and after every place of laid sequences, on both strands."""

    def __init__(self, laid: Codes) -> None:
        self.length = laid.size
        # N must not pair with N; over the end of a sequence the alignment decides, not this.
        called = np.where(
            laid == dna.N, generator(0, "flanks").integers(0, 4, laid.size, np.uint8), laid
        )
        self._words = _pack(called), _pack(reverse_complement(called))

    def seed_scores(
        self, left: Ints, right: Ints, opposite: npt.NDArray[np.bool_], k: int
    ) -> npt.NDArray[np.int8]:
        """Best ungapped score, within 32 bases on either side, of the shared k-mers at two places.

        Where `opposite`, the second k-mer is the reverse complement of the first.
        """
        forward, backward = self._words
        second = np.where(opposite, self.length - k - right, right)
        after = np.where(opposite, backward[second + k + _FLANK], forward[second + k + _FLANK])
        before = np.where(opposite, backward[second], forward[second])
        score = _best(forward[left + k + _FLANK] ^ after, range(4), _PREFIX)
        score += _best(forward[left] ^ before, range(3, -1, -1), _SUFFIX)
        return score + np.int8(k)


def _pack(codes: Codes) -> Words:
    """Word p holds the bases p - 32 to p - 1, two bits each, the first lowest."""
    padded = np.pad(codes, (_FLANK, 3 * _FLANK - 1))
    words = np.empty(codes.size + 3 * _FLANK, np.uint64)
    for begin in range(0, words.size, BASES_AT_ONCE):
        kept = words[begin : begin + BASES_AT_ONCE]
        part = padded[begin : begin + kept.size + _FLANK - 1].astype(np.uint64)
        for reach in (1, 2, 4, 8, 16):
            part[:-reach] |= part[reach:] << np.uint64(2 * reach)
        kept[:] = part[: kept.size]
    return words


def _best(different: Words, order: range, partial: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    marks = (different | (different >> np.uint64(1))) & np.uint64(0x5555555555555555)
    eights = marks.astype("<u8", copy=False).view("<u2").reshape(-1, 4)
    best = np.zeros(len(eights), np.int8)
    score = np.zeros(len(eights), np.int8)
    for place in order:
        bases = eights[:, place]
        np.maximum(best, score + partial[bases], out=best)
        score += _TOTAL[bases]
    return best


@dataclass(frozen=True)
class Alignments:
    """Local alignments of pairs: score, identity (matches over columns) and columns, each (p,)."""

    score: Ints
    identity: npt.NDArray[np.float64]
    columns: Ints


@dataclass(frozen=True)
class Pairs:
    """Pairs of sequences to align, by their numbers.

    `diagonal` is position in a minus position in b, the latter on the strand that `opposite` says.
    """

    a: Ints
    b: Ints
    opposite: npt.NDArray[np.bool_]
    diagonal: Ints

    def __len__(self) -> int:
        return len(self.a)

    def take(self, rows: Ints | npt.NDArray[np.bool_]) -> "Pairs":
        return Pairs(self.a[rows], self.b[rows], self.opposite[rows], self.diagonal[rows])


def local_scores(laid: Codes, starts: Ints, lengths: Ints, pairs: Pairs) -> Ints:
    """Smith-Waterman score (p,) of each pair within 16 bases of its diagonal."""
    return _aligned(laid, starts, lengths, pairs, np.dtype(np.int16), 1, -1, _GAP)


def align(laid: Codes, starts: Ints, lengths: Ints, pairs: Pairs) -> Alignments:
    """The best local alignment of each pair within 16 bases of its diagonal."""
    column = -_LENGTH_UNIT
    packed = _aligned(
        laid, starts, lengths, pairs, np.dtype(np.int64),
        _SCORE_UNIT + column + 1, -_SCORE_UNIT + column, _GAP * _SCORE_UNIT + column,
    )  # fmt: skip
    score = -(-packed // _SCORE_UNIT)
    rest = score * _SCORE_UNIT - packed
    columns = -(-rest // _LENGTH_UNIT)
    matches = columns * _LENGTH_UNIT - rest
    return Alignments(score, matches / np.maximum(columns, 1), columns)


def _aligned(
    laid: Codes,
    starts: Ints,
    lengths: Ints,
    pairs: Pairs,
    kind: np.dtype[np.signedinteger],
    match: int,
    mismatch: int,
    gap: int,
) -> Ints:
    best = np.zeros(len(pairs), np.int64)
    order = np.argsort(lengths[pairs.a], kind="stable")
    first = 0
    while first < len(order):
        rows = order[first : first + _PAIRS_AT_ONCE]
        part = pairs.take(rows)
        a, b = _bands(laid, starts, lengths, part)
        best[rows] = _smith_waterman(a, b, kind, match, mismatch, gap)
        first += len(rows)
    return best


def _bands(laid: Codes, starts: Ints, lengths: Ints, pairs: Pairs) -> tuple[Codes, Codes]:
    """Bases of a (L, p) and, shifted onto its diagonal, of b (L + 2 BAND, p)."""
    longest = int(lengths[pairs.a].max())
    place = np.arange(longest)[:, None]
    outside = place >= lengths[pairs.a]
    a = laid[np.where(outside, 0, starts[pairs.a] + place)]
    a[outside] = _OUTSIDE_A
    place = np.arange(longest + 2 * BAND)[:, None] - pairs.diagonal - BAND
    length = lengths[pairs.b]
    outside = (place < 0) | (place >= length)
    turned = np.where(pairs.opposite, length - 1 - place, place)
    b = laid[np.where(outside, 0, starts[pairs.b] + turned)]
    b = np.where(pairs.opposite & (b < dna.N), np.uint8(3) - b, b)
    b[outside | (b == dna.N)] = _OUTSIDE_B
    return a, b


def _smith_waterman(
    a: Codes, b: Codes, kind: np.dtype[np.signedinteger], match: int, mismatch: int, gap: int
) -> Ints:
    width, count = 2 * BAND + 1, a.shape[1]
    number = kind.type
    score = np.zeros((width + 1, count), kind)  # the last row stays zero: outside the band
    inside, below = score[:-1], score[1:]
    gapped, best = np.empty((width, count), kind), np.zeros((width, count), kind)
    for place in range(len(a)):
        step = (b[place : place + width] == a[place]).astype(kind)
        step *= number(match - mismatch)
        step += number(mismatch)
        np.add(below, number(gap), out=gapped)
        np.add(inside, step, out=inside)
        np.maximum(inside, gapped, out=inside)
        np.maximum(inside, number(0), out=inside)
        # Gaps in a run along the band: doubling the reach covers all lengths.
        for reach in (1, 2, 4, 8, 16):
            np.add(inside[:-reach], number(gap * reach), out=gapped[reach:])
            np.maximum(inside[reach:], gapped[reach:], out=inside[reach:])
        np.maximum(best, inside, out=best)
    highest: Ints = best.max(0).astype(np.int64)
    return highest
