"""The leftmost, shortest way to write a replacement of bases (Tan, Abecasis and Kang 2015,
Bioinformatics 31:2202): what `bcftools norm` gives for single alleles.

Dimensions: V variant.
"""

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import BASES, Codes, encode


def left_align(
    chromosome: Codes, starts: list[int], refs: list[str], alts: list[str]
) -> tuple[list[int], list[str], list[str]]:
    """Starts (0-based) and alleles of V variants of one chromosome, normalized.

    Args:
        chromosome: codes of the whole chromosome.
        starts: first base of each `ref`, 0-based.
        refs: alleles that the chromosome has there, at least a base, upper case.
        alts: other alleles, at least a base each and different from their `refs`.
    """
    starts, refs, alts = list(starts), list(refs), list(alts)
    shifting: list[int] = []
    for row, (ref, alt) in enumerate(zip(refs, alts, strict=True)):
        short = min(len(ref), len(alt))
        suffix = _common(ref[::-1], alt[::-1]) if ref[-1] == alt[-1] else 0
        if suffix == short:  # nothing but bases lost or gained: they may move
            shifting.append(row)
            continue
        ref, alt = ref[: len(ref) - suffix], alt[: len(alt) - suffix]
        prefix = min(_common(ref, alt), short - suffix - 1)
        starts[row] += prefix
        refs[row], alts[row] = ref[prefix:], alt[prefix:]
    if shifting:
        _shift(chromosome, shifting, starts, refs, alts)
    return starts, refs, alts


def _shift(
    chromosome: Codes, rows: list[int], starts: list[int], refs: list[str], alts: list[str]
) -> None:
    """Move bare insertions and deletions left, and anchor them at the base before."""
    events = [_event(refs[row], alts[row]) for row in rows]
    start_V = np.array([starts[row] for row in rows], np.int64)
    steps_V = _steps(chromosome, start_V, events)
    first_V = start_V - steps_V
    deleted_V = np.array([len(refs[row]) > len(alts[row]) for row in rows])
    length_V = np.array([len(event) for event in events], np.int64)
    # At a chromosome's first base there is none before; the base after the event serves.
    anchor_V = np.where(first_V > 0, first_V - 1, np.where(deleted_V, length_V, 0))
    bases = chromosome[np.minimum(anchor_V, chromosome.size - 1)].tolist()
    for row, event, steps, first, base, deleted in zip(
        rows, events, steps_V.tolist(), first_V.tolist(), bases, deleted_V.tolist(), strict=True
    ):
        turn = steps % len(event)
        event = event[len(event) - turn :] + event[: len(event) - turn]
        anchor = BASES[base]
        long = anchor + event if first > 0 else event + anchor
        starts[row] = max(first - 1, 0)
        refs[row], alts[row] = (long, anchor) if deleted else (anchor, long)


def _common(one: str, other: str) -> int:
    """How many bases two sequences share from their beginning."""
    for at, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return at
    return min(len(one), len(other))


def _event(ref: str, alt: str) -> str:
    long = max(ref, alt, key=len)
    return long[: abs(len(ref) - len(alt))]


def _steps(
    chromosome: Codes, start_V: npt.NDArray[np.int64], events: list[str]
) -> npt.NDArray[np.int64]:
    """How many bases each event moves to the left.

    Written before the event is what the chromosome has up to `start`. A step is possible while
    the base before equals the one a whole event further right.
    """
    text = encode("".join(events))
    length_V = np.array([len(event) for event in events], np.int64)
    begin_V = np.cumsum(length_V) - length_V
    steps_V = np.zeros(len(events), np.int64)
    going = np.flatnonzero(start_V > 0)
    step = 0
    while going.size:
        start, length = start_V[going], length_V[going]
        before = chromosome[start - 1 - step]
        ahead = length - 1 - step  # within the event; negative: in the chromosome before it
        inside = text[np.maximum(begin_V[going] + ahead, 0)]
        later = np.where(ahead >= 0, inside, chromosome[start + np.minimum(ahead, -1)])
        going = going[before == later]
        step += 1
        steps_V[going] = step
        going = going[start_V[going] > step]
    return steps_V
