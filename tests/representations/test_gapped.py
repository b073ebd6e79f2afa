from itertools import combinations

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import Codes, encode, reverse_complement
from cislens.representations.gapped import GappedKmers

RNG = np.random.default_rng(0)


def _kernel(one: Codes, other: Codes, length: int, informative: int, both: bool) -> float:
    """Windows of two sequences that agree in a choice of positions, counted by brute force."""
    windows = [np.lib.stride_tricks.sliding_window_view(codes, length) for codes in (one, other)]
    total = 0.0
    for pattern in combinations(range(length), informative):
        left, right = (w[:, pattern].astype(int) @ 4 ** np.arange(informative) for w in windows)
        total += float((left[:, None] == right[None]).sum())
    return total + (
        _kernel(one, reverse_complement(other), length, informative, False) if both else 0
    )


@pytest.mark.parametrize("stranded", [True, False])
def test_inner_products_are_those_of_the_gapped_kmer_kernel(stranded: bool) -> None:
    codes = [RNG.integers(0, 4, size).astype(np.uint8) for size in (40, 60, 50, 45)]
    codes[1][10:30] = codes[0][5:25]
    x = GappedKmers(6, 4, 2**20).embed(codes, None, stranded)
    kernel = np.array([[_kernel(a, b, 6, 4, not stranded) for b in codes] for a in codes])
    size = np.sqrt(np.diag(kernel))
    # A word that is its own reverse complement counts twice in the sum over strands.
    assert x @ x.T == pytest.approx(kernel / np.outer(size, size), abs=0.02)


def test_hashing_keeps_similar_sequences_similar() -> None:
    codes = RNG.integers(0, 4, (20, 200)).astype(np.uint8)
    codes[1] = codes[0]
    codes[1][::40] = (codes[1][::40] + 1) % 4
    wide = GappedKmers(buckets=2**18).embed(list(codes), None)
    narrow = GappedKmers(buckets=2**12).embed(list(codes), None)
    assert np.abs(wide @ wide.T - narrow @ narrow.T).max() < 0.1
    assert narrow[0] @ narrow[1] > 2 * np.sort((narrow @ narrow.T)[0])[-3]
    assert np.linalg.norm(narrow, axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def test_a_sequence_has_the_same_features_in_any_company() -> None:
    codes = [RNG.integers(0, 5, size).astype(np.uint8) for size in (5, 300, 9000, 120, 80)]
    gapped = GappedKmers(8, 4, 1024)
    together = gapped.embed(codes, None)
    alone = np.concatenate([gapped.embed([one], None) for one in codes])
    assert (together == alone).all()
    assert (together[0] == 0).all()  # too short for a window


def test_windows_with_n_do_not_count() -> None:
    gapped = GappedKmers(4, 2, 64)
    whole = gapped.embed([encode("ACGTA")], None, stranded=True)
    assert (gapped.embed([encode("NACGTAN")], None, stranded=True) == whole).all()
    assert (gapped.embed([encode("ACNGTA")], None, stranded=True) == 0).all()


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(CislensError, match="9 in 10 were asked for"):
        GappedKmers(10, 9)
    with pytest.raises(CislensError, match="0 buckets"):
        GappedKmers(buckets=0)
