"""The signals of both alleles of many variants, each distinct reference window read once.

Dimensions: n variant, B window, M variant of one pass, W base pair of a window with margin,
N compared bin.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.effects.variants.tracks import Reader, Shared, Signals
from cislens.effects.variants.windows import (
    DELETED,
    LEFT,
    Alleles,
    Ints,
    left_in_place,
    right_in_place,
    sources,
)
from cislens.genome.codes import Codes, N
from cislens.genome.reference import Genome


@dataclass(frozen=True)
class Group:
    """Variants of a few windows, read together.

    Attributes:
        rows: of the variants, by window.
        window: for each of them, which of the windows is its own.
        chroms, starts: of the windows.
    """

    rows: Ints
    window: Ints
    chroms: npt.NDArray[np.object_]
    starts: Ints


@dataclass(frozen=True)
class Pairs:
    """Signals of both alleles, bins aligned, of the variants at some rows."""

    rows: Ints
    reference: Signals
    alternate: Signals


def groups(alleles: Alleles, start_n: Ints, genome: Genome, windows: int) -> list[Group]:
    """Variants in genome order by windows, `windows` distinct ones a group."""
    rank = {chrom: index for index, chrom in enumerate(genome.chrom_sizes)}
    chrom_n = np.array([rank[chrom] for chrom in alleles.chroms], np.int64)
    order = np.lexsort((alleles.first_n, start_n, chrom_n))
    new = np.diff(chrom_n[order], prepend=-1) != 0
    new |= np.diff(start_n[order], prepend=start_n[order[:1]]) != 0
    number = np.cumsum(new) - 1
    firsts = order[new]
    found = []
    for begin in range(0, len(firsts), windows):
        first, last = np.searchsorted(number, (begin, begin + windows))
        kept = firsts[begin : begin + windows]
        rows, window = order[first:last], number[first:last] - begin
        found.append(Group(rows, window, alleles.chroms[kept], start_n[kept]))
    return found


def read_pairs(
    reader: Reader, genome: Genome, alleles: Alleles, group: Group, batch_size: int
) -> Iterator[Pairs]:
    """Both alleles' signals, at most `batch_size` variants at a time, of every variant once."""
    margin, layout = reader.averaging.margin, reader.layout
    width = layout.length + 2 * margin
    codes_BW = genome.windows(group.chroms.tolist(), group.starts - margin, width)
    single = _substituted(alleles, group, codes_BW, margin)
    shared = reader.shared(codes_BW) if single.any() else None
    if shared is None:
        single[:] = False
    reference = reader.whole(codes_BW) if shared is None else shared.reference
    for places in _batches(np.flatnonzero(single), batch_size):
        assert shared is not None
        rows, window = group.rows[places], group.window[places]
        yield Pairs(
            rows, reference.rows(window), _shared(shared, alleles, rows, window, group.starts)
        )
    for places in _batches(np.flatnonzero(~single), batch_size):
        rows, window = group.rows[places], group.window[places]
        held = reference.rows(window)
        whole = _whole(reader, genome, alleles, rows, group.starts[window], codes_BW[window], held)
        yield Pairs(rows, held, whole)


def _batches(places: Ints, size: int) -> list[Ints]:
    """As equal as can be, so that no pass is nearly empty."""
    return np.array_split(places, -(-len(places) // size)) if len(places) else []


def _substituted(
    alleles: Alleles, group: Group, codes_BW: Codes, margin: int
) -> npt.NDArray[np.bool_]:
    """Which variants of a group replace one called base by another."""
    rows = group.rows
    alternate = np.array([alleles.alternate[row][0] for row in rows], np.uint8)
    at = alleles.first_n[rows] - group.starts[group.window] + margin
    one = (alleles.n_ref_n[rows] == 1) & (alleles.n_alt_n[rows] == 1) & ~alleles.same_n[rows]
    called = (codes_BW[group.window, at] != N) & (alternate != N)
    single: npt.NDArray[np.bool_] = one & called
    return single


def _shared(shared: Shared, alleles: Alleles, rows: Ints, window: Ints, starts: Ints) -> Signals:
    base = np.array([alleles.alternate[row][0] for row in rows], np.int64)
    return shared.substituted(window, alleles.first_n[rows] - starts[window], base)


def _whole(
    reader: Reader,
    genome: Genome,
    alleles: Alleles,
    rows: Ints,
    starts: Ints,
    codes_MW: Codes,
    reference: Signals,
) -> Signals:
    """The alternates' signals from passes of whole windows, bins aligned with the reference."""
    margin, width = reader.averaging.margin, codes_MW.shape[1]
    left, right, moving = codes_MW.copy(), [], []
    for place, row in enumerate(rows.tolist()):
        where = int(starts[place]) - margin
        if alleles.moving_n[row]:
            left[place] = left_in_place(genome, alleles, row, where, width)
            right.append(right_in_place(genome, alleles, row, where, width))
            moving.append(place)
        elif not alleles.same_n[row]:
            at = int(alleles.first_n[row]) - where
            changed = alleles.alternate[row][: width - at]
            left[place, at : at + len(changed)] = changed
    found = reader.whole(left)
    if moving:
        others = reader.whole(np.stack(right))
        for index, place in enumerate(moving):
            source_N = sources(alleles, int(rows[place]), int(starts[place]), reader.layout)
            stitch(found, place, others, index, reference, source_N)
    for place in np.flatnonzero(alleles.same_n[rows]).tolist():
        found.rates_BNT[place] = reference.rates_BNT[place]
        found.vectors_BND[place] = reference.vectors_BND[place]
    return found


def stitch(
    left: Signals,
    place: int,
    right: Signals,
    index: int,
    reference: Signals,
    source_N: npt.NDArray[np.int8],
) -> None:
    """Put the bins of the right-aligned window into the left-aligned one, in place.

    Bins of which all bases are deleted have no signal, and a vector that is not compared.
    """
    other = (source_N != LEFT) & (source_N != DELETED)
    left.rates_BNT[place, other] = right.rates_BNT[index, other]
    left.vectors_BND[place, other] = right.vectors_BND[index, other]
    gone = source_N == DELETED
    left.rates_BNT[place, gone] = 0
    left.vectors_BND[place, gone] = reference.vectors_BND[place, gone]
