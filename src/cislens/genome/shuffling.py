"""Shuffles that keep a sequence's dinucleotides."""

from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import Codes

_SYMBOLS = 5
# Rows shuffled at once, to bound the memory of the (rows, trees) table.
_CHUNK = 2048


def dinucleotide_shuffle(codes: Codes, rng: np.random.Generator) -> Codes:
    """A random sequence with the same dinucleotide counts and the same first and last base.

    `codes` is (L,) or a batch (n, L), each row shuffled by itself; N counts as a fifth base.
    Every such sequence is equally likely: the last exits of the bases form a random tree towards
    the last base, all other exits are taken in random order (Altschul and Erickson, Mol Biol
    Evol 2, 1985, 526-538).
    """
    if codes.ndim == 1:
        codes = dinucleotide_shuffle(codes[None], rng)
        return codes.reshape(-1)
    shuffled = codes.copy()
    if codes.shape[1] > 3:
        for first in range(0, len(codes), _CHUNK):
            shuffled[first : first + _CHUNK] = _euler_paths(codes[first : first + _CHUNK], rng)
    return shuffled


def _euler_paths(codes: Codes, rng: np.random.Generator) -> Codes:
    rows = np.arange(len(codes))
    source, target = codes[:, :-1].astype(np.int64), codes[:, 1:].astype(np.int64)
    pair = rows[:, None] * _SYMBOLS**2 + source * _SYMBOLS + target
    counts = np.bincount(pair.ravel(), minlength=len(rows) * _SYMBOLS**2)
    counts = counts.reshape(-1, _SYMBOLS, _SYMBOLS)

    order = rng.random(source.shape)
    exits = _last_exits(counts, codes[:, -1], rng)
    for base in range(_SYMBOLS):
        edge = (source == base) & (target == exits[:, base, None])
        chosen = edge.any(1)
        order[rows[chosen], edge[chosen].argmax(1)] = 1.0  # after all others of this base
    by_source = np.take_along_axis(target, np.argsort(source * 2 + order, axis=1), axis=1)

    # Flat places in contiguous memory: the walk below is one step of all rows after another.
    before = np.zeros((len(rows), _SYMBOLS), np.int64)
    before[:, 1:] = counts.sum(2).cumsum(1)[:, :-1]
    following = (before + rows[:, None] * source.shape[1]).ravel()
    exit_to = by_source.astype(codes.dtype).ravel()
    path = np.empty(codes.shape[::-1], codes.dtype)
    path[0] = codes[:, 0]
    own = rows * _SYMBOLS
    for position in range(1, codes.shape[1]):
        here = own + path[position - 1]
        place = following[here]
        following[here] = place + 1
        path[position] = exit_to[place]
    return path.T


def _last_exits(
    counts: npt.NDArray[np.int64], last: Codes, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """For each base the base its last exit leads to (rows, 5); -1 for the last base itself."""
    exits = np.full((len(counts), _SYMBOLS), -1, np.int64)
    for final in np.unique(last).tolist():
        rows = np.flatnonzero(last == final)
        trees = _trees(final)
        weights = counts[rows].astype(np.float64)
        # A base that does not occur may point anywhere, so it points to the end.
        absent = weights.sum(2) == 0
        weights[absent, final] = 1.0
        chance = np.ones((len(rows), len(trees)))
        for base in range(_SYMBOLS):
            if base != final:
                chance *= weights[:, base, trees[:, base]]
        total = chance.cumsum(1)
        drawn = (total < rng.random((len(rows), 1)) * total[:, -1:]).sum(1)
        exits[rows] = trees[drawn]
    return exits


@cache
def _trees(final: int) -> npt.NDArray[np.int64]:
    """Every choice of one exit per base that leads from each base to `final`."""
    trees = []
    for choice in product(range(_SYMBOLS), repeat=_SYMBOLS - 1):
        exits = list(choice)
        exits.insert(final, -1)
        if all(_leads_home(base, exits, final) for base in range(_SYMBOLS)):
            trees.append(exits)
    return np.array(trees, np.int64)


def _leads_home(base: int, exits: list[int], final: int) -> bool:
    for _step in range(_SYMBOLS):
        if base == final:
            return True
        base = exits[base]
    return False
