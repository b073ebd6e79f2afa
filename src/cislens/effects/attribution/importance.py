"""What motifs do to a score wherever they lie: global importance analysis.

Dimensions: K background, L base, W base of a motif.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from cislens.effects.mutagenesis import Predict, column
from cislens.errors import CislensError
from cislens.genome.codes import Codes, N, gc_content
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.progress import track as progress
from cislens.randomness import generator

BACKGROUNDS = 300
# A mean difference in GC beyond this is said: composition could then be what has the effect.
_UNMATCHED = 0.02

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Importance:
    """What a motif does to a score, on average over backgrounds.

    Attributes:
        motif: its name.
        effect: mean change of the score when the motif is put into a background.
        low, high: 95 % interval of the effect over backgrounds (Student's t).
        sham: as the effect, for the motif's bases in another order.
        p_value: two-sided Mann-Whitney test of both sets of changes.
        backgrounds: how many.
    """

    motif: str
    effect: float
    low: float
    high: float
    sham: float
    p_value: float
    backgrounds: int


def global_importance(
    predict: Predict,
    motifs: Mapping[str, npt.ArrayLike],
    background_KL: Codes,
    *,
    seed: int,
    output: int = 0,
) -> tuple[Importance, ...]:
    """The effect of each motif in given backgrounds (Koo et al. 2021, PLoS Comput Biol
    17:e1008925), beside that of a sham: its own bases, shuffled.

    The motif replaces the bases at the center. Each background gets its own sham, and of a motif
    of probabilities its own word.

    Args:
        predict: a function of sequences, (n,) or (n, T), of which `output` counts.
        motifs: by name, codes (W,) or probabilities (W, 4) of A, C, G, T.
        background_KL: see `shuffled_backgrounds` and `matched_backgrounds`.

    Raises:
        CislensError: if a motif is longer than the backgrounds, or all orders of it are equal, or
            there are fewer than two backgrounds.
    """
    if len(background_KL) < 2:
        raise CislensError(f"an interval takes two backgrounds or more, got {len(background_KL)}.")
    drawn = {
        name: _words(name, np.asarray(motif), background_KL.shape, seed)
        for name, motif in motifs.items()
    }
    before_K = column(predict, background_KL, output)
    found = []
    for name, words_KW in progress(drawn.items(), "motifs", len(drawn)):
        rng = generator(seed, "sham", name)
        sham_KW = np.stack([_other_order(word, rng) for word in words_KW])
        change_K, sham_K = (
            column(predict, _planted(background_KL, each_KW), output) - before_K
            for each_KW in (words_KW, sham_KW)
        )
        low, high = _interval(change_K)
        p_value = float(stats.mannwhitneyu(change_K, sham_K).pvalue)
        effect, sham = float(change_K.mean()), float(sham_K.mean())
        found.append(Importance(name, effect, low, high, sham, p_value, len(change_K)))
    return tuple(found)


def shuffled_backgrounds(
    sequences: Sequence[Codes], *, seed: int, count: int = BACKGROUNDS
) -> Codes:
    """Backgrounds (K, L): the sequences, of one length, in turn, their dinucleotides shuffled."""
    chosen_KL = np.stack([sequences[i % len(sequences)] for i in range(count)])
    return dinucleotide_shuffle(chosen_KL, generator(seed, "global_importance"))


def matched_backgrounds(
    sequences: Sequence[Codes],
    pool: Sequence[Codes],
    *,
    seed: int,
    count: int = BACKGROUNDS,
) -> Codes:
    """Backgrounds (K, L) from other sequences, each of the GC content of a sequence in turn.

    For each, in random order, the sequence of the pool that is nearest in GC and not yet taken;
    of equally near ones a random one. Those with N are left out. The log says so where the GC
    contents are off by more than 0.02 on average.

    Raises:
        CislensError: if the pool has fewer than `count` sequences without N.
    """
    called = [codes for codes in pool if not (codes == N).any()]
    if len(called) < count:
        raise CislensError(
            f"{count} backgrounds were asked for, and of {len(pool)} regions to take them from "
            f"{len(called)} have no N; give more regions, or ask for fewer backgrounds."
        )
    rng = generator(seed, "matched_backgrounds")
    pool_gc = np.array([float(gc_content(codes)) for codes in called])
    wanted = np.array([float(gc_content(sequences[i % len(sequences)])) for i in range(count)])
    free = rng.permutation(len(called))  # of equally near ones the first is taken
    chosen = np.empty(count, np.int64)
    for place in rng.permutation(count):
        nearest = int(np.abs(pool_gc[free] - wanted[place]).argmin())
        chosen[place] = free[nearest]
        free = np.delete(free, nearest)
    off = float(np.abs(pool_gc[chosen] - wanted).mean())
    if off > _UNMATCHED:
        logger.warning("backgrounds differ in GC by %.3f on average; the pool has no nearer", off)
    return np.stack([called[row] for row in chosen])


def _words(name: str, motif: npt.NDArray[np.generic], shape: tuple[int, ...], seed: int) -> Codes:
    """The motif's words (K, W), one for each background."""
    backgrounds, length = shape
    if len(motif) > length:
        raise CislensError(f"motif {name!r} of {len(motif)} bp does not fit {length} bp sequences.")
    if motif.ndim == 1:
        words_KW: Codes = np.tile(motif.astype(np.uint8), (backgrounds, 1))
    else:
        below_W4 = motif.astype(np.float64).cumsum(1)
        draw_KW1 = generator(seed, "words", name).random((backgrounds, len(motif), 1))
        words_KW = (below_W4 <= draw_KW1 * below_W4[:, 3:]).sum(2).astype(np.uint8)
    if (words_KW == words_KW[:, :1]).all():
        raise CislensError(
            f"motif {name!r} is one base repeated and has no sham; every order is the same."
        )
    return words_KW


def _planted(background_KL: Codes, words_KW: Codes) -> Codes:
    planted = background_KL.copy()
    first = (planted.shape[1] - words_KW.shape[1]) // 2
    planted[:, first : first + words_KW.shape[1]] = words_KW
    return planted


def _other_order(word: Codes, rng: np.random.Generator) -> Codes:
    """The same bases in another order; the word itself where there is no other."""
    while True:
        shuffled: Codes = rng.permutation(word)
        if not np.array_equal(shuffled, word) or (word == word[0]).all():
            return shuffled


def _interval(change_K: npt.NDArray[np.float64]) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(change_K) - 1) * change_K.std(ddof=1) / np.sqrt(len(change_K))
    return float(change_K.mean() - half), float(change_K.mean() + half)
