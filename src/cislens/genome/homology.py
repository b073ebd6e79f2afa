"""Which sequences of a set are homologous.

Sequences that share a minimizer on either strand are candidates; an ungapped extension around the
shared k-mer drops most chance hits, and a banded Smith-Waterman alignment decides. The score an
alignment must reach comes from the same search among dinucleotide-shuffled copies, so that less
than one false pair is expected over all candidates.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cislens.genome.alignment import Flanks, Pairs, align, local_scores
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.minimizers import BASES_AT_ONCE, Ints, Seeds, lay, minimizers
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator

logger = logging.getLogger("cislens")

# Sequences longer than this are searched in pieces.
_LONGEST, _PIECE = 2000, 1000
_SHORT = 500
_LEAST_SCORE = 30
_LEAST_EXTENSION = 7
_MOST_POSTINGS, _REPRESENTATIVES = 200, 8
_PARTNERS = 4
_NULL_SEQUENCES = 2000
_CANDIDATES_AT_ONCE, _HITS_AT_ONCE, _ALIGNMENTS_AT_ONCE = 1 << 18, 1 << 22, 1 << 15


@dataclass(frozen=True)
class Homology:
    """Homologous pairs of a set of n sequences.

    Attributes:
        pairs: numbers of the two sequences, the smaller first, in order (m, 2). Each sequence is
            there with its likeliest partners; of large families not all pairs are, but enough
            to join them.
        identity: matches over columns of the alignment (m,).
        coverage: columns of the alignment over the shorter length, at most 1 (m,).
        cluster: number of the connected component of each sequence (n,), in order of first use.
        threshold: the alignment score a pair had to reach.
    """

    pairs: Ints
    identity: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    cluster: Ints
    threshold: float


def homology_pairs(sequences: Sequence[Codes], seed: int = 0) -> Homology:
    """Find the homologous pairs of sequences, on either strand.

    Sequences equal up to strand are pairs at any length; others need an alignment score of at
    least 30 (match +1, mismatch -1, gap -2). Runs and repeats of up to three bases are no seeds.
    """
    n = len(sequences)
    first = _first_of_equal(sequences)
    is_copy = first != np.arange(n)
    unique, copies = np.flatnonzero(~is_copy), np.flatnonzero(is_copy)
    found = _search([sequences[row] for row in unique.tolist()], None, seed)
    pairs = np.concatenate([unique[found.pairs], np.stack([first[copies], copies], 1)])
    order = np.lexsort(pairs.T[::-1])
    ones = np.ones(len(copies))
    return Homology(
        pairs[order],
        np.concatenate([found.identity, ones])[order],
        np.concatenate([found.coverage, ones])[order],
        components(n, pairs),
        found.threshold,
    )


def leaking(test: Sequence[Codes], train: Sequence[Codes], seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which test sequences (n,) have a homolog among the train sequences, on either strand."""
    sequences = [*test, *train]
    in_train = np.arange(len(sequences)) >= len(test)
    first = _first_of_equal(sequences)
    equal = np.isin(first, first[in_train])
    _kinds, unique, kind = np.unique(first * 2 + in_train, return_index=True, return_inverse=True)
    found = _search([sequences[row] for row in unique.tolist()], in_train[unique], seed)
    near = np.zeros(len(unique), bool)
    near[found.pairs.ravel()] = True
    return (near[kind] | equal)[: len(test)]


def components(n: int, *pairs: Ints) -> Ints:
    """Number of the connected component of each of n things, given pairs (m, 2) of them."""
    edges = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _first_of_equal(sequences: Sequence[Codes]) -> Ints:
    """For each sequence, the number of the first one that equals it up to strand."""
    seen: dict[bytes, int] = {}
    first = np.empty(len(sequences), np.int64)
    for row, sequence in enumerate(sequences):
        key = min(sequence.tobytes(), reverse_complement(sequence).tobytes())
        first[row] = seen.setdefault(key, row)
    return first


@dataclass(frozen=True)
class _Found:
    pairs: Ints
    identity: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    threshold: float


@dataclass(frozen=True)
class _Hits:
    """Pairs worth aligning, each once on its best diagonal, the best extended seeds first."""

    pairs: Pairs
    candidates: int  # seeds shared by two sequences, before any filter


class _Pieces:
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
        self.laid, self.starts = lay(self.sequences)
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


def _search(sequences: Sequence[Codes], side: npt.NDArray[np.bool_] | None, seed: int) -> _Found:
    """Homologous pairs; with `side`, only those with one sequence of either side."""
    pieces = _Pieces(sequences, side)
    hits = _hits(pieces)
    threshold = _threshold(sequences, hits.candidates, seed)
    edges = _edges(pieces, hits.pairs, len(sequences), threshold)
    alignments = align(pieces.laid, pieces.starts, pieces.lengths, edges)
    logger.info(
        "homology: %d candidates, %d hits, %d pairs with a score of %.1f or more",
        hits.candidates, len(hits.pairs), len(edges), threshold,
    )  # fmt: skip
    ends = np.sort(np.stack([pieces.parent[edges.a], pieces.parent[edges.b]], 1), axis=1)
    pairs, part = np.unique(ends, axis=0, return_inverse=True)
    columns = np.bincount(part, alignments.columns, len(pairs))
    matches = np.bincount(part, alignments.columns * alignments.identity, len(pairs))
    lengths = np.array([len(sequence) for sequence in sequences])
    shorter = lengths[pairs].min(1) if len(pairs) else np.ones(0)
    return _Found(
        pairs, matches / np.maximum(columns, 1), np.minimum(columns / shorter, 1.0), threshold
    )


def _edges(pieces: _Pieces, hits: Pairs, n: int, threshold: float) -> Pairs:
    """Hits that reach the threshold: of each piece with its likeliest partners, and beyond these
    enough to join whatever the hits join."""
    likely = (_rank(hits.a) < _PARTNERS) | (_rank(hits.b) < _PARTNERS)
    rows, pending = np.flatnonzero(likely), np.flatnonzero(~likely)
    found = np.empty(0, np.int64)
    while len(rows):
        score = local_scores(pieces.laid, pieces.starts, pieces.lengths, hits.take(rows))
        found = np.concatenate([found, rows[score >= threshold]])
        joined = np.stack([pieces.parent[hits.a[found]], pieces.parent[hits.b[found]]], 1)
        cluster = components(n, joined)
        apart = cluster[pieces.parent[hits.a[pending]]] != cluster[pieces.parent[hits.b[pending]]]
        rows, pending = np.split(pending[apart], [_ALIGNMENTS_AT_ONCE])
    return hits.take(found)


def _rank(group: Ints) -> Ints:
    """How many earlier entries belong to the same group."""
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(np.append(True, np.diff(group[order]) != 0)[: len(group)])
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(begin, np.diff(np.append(begin, len(group))))
    return rank


def _threshold(sequences: Sequence[Codes], candidates: int, seed: int) -> float:
    """The score that chance is expected to reach less than once among the candidates.

    Scores of chance alignments have an exponential tail (Karlin and Altschul, PNAS 87, 1990), the
    upper tail of a Gumbel distribution; it is fitted to the best tenth among shuffled copies.
    """
    rng = generator(seed, "homology")
    if not sequences or not candidates:
        return _LEAST_SCORE
    chosen = rng.permutation(len(sequences))[:_NULL_SEQUENCES]
    repeats = -(-min(_NULL_SEQUENCES, 50 * len(chosen)) // len(chosen))
    copies = [dinucleotide_shuffle(sequences[row], rng) for _ in range(repeats) for row in chosen]
    pieces = _Pieces(copies, None)
    null = _hits(pieces)
    score = np.sort(local_scores(pieces.laid, pieces.starts, pieces.lengths, null.pairs))
    tail = score[-max(len(score) // 10, 1) :]
    if len(tail) < 10:
        return _LEAST_SCORE
    scale = float(tail.mean() - tail[0]) + 0.5  # scores are whole numbers
    expected = len(tail) * candidates / null.candidates
    return max(float(_LEAST_SCORE), float(tail[0]) + scale * float(np.log(max(expected, 1.0))))


def _hits(pieces: _Pieces) -> _Hits:
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

    def __init__(self, pieces: _Pieces, seeds: Seeds, piece: Ints) -> None:
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
        rows = rows[:, np.lexsort((rows[3], rows[2], -rows[4], rows[1], rows[0]))]
        fresh = np.ones(rows.shape[1], bool)
        fresh[1:] = (rows[:2, 1:] != rows[:2, :-1]).any(0)
        self.kept = [rows[:, fresh]]
        self.held = 0

    def finish(self) -> _Hits:
        self.compact()
        rows = self.kept[0]
        a, b, opposite, diagonal, _score = rows[:, np.argsort(-rows[4], kind="stable")]
        return _Hits(Pairs(a, b, opposite.astype(bool), diagonal), self.candidates)
