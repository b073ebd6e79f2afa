import numpy as np
import pytest

from cislens.genome.codes import encode, reverse_complement
from cislens.genome.homology import components, homology_pairs, leaking
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.randomness import generator


def random_sequences(n, length, seed):
    return list(generator(seed, "sequences").integers(0, 4, (n, length), np.uint8))


def mutated(sequence, identity, rng):
    copy = sequence.copy()
    changed = rng.choice(len(copy), round((1 - identity) * len(copy)), replace=False)
    copy[changed] = (copy[changed] + rng.integers(1, 4, len(changed))) % 4
    return copy


def planted(originals, identity, seed):
    """A mutated copy of each, every other one on the other strand."""
    rng = generator(seed, "planted")
    copies = [mutated(sequence, identity, rng) for sequence in originals]
    return [reverse_complement(c) if i % 2 else c for i, c in enumerate(copies)]


@pytest.mark.parametrize(("identity", "recall"), [(0.95, 0.99), (0.90, 0.99), (0.80, 0.90)])
def test_planted_homologs_of_200_bp_are_found_on_either_strand(identity, recall):
    originals = random_sequences(400, 200, 0)
    found = homology_pairs([*originals, *planted(originals, identity, 1)])
    edges = set(map(tuple, found.pairs.tolist()))
    hit = [(i, i + 400) in edges for i in range(400)]
    assert np.mean(hit) >= recall
    assert edges <= {(i, i + 400) for i in range(400)}
    assert abs(np.median(found.identity) - identity) < 0.02
    assert np.median(found.coverage) > 0.95


def test_shuffled_sequences_are_no_homologs():
    rng = generator(5)
    skewed = rng.choice(4, (2000, 200), p=[0.35, 0.15, 0.15, 0.35]).astype(np.uint8)
    assert len(homology_pairs(list(dinucleotide_shuffle(skewed, rng))).pairs) <= 3


def test_homologs_with_insertions_and_deletions_are_found():
    rng = generator(6)
    originals = random_sequences(100, 200, 7)
    copies = []
    for sequence in originals:
        cut = int(rng.integers(60, 140))
        copies.append(np.concatenate([sequence[:cut], sequence[cut + 5 :]]))
    edges = set(map(tuple, homology_pairs([*originals, *copies]).pairs.tolist()))
    assert all((i, i + 100) in edges for i in range(100))


def test_pieces_of_long_sequences_are_found():
    long = random_sequences(6, 5000, 8)
    long[3][1300:2900] = mutated(reverse_complement(long[1][200:1800]), 0.9, generator(9))
    found = homology_pairs(long)
    assert found.pairs.tolist() == [[1, 3]]
    assert found.identity[0] == pytest.approx(0.9, abs=0.02)
    assert 0.2 < found.coverage[0] < 0.4


def test_equal_sequences_pair_at_any_length_and_strand():
    short = [encode("ACGTTGCA"), encode("TGCAACGT"), encode("AAAAAAAA"), encode("ACGTTGCC")]
    found = homology_pairs(short)
    assert found.pairs.tolist() == [[0, 1]]
    assert found.cluster.tolist() == [0, 0, 1, 2]
    assert found.identity.tolist() == [1.0]


def test_shared_runs_and_short_repeats_do_not_join():
    sequences = random_sequences(20, 200, 10)
    for i, sequence in enumerate(sequences):
        sequence[50:90] = encode("A" * 40) if i % 2 else encode("CA" * 20)
    assert len(homology_pairs(sequences).pairs) == 0


def test_a_family_larger_than_the_posting_limit_is_one_component():
    rng = generator(11)
    element = random_sequences(1, 200, 12)[0]
    family = [mutated(element, 0.92, rng) for _ in range(500)]
    others = random_sequences(100, 200, 13)
    cluster = homology_pairs([*family, *others]).cluster
    assert len(set(cluster[:500].tolist())) == 1
    assert len(set(cluster.tolist())) == 101


def test_the_order_of_sequences_and_their_strand_do_not_matter():
    originals = random_sequences(60, 200, 14)
    sequences = [*originals, *planted(originals[:20], 0.85, 15)]
    first = homology_pairs(sequences)
    turned = homology_pairs([reverse_complement(s) for s in sequences])
    assert np.array_equal(first.cluster, turned.cluster)
    assert np.array_equal(homology_pairs(sequences).pairs, first.pairs)


def test_nothing_comes_of_nothing():
    assert len(homology_pairs([]).cluster) == 0
    assert homology_pairs([encode("ACGT" * 20)]).cluster.tolist() == [0]
    assert homology_pairs([encode("N" * 100), encode("")]).cluster.tolist() == [0, 1]
    assert leaking([], []).tolist() == []
    assert leaking([encode("ACGT" * 20)], []).tolist() == [False]


def test_planted_leaks_are_named_and_nothing_else():
    train, clean = random_sequences(500, 200, 16), random_sequences(200, 200, 17)
    leaks = planted(train[:100], 0.9, 18)
    copies = [reverse_complement(train[200]), train[201]]
    mask = leaking([*leaks, *clean, *copies], train)
    assert mask[:100].mean() >= 0.99
    assert not mask[100:300].any()
    assert mask[300:].all()


def test_copies_within_one_side_are_no_leak():
    train, test = random_sequences(30, 200, 19), random_sequences(30, 200, 20)
    mask = leaking([*test, *planted(test, 0.95, 21), *test], [*train, *train])
    assert not mask.any()


def test_components_are_numbered_by_first_use():
    assert components(6, np.array([[4, 1], [5, 0]]), np.array([[1, 2]])).tolist() == [
        0, 1, 1, 2, 1, 0,
    ]  # fmt: skip
    assert components(3).tolist() == [0, 1, 2]
