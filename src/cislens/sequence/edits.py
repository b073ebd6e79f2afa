"""What changes the bases of a view: where it is cut, what is put in, taken out and replaced.

Everything is done to all views at once; `index` says of each base of a view which base of its
source it is, so that nothing is lost track of.

Dimensions: R view, L base pair of a view, P of a source, K place of an insertion or deletion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome import codes as dna
from cislens.genome.codes import Codes
from cislens.sequence.store import REPEAT

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
# 0-based position, bases of the reference, and what stands in their place.
Allele = tuple[int, int, Codes]

_TRANSITIONS = 2 / 3
_CHANCES = 1 << 16


@dataclass(frozen=True)
class Crops:
    """Views of sources of which the bases are known by their number alone.

    Attributes:
        index_RL: base of the source, rising along a view, or falling if it is turned; at an
            inserted base that of the one read before it.
        inserted: flat indices into (R, L) of the bases that are in no source.
    """

    index_RL: Places
    inserted: Ints


def crop(
    size_R: Ints,
    length: int,
    turned_R: Bools,
    rng: np.random.Generator,
    indels: int = 0,
    longest: int = 1,
) -> Crops:
    """Cut a view of `length` bp anywhere from each source, with insertions and deletions.

    A view has 0 to `indels` of them, each as likely, of 1 to `longest` bp, each as likely, with a
    base of the source between any two. What a deletion takes is filled up with the bases that
    follow in the source; it is cut short where the source has no more. Insertions never make up
    half of a view: in a short one they are shorter.

    Args:
        size_R: bp of the sources, at least `length` each.
        turned_R: views to be read from their end.
    """
    assert (size_R >= length).all()
    rows = len(size_R)
    index_RL = np.ones((rows, length), np.int32)
    inserted = np.empty(0, np.int64)
    used_R = np.full(rows, length, np.int64)
    longest = min(longest, length // (2 * indels + 2))
    if indels and longest:
        inserted, taken_R = _indels(index_RL, size_R, indels, longest, rng)
        used_R += taken_R
    start_R: Ints = rng.integers(0, size_R - used_R + 1, rows)
    first_R: Ints = start_R + turned_R * (used_R - 1)
    sign_R: Ints = 1 - 2 * turned_R.astype(np.int64)
    index_RL[:, 0] = 0
    np.cumsum(index_RL, 1, out=index_RL)
    index_RL *= sign_R.astype(np.int32)[:, None]
    index_RL += first_R.astype(np.int32)[:, None]
    return Crops(index_RL, inserted)


def _indels(
    step_RL: Places, size_R: Ints, indels: int, longest: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Write into the steps from base to base; returns the inserted bases, and bp taken beyond L."""
    rows, length = step_RL.shape
    number_R = rng.integers(0, indels + 1, (rows,))
    acts_RK = rng.permuted(np.arange(indels) < number_R[:, None], axis=1)
    length_RK = rng.integers(1, longest + 1, acts_RK.shape) * acts_RK
    inserts_RK = rng.random(acts_RK.shape) < 0.5
    put_RK, out_RK = length_RK * inserts_RK, length_RK * ~inserts_RK
    real_R = length - put_RK.sum(1)
    out_RK = np.diff(np.minimum(out_RK.cumsum(1), (size_R - real_R)[:, None]), axis=1, prepend=0)
    # Before which real base each acts: all different, and neither before the first nor the last.
    before_RK = (rng.random(acts_RK.shape) * (real_R - indels)[:, None]).astype(np.int64) + 1
    before_RK.sort(1)
    place_RK = before_RK + np.arange(indels) + put_RK.cumsum(1) - put_RK
    flat_RK = place_RK + np.arange(rows)[:, None] * length
    put, first = put_RK.ravel(), flat_RK.ravel()
    within = np.arange(put.sum()) - np.repeat(put.cumsum() - put, put)
    inserted = np.repeat(first, put) + within
    steps = step_RL.ravel()
    steps[inserted] = 0
    steps[first] += out_RK.ravel().astype(np.int32)
    return inserted, out_RK.sum(1) + real_R - length


def substitute(codes_RL: Codes, rate_R: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    """Change each base of a view with the probability of that view, in place; never N.

    Of the changes two thirds are transitions, and the rest falls on the two transversions alike.
    """
    chance_RL = rng.integers(0, _CHANCES, codes_RL.shape, np.uint16)
    limit_R = np.minimum(np.rint(rate_R * _CHANCES), _CHANCES - 1).astype(np.uint16)
    changed = np.flatnonzero(chance_RL < limit_R[:, None])
    codes = codes_RL.ravel()
    changed = changed[codes[changed] != dna.N]
    kind = rng.random(changed.size)
    # In A, C, G, T = 0 .. 3 the second bit alone tells the two bases of a transition apart.
    flips = np.where(kind < _TRANSITIONS, 2, np.where(kind < (1 + _TRANSITIONS) / 2, 1, 3))
    codes[changed] ^= flips.astype(np.uint8)


def complement(codes_RL: Codes, rows_R: Bools) -> None:
    """Complement the bases of these rows, in place; N stays."""
    change_RL = (codes_RL != dna.N) & rows_R[:, None]
    codes_RL ^= change_RL.view(np.uint8) * np.uint8(3)


def carry(
    marked_P: Codes, alleles: Sequence[Allele], shortest: int
) -> tuple[Codes, npt.NDArray[np.int32]]:
    """A source with the alleles of one haplotype, and which base of it each base is, or -1.

    The first bases of an allele stand in the place of those of the reference, and what it has
    more is inserted behind them. Left out are alleles that reach beyond an end, or over the one
    before, and deletions that would leave less than `shortest` bp.

    Args:
        marked_P: codes, plus REPEAT where soft-masked, which alleles inherit.
        alleles: in order, with positions in the source.
    """
    place_P = np.arange(len(marked_P), dtype=np.int32)
    repeat_P = marked_P & np.uint8(REPEAT)
    marks: list[Codes] = []
    places: list[npt.NDArray[np.int32]] = []
    done, size = 0, len(marked_P)
    for first, count, alt in alleles:
        longer = len(alt) - count
        outside = first < done or first + count > len(marked_P)
        if outside or size + min(longer, 0) < shortest:
            continue
        common = min(count, len(alt))
        repeat = repeat_P[max(first + common - 1, 0)]
        marks += [
            marked_P[done:first],
            alt[:common] | repeat_P[first : first + common],
            alt[common:] | repeat,
        ]
        inserted = np.full(len(alt) - common, -1, np.int32)
        places += [place_P[done : first + common], inserted]
        done, size = first + count, size + longer
    marks.append(marked_P[done:])
    places.append(place_P[done:])
    return np.concatenate(marks), np.concatenate(places)
