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

# Shares of the spans that are hidden and replaced; the rest is asked but left as it is.
_HIDDEN, _REPLACED = 0.8, 0.1
_HIDE, _REPLACE, _KEEP = 1, 2, 3
_SPANS_MORE = 8
_PLACE_BITS, _LENGTH_BITS = 32, 6
_UNUSED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class SpanLaw:
    """How long masked spans are: most of them short, some of them long.

    Attributes:
        mean, longest: short spans are geometric with this mean, clipped.
        long_chance, long: how often a span is long, and its shortest and longest length.
        share: no span is longer than this share of the sequence.
        per_base: spans drawn per base to be covered: 1.8 over their mean length, so never too few.
    """

    mean: float
    longest: int
    long_chance: float
    long: tuple[int, int]
    share: float
    per_base: float


MOTIF_SPANS = SpanLaw(4.0, 12, 0.2, (8, 20), 1.0, 0.3)
"""Short spans, and now and then one as long as a whole motif; 5.9 bp on average."""
WIDE_SPANS = SpanLaw(10.0, 48, 0.5, (16, 48), 0.25, 0.09)
"""Spans too long to be filled in from their rims; 21 bp on average."""


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
    target_BL: Codes,
    rate: tuple[float, float],
    rng: np.random.Generator,
    kmer: int = 1,
    law: SpanLaw = MOTIF_SPANS,
) -> Masked:
    """Hide, replace or just ask for spans of bases.

    The share of the bases is uniform between the two of `rate` for each sequence, on average over
    where its last span falls. Of the spans 80 % are hidden, 10 % get random bases, 10 % stay.

    Args:
        kmer: bases that a token of the reader covers. Visible bases that no token shows, because
            each that covers them touches a hidden base too, are hidden and scored as well.
        law: of the lengths of the spans.
    """
    return _masked(target_BL, _spans(target_BL.shape, rate, rng, law), rng, kmer)


def mask_bases(target_BL: Codes, rate: float, rng: np.random.Generator, kmer: int = 1) -> Masked:
    """Hide, replace or just ask for bases, each on its own with probability `rate`.

    Of those chosen 80 % are hidden, 10 % get random bases, 10 % stay, as in BERT (Devlin et al.
    2019).

    Args:
        kmer: as in `mask_spans`.
    """
    # Probabilities in steps of 2 ** -16, from the cheapest random numbers there are.
    chosen = np.flatnonzero(rng.integers(0, 1 << 16, target_BL.shape, np.uint16) < rate * (1 << 16))
    kind_BL = np.zeros(target_BL.shape, np.int8)
    kind_BL.ravel()[chosen] = _kinds(rng.random(chosen.size))
    return _masked(target_BL, kind_BL, rng, kmer)


def _masked(
    target_BL: Codes, kind_BL: npt.NDArray[np.int8], rng: np.random.Generator, kmer: int
) -> Masked:
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


def _kinds(chance: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """_HIDE, _REPLACE or _KEEP by numbers that are uniform in 0 .. 1."""
    return (_HIDE + (chance >= _HIDDEN) + (chance >= _HIDDEN + _REPLACED)).astype(np.int8)


def _spans(
    shape: tuple[int, ...], rate: tuple[float, float], rng: np.random.Generator, law: SpanLaw
) -> npt.NDArray[np.int8]:
    """What happens to each base: 0 nothing, or _HIDE, _REPLACE, _KEEP."""
    rows, length = shape
    wanted_B = rng.uniform(*rate, rows) * length
    spans = int(rate[1] * length * law.per_base) + _SPANS_MORE
    longest = max(1, int(length * law.share))
    length_BS = np.minimum(_lengths((rows, spans), law, rng), longest)
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
    kind = _kinds(rng.random(row.size))
    change = np.zeros((rows, length + 1), np.int8)
    # No two spans start or end together, so these are sums.
    change[row, start] += kind
    change[row, end] -= kind
    return np.cumsum(change, 1, dtype=np.int8)[:, :length]


def _lengths(shape: tuple[int, int], law: SpanLaw, rng: np.random.Generator) -> Ints:
    short = np.minimum(rng.geometric(1 / law.mean, shape), law.longest)
    long = rng.integers(law.long[0], law.long[1] + 1, shape)
    return np.where(rng.random(shape) < law.long_chance, long, short)
