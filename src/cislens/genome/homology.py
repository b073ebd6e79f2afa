"""Which sequences of a set are homologous.

Sequences that share a minimizer on either strand are candidates; an ungapped extension around the
shared k-mer drops most chance hits, and a banded Smith-Waterman alignment decides. The score an
alignment must reach comes from the same search among dinucleotide-shuffled copies, so that less
than one false pair is expected over all candidates.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cislens.genome.alignment import Pairs, align, local_scores
from cislens.genome.candidates import Pieces, find_hits
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.minimizers import Ints
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator

logger = logging.getLogger("cislens")

_LEAST_SCORE = 30
_PARTNERS = 4
# How much is shuffled to see what chance gives.
_NULL_BASES, _NULL_REPEATS = 400_000, 50
_ALIGNMENTS_AT_ONCE = 1 << 15


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
    least 30 (match +1, mismatch -1, gap -2). Runs of 20 or more bases that repeat up to three
    bases count as N.
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


def _search(sequences: Sequence[Codes], side: npt.NDArray[np.bool_] | None, seed: int) -> _Found:
    """Homologous pairs; with `side`, only those with one sequence of either side."""
    pieces = Pieces(sequences, side)
    hits = find_hits(pieces)
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


def _edges(pieces: Pieces, hits: Pairs, n: int, threshold: float) -> Pairs:
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
    lengths = np.array([len(sequence) for sequence in sequences])
    chosen = rng.permutation(len(sequences))
    chosen = chosen[: max(int((lengths[chosen].cumsum() <= _NULL_BASES).sum()), 1)]
    repeats = min(max(_NULL_BASES // max(int(lengths[chosen].sum()), 1), 1), _NULL_REPEATS)
    copies: list[Codes] = []
    for length in np.unique(lengths[chosen]).tolist():
        alike = [sequences[row] for row in chosen.tolist() if lengths[row] == length]
        copies += list(dinucleotide_shuffle(np.stack(alike * repeats), rng))
    pieces = Pieces(copies, None)
    null = find_hits(pieces)
    score = np.sort(local_scores(pieces.laid, pieces.starts, pieces.lengths, null.pairs))
    tail = score[-max(len(score) // 10, 1) :]
    if len(tail) < 10:
        return _LEAST_SCORE
    scale = float(tail.mean() - tail[0]) + 0.5  # scores are whole numbers
    expected = len(tail) * candidates / null.candidates
    return max(float(_LEAST_SCORE), float(tail[0]) + scale * float(np.log(max(expected, 1.0))))
