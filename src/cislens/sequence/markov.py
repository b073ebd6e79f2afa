"""What is told of a base by the two before it: the least that a model of DNA should beat.

Dimensions: B window, L base pair, K the 64 words of three bases.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.genome.codes import Codes, N
from cislens.genome.splits import TRAIN
from cislens.sequence.store import SequenceStore

Counts = npt.NDArray[np.int64]

_WORDS = 64
_PIECE = 1 << 22  # bp counted at a time


def order2_nats(store: SequenceStore, codes_BL: Codes) -> float:
    """Mean nats of a base given the two before it, under the frequencies of the train part.

    The frequencies are of all species together and of both strands. Bases beside an N, and the
    first two of a window, are not judged.

    Raises:
        CislensError: if no base of the windows has two called bases before it.
    """
    words_K = count_words(codes_BL)
    if not words_K.sum():
        raise CislensError(
            "no base of the windows has two called bases before it; take windows with fewer N."
        )
    return float((words_K * nats(train_words(store))).sum() / words_K.sum())


def train_words(store: SequenceStore) -> Counts:
    """How often each word of three bases is in the train part, on either strand (64,)."""
    total_K = np.zeros(_WORDS, np.int64)
    for codes in _train_pieces(store):
        total_K += count_words(codes[None])
    return total_K + total_K[_reversed_words()]


def nats(words_K: Counts) -> npt.NDArray[np.float64]:
    """-ln of the chance of each word's last base given the others (64,), every word counted once
    more than it was."""
    more_K = (words_K + 1.0).reshape(16, 4)
    chance_K: npt.NDArray[np.float64] = more_K / more_K.sum(1, keepdims=True)
    return -np.log(chance_K.ravel())


def count_words(codes_BL: Codes) -> Counts:
    """How often each word of three called bases occurs in windows (64,); A, C, G, T = 0 .. 3."""
    first, second, third = codes_BL[:, :-2], codes_BL[:, 1:-1], codes_BL[:, 2:]
    word_BL = (first << 4) + (second << 2) + third
    if codes_BL.max(initial=0) < N:
        return np.bincount(word_BL.ravel(), minlength=_WORDS)
    called_BL = (first < N) & (second < N) & (third < N)
    return np.bincount(word_BL[called_BL], minlength=_WORDS)


def _train_pieces(store: SequenceStore) -> Iterator[Codes]:
    for species in store.species:
        chroms = store.chroms(species)
        tiles = store.windows(species).filter(pl.col("split") == TRAIN)
        joined = (pl.col("start") == pl.col("end").shift(1)) & (
            pl.col("chrom") == pl.col("chrom").shift(1)
        )
        stretches = tiles.group_by((~joined.fill_null(value=False)).cum_sum().alias("run")).agg(
            pl.col("chrom").first(), pl.col("start").min(), pl.col("end").max()
        )
        for chrom, first, last in stretches.select("chrom", "start", "end").iter_rows():
            number = np.array([chroms.index(chrom)])
            for start in range(first, last, _PIECE):
                length = min(_PIECE, last - start)
                yield store.cut(species, number, np.array([start]), length)[0][0]


def _reversed_words() -> Counts:
    """The number of each word's reverse complement."""
    word = np.arange(_WORDS)
    reverse: Counts = ((word & 3) << 4 | (word & 12) | word >> 4) ^ (_WORDS - 1)
    return reverse
