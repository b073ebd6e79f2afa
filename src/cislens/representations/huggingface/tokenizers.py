"""Sequences to tokens with spans: single bases, k-mers and byte-pair words.

Spans come from the token's own text, never from arithmetic on its index: one N splits a k-mer.
Upper and lower case are the same for every tokenizer here; U reads as T. A symbol without a token
of its own becomes N, and N the unknown token where there is none for it; both are counted.
"""

import hashlib
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cislens.errors import CislensError
from cislens.representations.huggingface.contract import Tokenizer, Tokens

_NOT_A_BASE = re.compile("[^ACGTN]")
_RUNS = re.compile("[ACGT]+|N+")


class _Vocabulary(Tokenizer):
    """What the tokenizers share: cleaning of the text, special tokens, and one token per N."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        special: "Special",
        source: str,
    ) -> None:
        self.vocabulary = dict(vocabulary)
        self.prefix, self.suffix = special.prefix, special.suffix
        self.pad_id, self.mask_id = special.pad, special.mask
        self.remapped = Counter()
        self.source = source
        # A vocabulary of lower-case bases is written to in lower case.
        self._lower = "A" not in self.vocabulary and "a" in self.vocabulary
        missing = [base for base in "ACGT" if self.id_of(base) is None]
        if missing:
            raise CislensError(f"{source} has no token for {', '.join(missing)}.")
        known = self.id_of("N")
        self._n_id = special.unknown if known is None else known
        self._n_is_known = known is not None
        described = repr((type(self).__name__, sorted(self.vocabulary.items()), special))
        self.digest = hashlib.sha256(described.encode()).hexdigest()

    def id_of(self, text: str) -> int | None:
        return self.vocabulary.get(text.lower() if self._lower else text)

    def tokenize(self, text: str) -> Tokens:
        text = self._clean(text)
        words: list[str] = []
        for run in _RUNS.findall(text):
            words += list(run) if run[0] == "N" else self._words(run)
        if "".join(words) != text:
            raise CislensError(
                f"the tokens of {self.source} do not spell the sequence: "
                f"{sum(map(len, words))} of {len(text)} bases; the tokenizer file is damaged."
            )
        ends = np.cumsum([len(word) for word in words], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if words else ends
        ids = [self._n_id if word == "N" else self._known(word) for word in words]
        return Tokens(np.array(ids, np.int64), np.stack([starts, ends], axis=1), tuple(words))

    @abstractmethod
    def _words(self, run: str) -> list[str]:
        """The tokens of a run of A, C, G and T."""

    def _known(self, word: str) -> int:
        index = self.id_of(word)
        if index is None:
            raise CislensError(f"{self.source} has no token {word!r}; its length is unknown.")
        return index

    def _clean(self, text: str) -> str:
        upper = text.upper().replace("U", "T")
        for symbol in _NOT_A_BASE.findall(upper):
            self.remapped[symbol] += 1
        cleaned = _NOT_A_BASE.sub("N", upper)
        if not self._n_is_known and "N" in cleaned:
            self.remapped["N"] += cleaned.count("N")
        return cleaned


class CharTokenizer(_Vocabulary):
    """One token per base: HyenaDNA, GPN and others."""

    kind = "char"
    token_size = 1

    def _words(self, run: str) -> list[str]:
        return list(run)


class KmerTokenizer(_Vocabulary):
    """Words of k bases from the left; what is left over before an N or the end is single bases.

    As the Nucleotide Transformer: no end token is added.
    """

    kind = "kmer"

    def __init__(self, vocabulary: Mapping[str, int], special: "Special", source: str) -> None:
        super().__init__(vocabulary, special, source)
        self.token_size = max(len(word) for word in vocabulary if set(word) <= set("ACGT"))
        expected = 4**self.token_size
        words = sum(set(word) <= set("ACGT") for word in vocabulary if len(word) == self.token_size)
        if words != expected:
            raise CislensError(
                f"{source} holds {words} words of {self.token_size} bases, expected {expected}."
            )

    def _words(self, run: str) -> list[str]:
        k = self.token_size
        whole = len(run) // k * k
        return [run[i : i + k] for i in range(0, whole, k)] + list(run[whole:])


class BpeTokenizer(_Vocabulary):
    """Byte-pair words by the library `tokenizers`: DNABERT-2.

    A run of N is split off first, so that no unknown token has an unknown length.
    """

    kind = "bpe"
    token_size = 4

    def __init__(self, engine: Any, special: "Special", source: str) -> None:
        super().__init__(engine.get_vocab(), special, source)
        self._engine = engine
        self.digest = hashlib.sha256(engine.to_str().encode()).hexdigest()

    def _words(self, run: str) -> list[str]:
        text = run.lower() if self._lower else run
        words: list[str] = self._engine.encode(text, add_special_tokens=False).tokens
        return [word.upper() for word in words]


class Special:
    """Ids of the special tokens of a vocabulary."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        prefix: Sequence[str],
        suffix: Sequence[str],
        source: str,
    ) -> None:
        self._vocabulary, self._source = vocabulary, source
        self.prefix = tuple(self._need(token) for token in prefix)
        self.suffix = tuple(self._need(token) for token in suffix)
        self.pad = self._need("pad")
        self.unknown = self._need("unk")
        self.mask = self._find("mask")

    def __repr__(self) -> str:
        return repr((self.prefix, self.suffix, self.pad, self.unknown, self.mask))

    def _need(self, name: str) -> int:
        index = self._find(name)
        if index is None:
            raise CislensError(f"{self._source} has no token [{name.upper()}] or <{name}>.")
        return index

    def _find(self, name: str) -> int | None:
        for spelled in (f"[{name.upper()}]", f"<{name}>"):
            if spelled in self._vocabulary:
                return self._vocabulary[spelled]
        return None
