"""The order-2 Markov model that models of DNA are held against."""

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import N, decode, encode, reverse_complement
from cislens.recipes.sequence import SequenceRecipe, SequenceSplit
from cislens.sequence.build import build_sequences
from cislens.sequence.markov import count_words, order2_nats, train_words
from cislens.sequence.sampler import WindowSampler


@pytest.fixture
def store_of(tmp_path):
    def build(chain, window=64):
        (tmp_path / "g.fa").write_text("".join(f">{c}\n{decode(chain)}\n" for c in "abc"))
        split = SequenceSplit(valid={"toy": ["b"]}, test={"toy": ["c"]})
        recipe = SequenceRecipe(genomes={"toy": tmp_path / "g.fa"}, window=window, split=split)
        return build_sequences(recipe, tmp_path / "store")

    return build


def test_a_chain_that_repeats_is_known_and_a_random_one_is_not(store_of, tmp_path):
    rng = np.random.default_rng(0)
    random = rng.integers(0, 4, 50_000).astype(np.uint8)
    store = store_of(random)
    windows, _ = store.cut("toy", np.full(200, 1), rng.integers(0, 49_000, 200), 64)
    # The best a model can do on random bases is ln 4.
    assert order2_nats(store, windows) == pytest.approx(np.log(4), abs=2e-3)
    with pytest.raises(CislensError, match="fewer N"):
        order2_nats(store, np.full((3, 64), N, np.uint8))


def test_words_are_counted_on_both_strands_of_the_train_part(store_of):
    chain = np.tile(encode("AACGT"), 2_000)
    store = store_of(chain)
    expected = count_words(chain[None]) + count_words(reverse_complement(chain)[None])
    assert np.array_equal(train_words(store), expected)
    # After AA comes C, after GT comes A or, on the other strand, T: one of two, half of the time.
    told = order2_nats(store, chain[None, :64])
    assert 0 < told < np.log(2)


def test_a_word_with_n_is_not_counted():
    codes = encode("ACGTNACG")[None]
    found = count_words(codes)
    words = {"ACG": 2, "CGT": 1}
    assert found.sum() == 3
    for word, count in words.items():
        a, b, c = encode(word).tolist()
        assert found[16 * a + 4 * b + c] == count


def test_real_sequence_is_below_ln_4(sequence_store):
    species, chrom, start = WindowSampler(sequence_store, "valid").fixed(256)
    yeast = species == 0
    codes, _ = sequence_store.cut("yeast", chrom[yeast], start[yeast], 512)
    # Composition alone (38 % GC) gives 1.33; two bases before add little.
    assert 1.30 < order2_nats(sequence_store, codes) < 1.36
