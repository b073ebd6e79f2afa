from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from cislens.genome.codes import encode
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator

batches = arrays(
    np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=st.integers(0, 4)
)


def pairs(codes):
    return Counter(zip(codes[:-1].tolist(), codes[1:].tolist(), strict=True))


@given(batches, st.integers(0, 1000))
def test_dinucleotides_and_ends_are_kept_exactly(codes, seed):
    shuffled = dinucleotide_shuffle(codes, generator(seed))
    assert shuffled.shape == codes.shape
    for before, after in zip(codes, shuffled, strict=True):
        assert pairs(after) == pairs(before)
        assert (after[0], after[-1]) == (before[0], before[-1])


def test_every_sequence_with_these_dinucleotides_is_equally_likely():
    start = encode("ACACCGAGA")
    draws = dinucleotide_shuffle(np.tile(start, (12000, 1)), generator(3))
    counts = Counter(map(bytes, draws))
    assert len(counts) == 12  # by enumeration of the Euler paths
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_a_rare_last_base_does_not_stop_the_shuffle():
    codes = np.concatenate([generator(0).integers(0, 4, 8000, np.uint8), encode("N")])
    shuffled = dinucleotide_shuffle(codes, generator(1))
    assert pairs(shuffled) == pairs(codes)
    assert (shuffled != codes).mean() > 0.5


def test_the_seed_decides():
    codes = generator(0).integers(0, 4, (5, 200), np.uint8)
    first, again, other = (dinucleotide_shuffle(codes, generator(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
