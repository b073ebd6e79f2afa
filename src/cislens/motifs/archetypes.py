"""Motifs that are alike joined to archetypes, and all of them put in an order of likeness.

Two motifs are compared at the shift and strand where their columns correlate best; columns that
only one of them has count as uniform in the other, so that a short overlap is no likeness.

Dimensions: n motif, W column of a motif.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import cut_tree, leaves_list, linkage
from scipy.spatial.distance import squareform

from cislens.errors import CislensError
from cislens.motifs.sites import Motif

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AUTO = 320  # archetypes that "auto" aims at; published sets have 280 to 700
# Likeness is rounded, so that libraries that add in another order give the same tree.
_DECIMALS = 9


@dataclass(frozen=True)
class Archetype:
    """A row of the matrix: motifs that are alike, for which one of them stands.

    Attributes:
        motif: the member that correlates best with the others on average.
        members: identifiers, in order.
        factors: gene symbols of all members, in order.
        leaf: place of `motif` among all motifs in the order of likeness.
    """

    motif: Motif
    members: tuple[str, ...]
    factors: tuple[str, ...]
    leaf: int


def join_alike(
    motifs: Sequence[Motif], wanted: Literal["auto", "none"] | int
) -> tuple[Archetype, ...]:
    """Cut the tree of the motifs (average linkage of 1 - correlation) to `wanted` archetypes.

    "auto" is 320, or every motif by itself where there are no more; "none" is every motif by
    itself. The archetypes are in the order of the tree's leaves, so that neighbors are alike;
    the order of `motifs` does not matter.

    Raises:
        CislensError: if `wanted` is a number below 1 or above that of the motifs.
    """
    ordered = sorted(motifs, key=lambda motif: motif.id)
    count = _count(wanted, len(ordered))
    if len(ordered) == 1:
        return (_archetype(ordered, np.ones((1, 1)), np.zeros(1, np.int64), [0]),)
    alike = correlation(ordered)
    tree = linkage(squareform(1 - alike, checks=False), "average")
    leaf = np.empty(len(ordered), np.int64)
    leaf[leaves_list(tree)] = np.arange(len(ordered))
    group = cut_tree(tree, n_clusters=count)[:, 0]
    found = [
        _archetype(ordered, alike, leaf, np.flatnonzero(group == label).tolist())
        for label in range(count)
    ]
    return tuple(sorted(found, key=lambda archetype: archetype.leaf))


def correlation(motifs: Sequence[Motif]) -> Floats:
    """The best correlation (n, n) of each two motifs over all shifts and both strands.

    Columns sum to one, so that less 1/4 they are centered and a uniform column is 0: the Pearson
    correlation over the union of the columns is a cosine.
    """
    width = max(len(motif) for motif in motifs)
    columns = np.zeros((len(motifs), width, 4))
    for row, motif in zip(columns, motifs, strict=True):
        row[: len(motif)] = motif.probabilities_W4 - 0.25
    flat = columns.reshape(len(motifs), -1)
    best = np.zeros((len(motifs), len(motifs)))
    for other in (columns, columns[:, ::-1, ::-1]):
        beside = np.zeros((len(motifs), 3 * width, 4))
        beside[:, width : 2 * width] = other
        for shift in range(1, 2 * width):
            shifted = beside[:, shift : shift + width].reshape(len(motifs), -1)
            np.maximum(best, flat @ shifted.T, out=best)
    norm = np.sqrt((flat**2).sum(1))
    best = np.maximum(best, best.T) / np.maximum(np.outer(norm, norm), 1e-12)
    alike = np.asarray(np.round(np.minimum(best, 1), _DECIMALS), np.float64)
    np.fill_diagonal(alike, 1)
    return alike


def _count(wanted: Literal["auto", "none"] | int, motifs: int) -> int:
    if wanted == "none":
        return motifs
    if wanted == "auto":
        return min(AUTO, motifs)
    if not 1 <= wanted <= motifs:
        raise CislensError(
            f"archetypes: {wanted} of {motifs} motifs cannot be; give a number from 1 to "
            f"{motifs}, auto or none."
        )
    return wanted


def _archetype(motifs: Sequence[Motif], alike: Floats, leaf: Ints, members: list[int]) -> Archetype:
    """Of equally central members the first by identifier stands for all."""
    near = np.round(alike[np.ix_(members, members)].mean(1), _DECIMALS)
    medoid = members[int(np.argmax(near))]
    factors = {factor for member in members for factor in motifs[member].factors}
    return Archetype(
        motifs[medoid],
        tuple(motifs[member].id for member in members),
        tuple(sorted(factors)),
        int(leaf[medoid]),
    )
