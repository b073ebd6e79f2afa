"""Gapped k-mers: words that match at some of their positions, whatever lies between.

The features of a gapped k-mer support vector machine (Ghandi et al. 2014, PLoS Comput Biol
10:e1003711), hashed to a fixed width (Weinberger et al. 2009, ICML).
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.genome.codes import Codes, N
from cislens.representations.contract import Features, Kind

_AT_ONCE = 8192  # windows whose words are held in memory


class GappedKmers:
    """Counts of all words with `informative` bases in a window of `length`, in signed buckets.

    A gapped word adds +1 or -1, by its hash, to the bucket that its hash names; rows are scaled to
    unit length. Windows with N do not count. Unstranded: a gapped word and its reverse complement
    are one. There are C(length, informative) x 4^informative words (860,160 by default), and D is
    the number of buckets, so that 10,000 sequences take 2.6 GB at 65,536; with fewer buckets, down
    to about 4,096, inner products are noisier.
    """

    kind: Kind = "composition"
    parameters = 0

    def __init__(self, length: int = 10, informative: int = 6, buckets: int = 2**16) -> None:
        if not 1 <= informative <= length <= 16 or informative > 7:
            raise CislensError(
                "gapped k-mers have 1 to 7 informative bases in at most 16; "
                f"{informative} in {length} were asked for."
            )
        if buckets < 1:
            raise CislensError(f"{buckets} buckets cannot hold a count.")
        self.length, self.informative, self.buckets = length, informative, buckets
        self.name = f"gkmer-{length}-{informative}"
        self.digest = f"gkmer/1/{length}/{informative}/{buckets}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        features = np.zeros((len(sequences), self.buckets), dtype=np.float32)
        patterns = list(combinations(range(self.length), self.informative))
        place_PW = self._places(patterns, stranded)
        first = 0
        while first < len(sequences):
            last, windows = first, 0
            while last < len(sequences) and (windows < _AT_ONCE or last == first):
                windows += len(sequences[last])
                last += 1
            self._count(sequences[first:last], patterns, place_PW, features[first:last])
            first = last
        return features

    def _count(
        self,
        sequences: Sequence[Codes],
        patterns: list[tuple[int, ...]],
        place_PW: npt.NDArray[np.int32],
        features: Features,
    ) -> None:
        """Fill the rows of some sequences."""
        flat = np.concatenate([np.append(codes, np.uint8(N)) for codes in sequences])
        row = np.repeat(np.arange(len(sequences)), [len(codes) + 1 for codes in sequences])
        size = max(0, len(flat) - self.length + 1)
        called = np.ones(size, dtype=bool)
        for i in range(self.length):
            called &= flat[i : i + size] != N  # a window over the end holds its closing N
        base = [flat[i : i + size][called].astype(np.int16) for i in range(self.length)]
        bounds = np.searchsorted(row[:size][called], np.arange(len(sequences) + 1))
        place = np.empty((len(patterns), int(bounds[-1])), dtype=np.int32)
        # Patterns come in order, so that words of a common beginning are made once.
        begun: list[npt.NDArray[np.int16]] = []
        before: tuple[int, ...] = ()
        for pattern, places_W, out in zip(patterns, place_PW, place, strict=True):
            shared = 0
            while shared < len(before) and pattern[shared] == before[shared]:
                shared += 1
            del begun[shared:]
            for at in pattern[shared:]:
                begun.append(begun[-1] * np.int16(4) + base[at] if begun else base[at])
            np.take(places_W, begun[-1], out=out, mode="clip")
            before = pattern
        for i, counts in enumerate(features):
            found = place[:, bounds[i] : bounds[i + 1]].ravel()
            both = np.bincount(found, minlength=2 * self.buckets)
            signed = both[: self.buckets] - both[self.buckets :]
            norm = np.sqrt(float(signed @ signed))
            counts[:] = signed / norm if norm > 0 else 0

    def _places(self, patterns: list[tuple[int, ...]], stranded: bool) -> npt.NDArray[np.int32]:
        """Bucket of each word (P, 4^informative), with the number of buckets added for sign -1."""
        words = np.arange(4**self.informative, dtype=np.uint64)
        number = {pattern: i for i, pattern in enumerate(patterns)}
        code = np.arange(len(patterns), dtype=np.uint64)[:, None] * np.uint64(len(words)) + words
        if not stranded:
            mirrored = np.array(
                [number[tuple(self.length - 1 - at for at in reversed(p))] for p in patterns]
            )
            other = mirrored[:, None].astype(np.uint64) * np.uint64(len(words))
            code = np.minimum(code, other + _reverse_complements(self.informative))
        hashed = _mixed(code)
        place = hashed % np.uint64(self.buckets) + (hashed >> np.uint64(63)) * np.uint64(
            self.buckets
        )
        return place.astype(np.int32)


def _reverse_complements(k: int) -> npt.NDArray[np.uint64]:
    rest = np.arange(4**k)
    reverse = np.zeros_like(rest)
    for _ in range(k):
        reverse = reverse * 4 + (3 - rest % 4)
        rest //= 4
    return reverse.astype(np.uint64)


def _mixed(code: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al. 2014): every bit depends on every bit."""
    mixed = code + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
