from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.genome.codes import Codes, encode
from cislens.genome.klets import klet_shuffle
from cislens.randomness import generator


def klets(codes: Codes, k: int) -> Counter[bytes]:
    return Counter(codes[at : at + k].tobytes() for at in range(len(codes) - k + 1))


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", max_size=120), st.integers(1, 3), st.integers(0, 2**32))
def test_the_counts_of_klets_are_kept(text: str, k: int, seed: int) -> None:
    codes = encode(text)
    shuffled = klet_shuffle(codes, k, generator(seed))
    for size in range(1, k + 1):
        assert klets(shuffled, size) == klets(codes, size)
    if k > 1:
        assert (shuffled[: k - 1] == codes[: k - 1]).all()


def test_every_sequence_with_these_triplets_is_equally_likely() -> None:
    # Of the 8! orders of the inner bases exactly these keep the triplets, found by trying all.
    codes = encode("AACAAGAATAAC")
    seen = Counter(klet_shuffle(codes, 3, generator("uniform", n)).tobytes() for n in range(3000))
    assert all(klets(np.frombuffer(key, np.uint8), 3) == klets(codes, 3) for key in seen)
    assert len(seen) == 6  # AAC, AAG, AAT, AAC end at AA: the orders of C, G, T between them
    expected = 3000 / len(seen)
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < 20.5  # 0.999 quantile with 5 degrees of freedom


def test_longer_words_are_refused() -> None:
    with pytest.raises(CislensError, match="1, 2 or 3 bases, not 4"):
        klet_shuffle(encode("ACGT"), 4, generator(0))
