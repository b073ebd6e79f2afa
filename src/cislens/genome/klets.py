"""Shuffles that keep the counts of every k-let of a sequence exactly."""

from itertools import pairwise

import numpy as np

from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.genome.shuffling import dinucleotide_shuffle

_SYMBOLS = 5


def klet_shuffle(codes: Codes, k: int, rng: np.random.Generator) -> Codes:
    """A random sequence (L,) with the same counts of all k-lets; N counts as a fifth base.

    For k of 2 or more the first and last k - 1 bases stay, and every such sequence is equally
    likely: a k-let is an edge between its first and its last k - 1 bases, a sequence is a path
    over all edges, and the last exits from the nodes form a random tree towards the last node
    (Altschul and Erickson, Mol Biol Evol 2, 1985, 526-538), drawn by loop-erased walks (Wilson,
    STOC 1996).

    Raises:
        CislensError: if k is not 1, 2 or 3.
    """
    if k not in (1, 2, 3):
        raise CislensError(f"a shuffle keeps k-lets of 1, 2 or 3 bases, not {k}.")
    if k == 1:
        return rng.permutation(codes)
    if k == 2:
        return dinucleotide_shuffle(codes, rng)
    if len(codes) <= k:
        return codes.copy()
    nodes = (codes[:-1].astype(np.int64) * _SYMBOLS + codes[1:]).tolist()
    exits: dict[int, list[int]] = {}
    for here, there in pairwise(nodes):
        exits.setdefault(here, []).append(there)
    last = nodes[-1]
    for node, final in _tree(exits, last, rng).items():
        others = exits[node]
        others.remove(final)
        order = rng.permutation(len(others))
        exits[node] = [*(others[i] for i in order), final]
    if last in exits:
        exits[last] = [exits[last][i] for i in rng.permutation(len(exits[last]))]
    return _walk(nodes[0], exits, len(codes))


def _tree(exits: dict[int, list[int]], last: int, rng: np.random.Generator) -> dict[int, int]:
    """For each node but the last one the exit that is taken last: a tree towards `last`, drawn
    with a chance that is the product of its edges' counts."""
    chosen: dict[int, int] = {}
    inside = {last}
    for start in exits:
        node = start
        while node not in inside:  # a walk; a node passed again forgets its loop
            chosen[node] = exits[node][int(rng.integers(len(exits[node])))]
            node = chosen[node]
        node = start
        while node not in inside:
            inside.add(node)
            node = chosen[node]
    return chosen


def _walk(first: int, exits: dict[int, list[int]], length: int) -> Codes:
    taken = dict.fromkeys(exits, 0)
    node, path = first, [first // _SYMBOLS, first % _SYMBOLS]
    while len(path) < length:
        following = exits[node][taken[node]]
        taken[node] += 1
        node = following
        path.append(node % _SYMBOLS)
    return np.array(path, np.uint8)
