"""Pairs of sequences that share a k-mer and more around it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cislens.genome.alignment import Flanks, Pairs
from cislens.genome.codes import Codes
from cislens.genome.minimizers import BASES_AT_ONCE, Ints, Seeds, lay, minimizers, without_runs

logger = logging.getLogger("cislens")

# Sequences longer than this are searched in pieces.
_LONGEST, _PIECE = 2000, 1000
_SHORT = 500
_LEAST_EXTENSION = 7
_MOST_POSTINGS, _REPRESENTATIVES = 200, 8
_CANDIDATES_AT_ONCE, _HITS_AT_ONCE = 1 << 18, 1 << 22


@dataclass(frozen=True)
class Hits:
    """Pairs worth aligning, each once on its best diagonal, the best extended seeds first."""

    pairs: Pairs
    candidates: int  # seeds shared by two sequences, before any filter


class Pieces:
    """Sequences cut to searchable length and laid end to end."""

    def __init__(self, sequences: Sequence[Codes], side: npt.NDArray[np.bool_] | None) -> None:
        self.sequences: list[Codes] = []
        parent: list[int] = []
        for number, sequence in enumerate(sequences):
            step = _PIECE if len(sequence) > _LONGEST else max(len(sequence), 1)
            for begin in range(0, len(sequence), step):
                self.sequences.append(sequence[begin : begin + step])
                parent.append(number)
        self.parent = np.array(parent, np.int64)
        self.side = None if side is None else side[self.parent]
        laid, self.starts = lay(self.sequences)
        self.laid = without_runs(laid)
        self.lengths = np.array([len(piece) for piece in self.sequences], np.int64)
        short = int(self.lengths.max(initial=0)) <= _SHORT
        self.k, self.w = (11, 4) if short else (15, 5)

    def seeds(self) -> Seeds:
        """Minimizers of all pieces, taken from a bounded number of bases at once."""
        parts: list[Seeds] = []
        cuts = np.searchsorted(self.starts, np.arange(0, self.laid.size, BASES_AT_ONCE))
        borders = [
            *np.append(self.starts, self.laid.size)[np.unique(cuts)].tolist(),
            self.laid.size,
        ]
        for begin, end in pairwise(borders):
            part = minimizers(self.laid[begin:end], self.k, self.w)
            parts.append(Seeds(part.hashes, part.places + begin, part.forward, part.k))
        if not parts:
            return minimizers(self.laid, self.k, self.w)
        return Seeds(
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.forward for part in parts]),
            self.k,
        )


def find_hits(pieces: Pieces) -> Hits:
    seeds = pieces.seeds()
    piece = np.searchsorted(pieces.starts, seeds.places, side="right") - 1
    # The train side comes first, to represent large groups.
    side = np.zeros(len(piece), bool) if pieces.side is None else ~pieces.side[piece]
    order = np.lexsort((piece, side, seeds.hashes))
    collector = _Collector(pieces, seeds, piece)
    for left, right in _neighbors(seeds.hashes[order]):
        for first in range(0, len(left), _CANDIDATES_AT_ONCE):
            part = slice(first, first + _CANDIDATES_AT_ONCE)
            collector.add(order[left[part]], order[right[part]])
    return collector.finish()


def _neighbors(hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[Ints, Ints]]:
    """Places of equal hashes in sorted order, in pairs; large groups only against their first."""
    begin = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)])
    size = np.diff(np.append(begin, len(hashes)))
    begin_of, end_of = np.repeat(begin, size), np.repeat(begin + size, size)
    large = np.repeat(size > _MOST_POSTINGS, size)
    if large.any():
        logger.info(
            "homology: %d k-mers occur too often to compare all", (size > _MOST_POSTINGS).sum()
        )
    left = np.flatnonzero(~large)
    for reach in range(1, _MOST_POSTINGS):
        left = left[left + reach < end_of[left]]
        if not len(left):
            break
        yield left, left + reach
    right = np.flatnonzero(large)
    for representative in range(_REPRESENTATIVES):
        right = right[right > begin_of[right] + representative]
        yield begin_of[right] + representative, right


class _Collector:
    """Keeps, of all candidates, the best diagonal of each pair that extends beyond its seed."""

    def __init__(self, pieces: Pieces, seeds: Seeds, piece: Ints) -> None:
        self.pieces, self.seeds, self.piece = pieces, seeds, piece
        self.flanks = Flanks(pieces.laid)
        self.candidates = 0
        self.kept: list[npt.NDArray[np.int64]] = []
        self.held = 0

    def add(self, left: Ints, right: Ints) -> None:
        """Judge candidates, given as numbers of seeds."""
        a, b = self.piece[left], self.piece[right]
        parent, side = self.pieces.parent, self.pieces.side
        wanted = parent[a] != parent[b] if side is None else side[a] != side[b]
        left, right = left[wanted], right[wanted]
        self.candidates += len(left)
        swap = self.piece[left] > self.piece[right]
        left, right = np.where(swap, right, left), np.where(swap, left, right)
        opposite = self.seeds.forward[left] != self.seeds.forward[right]
        places, k = self.seeds.places, self.seeds.k
        score = self.flanks.seed_scores(places[left], places[right], opposite, k)
        good = score >= k + _LEAST_EXTENSION
        left, right, opposite, score = left[good], right[good], opposite[good], score[good]
        a, b = self.piece[left], self.piece[right]
        at_a, at_b = places[left] - self.pieces.starts[a], places[right] - self.pieces.starts[b]
        at_b = np.where(opposite, self.pieces.lengths[b] - k - at_b, at_b)
        self.kept.append(np.stack([a, b, opposite, at_a - at_b, score]))
        self.held += len(a)
        if self.held > _HITS_AT_ONCE:
            self.compact()

    def compact(self) -> None:
        """Keep one hit of each pair, that of the best score."""
        rows = np.concatenate([np.empty((5, 0), np.int64), *self.kept], axis=1)
        # By pair, the best score first: one sort of one number is five times as fast as lexsort.
        key = ((rows[0] * len(self.pieces.lengths) + rows[1]) << 8) | (127 - rows[4])
        rows = rows[:, np.argsort(key, kind="stable")]
        fresh = np.ones(rows.shape[1], bool)
        fresh[1:] = (rows[:2, 1:] != rows[:2, :-1]).any(0)
        self.kept = [rows[:, fresh]]
        self.held = 0

    def finish(self) -> Hits:
        self.compact()
        rows = self.kept[0]
        a, b, opposite, diagonal, _score = rows[:, np.argsort(-rows[4], kind="stable")]
        return Hits(Pairs(a, b, opposite.astype(bool), diagonal), self.candidates)
