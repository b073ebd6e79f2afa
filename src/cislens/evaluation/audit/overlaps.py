"""Which intervals of two sets overlap and by how much, for hundreds of thousands at once.

Chromosomes are laid end to end on one axis, far enough apart that nothing reaches over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.evaluation.audit.table import Places
from cislens.genome.intervals import Spans
from cislens.genome.minimizers import Ints

NEAR_BP = 1000
_PAIRS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Axis:
    """Intervals [start, end) on the axis of all chromosomes."""

    start: Ints
    end: Ints

    @classmethod
    def of(cls, places: Places) -> "Axis":
        chrom = np.unique(places.chrom, return_inverse=True)[1]
        offset = chrom * (int(places.end.max(initial=0)) + 4 * NEAR_BP) + 2 * NEAR_BP
        return cls(places.start + offset, places.end + offset)

    def take(self, rows: Ints) -> "Axis":
        return Axis(self.start[rows], self.end[rows])

    def near(self, known: "Axis", reach: int = 0) -> npt.NDArray[np.bool_]:
        """Whether each interval, widened by `reach` bp on both sides, meets a known one."""
        union = Spans.of(pl.DataFrame({"start": known.start, "end": known.end}))
        return union.overlap(self.start - reach, self.end + reach)


@dataclass(frozen=True)
class Largest:
    """For each interval its overlap in bp with the known interval that it shares most with.

    `known` is the number of that interval (the first of equals), -1 where there is none.
    """

    known: Ints
    overlap: Ints


def largest_overlap(queries: Axis, known: Axis) -> Largest:
    """The known interval with the largest overlap, for each query."""
    best = np.full(len(queries.start), -1, np.int64)
    overlap = np.zeros(len(queries.start), np.int64)
    for rows, partners in overlapping_pairs(queries, known):
        shared = np.minimum(queries.end[rows], known.end[partners]) - np.maximum(
            queries.start[rows], known.start[partners]
        )
        order = np.lexsort((partners, -shared, rows))
        rows, partners, shared = rows[order], partners[order], shared[order]
        first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
        rows, partners, shared = rows[first], partners[first], shared[first]
        better = (shared > overlap[rows]) | (
            (shared == overlap[rows]) & (shared > 0) & (partners < best[rows])
        )
        best[rows[better]] = partners[better]
        overlap[rows[better]] = shared[better]
    return Largest(best, overlap)


def overlapping_pairs(queries: Axis, known: Axis) -> Iterator[tuple[Ints, Ints]]:
    """Numbers of all pairs (query, known) that share a base, in pieces of bounded size.

    Known intervals are searched by octaves of length, so that one long interval does not make
    every query look far back.
    """
    size = known.end - known.start
    octave = np.floor(np.log2(np.maximum(size, 1))).astype(np.int64)
    for level in np.unique(octave).tolist():
        members = np.flatnonzero(octave == level)
        members = members[np.argsort(known.start[members], kind="stable")]
        start = known.start[members]
        low = np.searchsorted(start, queries.start - int(size[members].max()), side="right")
        count = np.searchsorted(start, queries.end, side="left") - low
        cuts = np.searchsorted(
            np.cumsum(count), np.arange(_PAIRS_AT_ONCE, count.sum() + 1, _PAIRS_AT_ONCE)
        )
        for rows in np.split(np.arange(len(count)), np.unique(cuts)):
            many = count[rows]
            row = np.repeat(rows, many)
            step = np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many)
            partner = members[np.repeat(low[rows], many) + step]
            shares = known.end[partner] > queries.start[row]
            if shares.any():
                yield row[shares], partner[shares]


def alone(axis: Axis) -> npt.NDArray[np.bool_]:
    """Which intervals share no base with any other."""
    order = np.argsort(axis.start, kind="stable")
    start, end = axis.start[order], axis.end[order]
    reach = np.maximum.accumulate(end)
    touched = np.zeros(len(start), bool)
    touched[1:] = start[1:] < reach[:-1]
    touched[:-1] |= start[1:] < end[:-1]
    found = np.empty(len(start), bool)
    found[order] = ~touched
    return found


def chained(axis: Axis) -> Ints:
    """Pairs (m, 2) that join overlapping intervals, each with one before it on the axis."""
    order = np.argsort(axis.start, kind="stable")
    start, end = axis.start[order], axis.end[order]
    # The interval before that reaches furthest: where any overlaps, this one does.
    furthest = np.maximum.accumulate(end)
    record = np.append(True, end[1:] > furthest[:-1])[: len(end)]
    holder = np.maximum.accumulate(np.where(record, np.arange(len(end)), 0))
    later = np.flatnonzero(np.append(False, start[1:] < furthest[:-1])[: len(start)])
    return np.stack([order[holder[later - 1]], order[later]], 1).astype(np.int64)
