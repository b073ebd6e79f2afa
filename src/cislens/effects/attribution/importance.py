"""What a motif does to a score wherever it lies: global importance analysis.

Dimensions: L base, W base of a motif.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cislens.effects.attribution.maps import Predict, column
from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator

BACKGROUNDS = 300


@dataclass(frozen=True)
class Importance:
    """What a motif does to a score, on average over backgrounds.

    Attributes:
        effect: mean change of the score when the motif is put into a background.
        sham: the same for the motif's bases in another order.
        p_value: two-sided Mann-Whitney test of both sets of changes.
    """

    effect: float
    sham: float
    p_value: float


def global_importance(
    predict: Predict,
    motif: Codes,
    sequences: Sequence[Codes],
    *,
    seed: int,
    backgrounds: int = BACKGROUNDS,
    output: int = 0,
) -> Importance:
    """The effect of a motif on dinucleotide-shuffled backgrounds (Koo et al. 2021, PLoS Comput
    Biol 17:e1008925), beside that of a sham: its own bases, shuffled.

    The motif replaces the bases at the center. Each background gets its own sham.

    Args:
        motif: codes (W,).
        sequences: of one length, shuffled in turn to make the backgrounds.

    Raises:
        CislensError: if the motif is longer than the sequences, or all orders of it are equal.
    """
    length = len(sequences[0])
    if len(motif) > length:
        raise CislensError(f"a motif of {len(motif)} bp does not fit {length} bp sequences.")
    if len(np.unique(motif)) < 2:
        raise CislensError("a motif of one base repeated has no sham; every order is the same.")
    rng = generator(seed, "global_importance")
    chosen = np.stack([sequences[i % len(sequences)] for i in range(backgrounds)])
    plain = dinucleotide_shuffle(chosen, rng)
    place = slice((length - len(motif)) // 2, (length - len(motif)) // 2 + len(motif))
    planted, sham = plain.copy(), plain.copy()
    planted[:, place] = motif
    for row in sham:
        row[place] = _other_order(motif, rng)
    before = column(predict, plain, output)
    change, sham_change = (column(predict, x, output) - before for x in (planted, sham))
    test = stats.mannwhitneyu(change, sham_change)
    return Importance(float(change.mean()), float(sham_change.mean()), float(test.pvalue))


def _other_order(motif: Codes, rng: np.random.Generator) -> Codes:
    while True:
        shuffled: Codes = rng.permutation(motif)
        if not np.array_equal(shuffled, motif):
            return shuffled
