"""Features that need no training: the yardsticks every representation is held against."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.genome.codes import Codes, N, gc_content, one_hot, reverse_complement
from cislens.representations.contract import Features, Kind


class OneHot:
    """One feature per position and base, for windows of one length.

    Unstranded: the mean of both strands. Of each pair of features that are then equal (base b at
    position i, its complement at L-1-i) one is kept, so D is 2 L (2 L + 2 for odd L), else 4 L.

    Raises:
        CislensError: from `embed` if lengths differ.
    """

    kind: Kind = "onehot"
    name = "onehot-linear"
    digest = "onehot/1"
    parameters = 0

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        lengths = sorted({len(codes) for codes in sequences})
        if len(lengths) != 1:
            raise CislensError(
                f"{self.name} needs sequences of one length, found {lengths[0]} to {lengths[-1]} "
                "bp; crop them, or leave this representation out."
            )
        codes = np.stack(sequences)
        x = one_hot(codes)
        if not stranded:
            x += one_hot(reverse_complement(codes))
            x = x[:, :, : (lengths[0] + 1) // 2] / np.float32(2)
        return x.reshape(len(x), -1)


class KmerCounts:
    """Counts of all k-mers for k = 1 .. `longest`, each k scaled to unit length.

    Unstranded: a k-mer and its reverse complement are counted as one. Words with N do not count.
    D is 2772 for `longest` = 6 (692 for 5), and 5460 (1364) where stranded.
    """

    kind: Kind = "composition"
    parameters = 0

    def __init__(self, longest: int = 6) -> None:
        if not 1 <= longest <= 8:
            raise CislensError(f"k-mers of up to 8 bases can be counted, {longest} were asked for.")
        self.longest = longest
        self.name = f"kmer-1to{longest}"
        self.digest = f"kmer/1/{longest}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        parts = []
        for k in range(1, self.longest + 1):
            counts = _word_counts(sequences, k, stranded)
            norm = np.linalg.norm(counts, axis=1, keepdims=True)
            parts.append(counts / np.where(norm > 0, norm, 1))
        return np.concatenate(parts, axis=1).astype(np.float32)


class Dinucleotides:
    """Shares of the bases, and of the pairs of neighboring bases; D is 12, and 20 where stranded.

    What a sequence gives away before any word of a motif is read: GC content, CpG and its skews.
    """

    kind: Kind = "composition"
    name = "dinuc"
    digest = "dinuc/1"
    parameters = 0

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        counts = [_word_counts(sequences, k, stranded) for k in (1, 2)]
        shares = [part / np.maximum(part.sum(1, keepdims=True), 1) for part in counts]
        return np.concatenate(shares, axis=1).astype(np.float32)


class PositionedKmers:
    """How often each word of `k` bases begins in each of equal parts of the sequence.

    For tasks with an anchor, such as promoters and variants, where a word counts by its place.
    Each part is scaled to unit length. Unstranded: the mean over both strands. D is `parts` * 4^k.
    """

    kind: Kind = "composition"
    parameters = 0

    def __init__(self, k: int = 3, parts: int = 16) -> None:
        if not 1 <= k <= 6 or parts < 1:
            raise CislensError(
                "words of 1 to 6 bases can be counted in one part or more; "
                f"{k} bases in {parts} parts were asked for."
            )
        self.k, self.parts = k, parts
        self.name = f"kmer-{k}-in-{parts}-parts"
        self.digest = f"positioned-kmer/1/{k}/{parts}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        features = self._counted(sequences)
        if not stranded:
            features += self._counted([reverse_complement(codes) for codes in sequences])
            features /= 2
        return features.reshape(len(features), -1).astype(np.float32)

    def _counted(self, sequences: Sequence[Codes]) -> npt.NDArray[np.float64]:
        """(n, parts, 4^k)."""
        pieces = [
            codes[start : end + self.k - 1]
            for codes in sequences
            for start, end in pairwise(self._bounds(len(codes)))
        ]
        counts = _word_counts(pieces, self.k, stranded=True)
        norm = np.linalg.norm(counts, axis=1, keepdims=True)
        scaled: npt.NDArray[np.float64] = counts / np.where(norm > 0, norm, 1)
        return scaled.reshape(len(sequences), self.parts, -1)

    def _bounds(self, length: int) -> list[int]:
        words = max(0, length - self.k + 1)
        return [words * part // self.parts for part in range(self.parts + 1)]


class GCContent:
    """The share of G and C among the called bases, and its square; D is 2."""

    kind: Kind = "composition"
    name = "gc"
    digest = "gc/1"
    parameters = 0

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        gc = np.array([gc_content(codes) for codes in sequences])
        return np.stack([gc, (gc - 0.5) ** 2], axis=1).astype(np.float32)


class Length:
    """The length in bp and its logarithm; D is 2."""

    kind: Kind = "composition"
    name = "length"
    digest = "length/1"
    parameters = 0

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        length = np.array([len(codes) for codes in sequences], dtype=np.float64)
        return np.stack([length, np.log(np.maximum(length, 1))], axis=1).astype(np.float32)


def _word_counts(sequences: Sequence[Codes], k: int, stranded: bool) -> npt.NDArray[np.float64]:
    """How often each word of k bases occurs in each sequence, (n, words)."""
    flat = np.concatenate([np.append(codes, np.uint8(N)) for codes in sequences])
    row = np.repeat(np.arange(len(sequences)), [len(codes) + 1 for codes in sequences])
    word = np.zeros(max(0, len(flat) - k + 1), dtype=np.int64)
    called = np.ones(len(word), dtype=bool)
    for i in range(k):
        base = flat[i : i + len(word)]
        word = word * 4 + base
        called &= base != N  # a word over the end of a sequence holds its closing N
    columns, width = _columns(k, stranded)
    place = row[: len(word)][called] * width + columns[word[called]]
    counts = np.bincount(place, minlength=len(sequences) * width)
    return counts.reshape(len(sequences), width).astype(np.float64)


def _columns(k: int, stranded: bool) -> tuple[np.ndarray, int]:
    """The feature column of each of the 4^k words, and the number of columns."""
    words = np.arange(4**k)
    if stranded:
        return words, len(words)
    reverse = np.zeros_like(words)
    rest = words.copy()
    for _ in range(k):
        reverse = reverse * 4 + (3 - rest % 4)
        rest //= 4
    canonical, columns = np.unique(np.minimum(words, reverse), return_inverse=True)
    return columns, len(canonical)
