import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import encode, reverse_complement
from cislens.representations.baselines import (
    Dinucleotides,
    GCContent,
    KmerCounts,
    Length,
    OneHot,
    PositionedKmers,
)
from cislens.representations.contract import Representation
from cislens.representations.gapped import GappedKmers

RNG = np.random.default_rng(0)
CODES = [RNG.integers(0, 5, 60).astype(np.uint8) for _ in range(6)]
BOTH_STRANDS = [reverse_complement(codes) for codes in CODES]


SMALL_GAPPED = GappedKmers(6, 4, 512)


@pytest.mark.parametrize(
    "representation",
    [
        OneHot(),
        KmerCounts(4),
        PositionedKmers(2, 7),
        Dinucleotides(),
        GCContent(),
        Length(),
        SMALL_GAPPED,
    ],
)
def test_unstranded_features_are_those_of_the_other_strand(representation: Representation) -> None:
    one = representation.embed(CODES, None)
    assert one.dtype == np.float32
    assert one == pytest.approx(representation.embed(BOTH_STRANDS, None), abs=1e-6)


def test_stranded_features_differ_between_strands() -> None:
    for representation in (OneHot(), KmerCounts(2), Dinucleotides(), SMALL_GAPPED):
        one = representation.embed(CODES, None, stranded=True)
        assert np.abs(one - representation.embed(BOTH_STRANDS, None, stranded=True)).max() > 0.1


def test_kmer_widths_are_those_of_strand_pairs() -> None:
    # 2, 10, 32, 136, 512: of the words that are their own complement there are 4^(k/2).
    assert KmerCounts(5).embed(CODES, None).shape == (6, 2 + 10 + 32 + 136 + 512)
    assert KmerCounts(5).embed(CODES, None, stranded=True).shape == (6, 1364)
    assert KmerCounts().embed(CODES, None).shape == (6, 692 + 2080)


def test_kmers_are_counted_by_hand() -> None:
    # ACGT: words A,C,G,T; AC,CG,GT. Collapsed: {A,T} 2, {C,G} 2; {AC,GT} 2, CG 1.
    features = KmerCounts(2).embed([encode("ACGT")], None)[0]
    assert features[:2] == pytest.approx([0.5**0.5, 0.5**0.5])
    assert sorted(features[2:])[-2:] == pytest.approx([1 / 5**0.5, 2 / 5**0.5])
    assert np.count_nonzero(features[2:]) == 2


def test_words_with_n_or_over_an_end_do_not_count() -> None:
    apart = KmerCounts(3).embed([encode("ACG"), encode("TTA")], None, stranded=True)
    assert np.count_nonzero(apart[0, -64:]) == 1  # no word runs from one into the next
    gap = KmerCounts(3).embed([encode("ACGNACG")], None, stranded=True)
    assert gap[0] == pytest.approx(apart[0], abs=1e-6)
    assert (KmerCounts(3).embed([encode("NN")], None) == 0).all()


def test_onehot_of_a_stranded_task_is_the_sequence() -> None:
    x = OneHot().embed([encode("ACN")], None, stranded=True)
    assert x.reshape(4, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_onehot_refuses_several_lengths_and_kmers_too_long_words() -> None:
    with pytest.raises(CislensError, match="found 2 to 4 bp"):
        OneHot().embed([encode("AC"), encode("ACGT")], None)
    with pytest.raises(CislensError, match="20 were asked for"):
        KmerCounts(20)


def test_words_are_counted_by_their_place() -> None:
    # Words of ACGTAC begin at 0 .. 4: AC, CG in the first half and GT, TA, AC in the second.
    x = PositionedKmers(2, 2).embed([encode("ACGTAC")], None, stranded=True).reshape(2, 16)
    words = {"AC": 1, "CG": 6, "GT": 11, "TA": 12}
    assert np.flatnonzero(x[0]).tolist() == [words["AC"], words["CG"]]
    assert np.flatnonzero(x[1]).tolist() == sorted([words["GT"], words["TA"], words["AC"]])
    assert np.linalg.norm(x, axis=1) == pytest.approx([1, 1])
    short = PositionedKmers(3, 8).embed([encode("AC"), encode("ACGTNA")], None)
    assert (short[0] == 0).all()
    assert np.isfinite(short).all()
    with pytest.raises(CislensError, match="9 bases in 2 parts"):
        PositionedKmers(9, 2)


def test_dinucleotides_are_shares() -> None:
    # ACGT: {A,T} and {C,G} one half each; of three pairs {AC,GT} are two and CG is one.
    features = Dinucleotides().embed([encode("ACGTN")], None)[0]
    assert features.shape == (12,)
    assert sorted(features)[-4:] == pytest.approx([1 / 3, 1 / 2, 1 / 2, 2 / 3])
    assert features.sum() == pytest.approx(2)
    assert Dinucleotides().embed([encode("ACGT")], None, stranded=True).shape == (1, 20)
    assert (Dinucleotides().embed([encode("N")], None) == 0).all()


def test_gc_and_length_are_what_they_say() -> None:
    assert GCContent().embed([encode("GCNA")], None)[0, 0] == pytest.approx(2 / 3)
    assert Length().embed([encode("GCNA")], None)[0].tolist() == pytest.approx([4, np.log(4)])
