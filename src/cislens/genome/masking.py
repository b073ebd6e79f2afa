"""Which bases of a sequence a model is asked for, and what it is shown instead.

Masks are drawn on bases, never on k-mers: a hidden k-mer among visible overlapping ones hides a
single base, and hiding k of them in a row still hides only one.

Dimensions: B sequence, L base pair, S span.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome import codes as dna
from cislens.genome.codes import Codes

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_MEAN_SPAN, _LONGEST_SPAN = 4.0, 12
# Now and then a span as long as a whole motif.
_MOTIF_CHANCE, _MOTIF_SPAN = 0.2, (8, 20)
# Shares of the spans that are hidden and replaced; the rest is asked but left as it is.
_HIDDEN, _REPLACED = 0.8, 0.1
_HIDE, _REPLACE, _KEEP = 1, 2, 3
# Spans drawn per base to be covered; their mean length is 5.9, so this is never too few.
_SPANS_PER_BASE, _SPANS_MORE = 0.3, 8
_PLACE_BITS, _LENGTH_BITS = 32, 5
_UNUSED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Masked:
    """Sequences to be completed.

    Attributes:
        codes_BL: what may be shown: N where hidden, other bases where replaced.
        hidden_BL: bases of which nothing may be seen. Replaced and unchanged ones are not among
            them.
        scored_BL: bases to be told: hidden, replaced or unchanged; never N.
    """

    codes_BL: Codes
    hidden_BL: Bools
    scored_BL: Bools


def mask_spans(
    target_BL: Codes, rate: tuple[float, float], rng: np.random.Generator, kmer: int = 1
) -> Masked:
    """Hide, replace or just ask for spans of bases.

    The share of the bases is uniform between the two of `rate` for each sequence, on average over
    where its last span falls. Spans are geometric with mean 4, clipped to 12 bp, or with chance
    0.2 uniform in 8 .. 20 bp. Of the spans 80 % are hidden, 10 % get random bases, 10 % stay.

    Args:
        kmer: bases that a token of the reader covers. Visible bases that no token shows, because
            each that covers them touches a hidden base too, are hidden and scored as well.
    """
    kind_BL = _spans(target_BL.shape, rate, rng)
    hidden_BL = kind_BL == _HIDE
    if kmer > 1:
        hidden_BL = close_gaps(hidden_BL, kmer)
    called_BL = target_BL != dna.N
    codes_BL = target_BL.copy()
    places = np.flatnonzero((kind_BL == _REPLACE) & called_BL)
    codes_BL.ravel()[places] = rng.integers(0, 4, places.size, dtype=np.uint8)
    codes_BL[hidden_BL] = dna.N
    return Masked(codes_BL, hidden_BL, ((kind_BL > 0) | hidden_BL) & called_BL)


def close_gaps(hidden_BL: Bools, kmer: int) -> Bools:
    """Hide also what no k-mer without a hidden base covers.

    These are the visible bases in gaps shorter than `kmer` between hidden spans, or between a
    hidden span and an end.
    """
    length = hidden_BL.shape[1]
    if length < kmer:
        return hidden_BL | hidden_BL.any(1, keepdims=True)
    shown_BL = np.zeros_like(hidden_BL)
    tokens = length - kmer + 1
    clean = ~hidden_BL[:, :tokens]
    for base in range(1, kmer):
        clean &= ~hidden_BL[:, base : base + tokens]
    for base in range(kmer):
        shown_BL[:, base : base + tokens] |= clean
    return ~shown_BL


def _spans(
    shape: tuple[int, ...], rate: tuple[float, float], rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """What happens to each base: 0 nothing, or _HIDE, _REPLACE, _KEEP."""
    rows, length = shape
    wanted_B = rng.uniform(*rate, rows) * length
    length_BS = _lengths(rows, int(rate[1] * length * _SPANS_PER_BASE) + _SPANS_MORE, length, rng)
    end_BS = np.cumsum(length_BS, 1)
    # The span that passes the wanted number stays with the chance that makes the mean right.
    over_BS = end_BS - rng.random(rows)[:, None] * length_BS
    used_BS = (over_BS < wanted_B[:, None]) & (end_BS <= length)
    used_BS[:, 0] = True
    total_B = (length_BS * used_BS).sum(1)
    # Each span falls between two visible bases, on its own; then all move apart. One sort of
    # numbers that carry the lengths along brings them in the order of their places: without it
    # the last span, which is longer than most because it passed the wanted number, would always
    # be the last in the sequence.
    place_BS = rng.integers(0, 1 << _PLACE_BITS, length_BS.shape) << _LENGTH_BITS | length_BS
    place_BS[~used_BS] = _UNUSED
    place_BS.sort(1)
    length_BS = place_BS & ((1 << _LENGTH_BITS) - 1)
    before_BS = (place_BS >> _LENGTH_BITS) * (length - total_B + 1)[:, None] >> _PLACE_BITS
    start_BS = before_BS + np.cumsum(length_BS, 1) - length_BS
    row, span = np.nonzero(place_BS != _UNUSED)
    start, end = start_BS[row, span], (start_BS + length_BS)[row, span]
    chance = rng.random(row.size)
    kind = _HIDE + (chance >= _HIDDEN) + (chance >= _HIDDEN + _REPLACED)
    change = np.zeros((rows, length + 1), np.int8)
    # No two spans start or end together, so these are sums.
    change[row, start] += kind.astype(np.int8)
    change[row, end] -= kind.astype(np.int8)
    return np.cumsum(change, 1, dtype=np.int8)[:, :length]


def _lengths(rows: int, spans: int, longest: int, rng: np.random.Generator) -> Ints:
    short = np.minimum(rng.geometric(1 / _MEAN_SPAN, (rows, spans)), _LONGEST_SPAN)
    low, high = _MOTIF_SPAN
    motif = rng.integers(low, high + 1, (rows, spans))
    chosen = np.where(rng.random((rows, spans)) < _MOTIF_CHANCE, motif, short)
    return np.minimum(chosen, longest)
