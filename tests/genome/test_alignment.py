import numpy as np
import pytest

from cislens.genome.alignment import BAND, Flanks, Pairs, align, local_scores
from cislens.genome.codes import encode, reverse_complement
from cislens.genome.minimizers import kmer_hashes, lay, minimizers, sketch, without_runs
from cislens.randomness import generator


def slow_banded_score(a, b, diagonal):
    """Smith-Waterman cell by cell, from its definition."""
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            if abs(i - j - diagonal) > BAND:
                continue
            same = a[i - 1] == b[j - 1] and a[i - 1] < 4
            table[i, j] = max(
                0,
                table[i - 1, j - 1] + (1 if same else -1),
                table[i - 1, j] - 2,
                table[i, j - 1] - 2,
            )
    return table.max()


def indel_mutant(sequence, rng):
    keep = rng.random(len(sequence)) > 0.03
    grown = np.insert(sequence[keep], rng.integers(0, keep.sum(), 3), rng.integers(0, 4, 3))
    changed = rng.random(len(grown)) < 0.1
    grown[changed] = rng.integers(0, 4, changed.sum())
    return grown.astype(np.uint8)


@pytest.mark.parametrize("opposite", [False, True])
def test_scores_equal_smith_waterman_cell_by_cell(opposite):
    rng = generator(0)
    originals = [rng.integers(0, 5, n, np.uint8) for n in (40, 70, 55, 90)]
    mutants = [indel_mutant(sequence, rng) for sequence in originals]
    sequences = (
        [*originals, *map(reverse_complement, mutants)] if opposite else [*originals, *mutants]
    )
    laid, starts = lay(sequences)
    lengths = np.array([len(sequence) for sequence in sequences])
    a, b, diagonal = np.arange(4), np.arange(4, 8), np.array([0, 3, -20, 1])
    pairs = Pairs(a, b, np.full(4, opposite), diagonal)
    expected = [
        slow_banded_score(x, y, d) for x, y, d in zip(originals, mutants, diagonal, strict=True)
    ]
    assert local_scores(laid, starts, lengths, pairs).tolist() == expected
    assert align(laid, starts, lengths, pairs).score.tolist() == expected


def test_identity_and_columns_of_an_alignment():
    a = encode("ACGTTGCAACGGTTACCATG")
    b = a.copy()
    b[10] = (b[10] + 1) % 4
    laid, starts = lay([a, b])
    pairs = Pairs(np.array([0]), np.array([1]), np.array([False]), np.array([0]))
    found = align(laid, starts, np.array([20, 20]), pairs)
    assert (found.score[0], found.columns[0], found.identity[0]) == (18, 20, 0.95)


def test_no_pairs_give_no_scores():
    laid, starts = lay([encode("ACGT")])
    none = Pairs(*(np.empty(0, np.int64) for _ in range(4)))
    assert len(local_scores(laid, starts, np.array([4]), none)) == 0


def slow_extension(a, b):
    score, best = 0, 0
    for x, y in zip(a[:32], b[:32], strict=False):
        score += 1 if x == y else -1
        best = max(best, score)
    return best


@pytest.mark.parametrize("opposite", [False, True])
def test_seed_scores_equal_extension_base_by_base(opposite):
    rng = generator(1)
    k = 11
    first = rng.integers(0, 4, 150, np.uint8)
    second = first.copy()
    changed = rng.random(150) < 0.3
    changed[70 : 70 + k] = False
    second[changed] = rng.integers(0, 4, changed.sum())
    stored = reverse_complement(second) if opposite else second
    laid, starts = lay([first, stored])
    right = starts[1] + (150 - k - 70 if opposite else 70)
    found = Flanks(laid).seed_scores(np.array([70]), np.array([right]), np.array([opposite]), k)
    expected = k + slow_extension(first[81:], second[81:])
    expected += slow_extension(first[69::-1], second[69::-1])
    assert found.tolist() == [expected]


def test_kmer_hashes_are_equal_on_both_strands():
    codes = generator(2).integers(0, 4, 500, np.uint8)
    hashes, forward = kmer_hashes(codes, 15)
    turned, turned_forward = kmer_hashes(reverse_complement(codes), 15)
    assert np.array_equal(hashes, turned[::-1])
    assert np.array_equal(forward, ~turned_forward[::-1])
    assert len(np.unique(hashes)) == 486


@pytest.mark.parametrize("text", ["A" * 40, "CA" * 20, "CAG" * 14, "N" * 40])
def test_runs_and_short_repeats_are_no_seeds(text):
    assert len(minimizers(encode(text), 11, 4).places) == 0
    assert len(sketch(encode(text), 15, 1)[0]) == 0


def test_every_window_has_a_minimizer():
    codes = generator(3).integers(0, 4, 5000, np.uint8)
    places = minimizers(codes, 11, 4).places
    assert np.diff(places).max() <= 4
    assert 0.36 < len(places) / 5000 < 0.44  # density 2 / (w + 1)


def test_a_sketch_does_not_depend_on_where_it_is_cut():
    codes = generator(4).integers(0, 4, 150_000, np.uint8)
    hashes, places = sketch(codes, 15, 16)
    whole, _ = kmer_hashes(codes, 15)
    assert np.array_equal(whole[places], hashes)
    assert np.array_equal(places, np.flatnonzero(whole < (2**64 - 1) // 16))


def test_long_runs_and_repeats_become_n_and_short_ones_stay():
    for unit in ("A", "CA", "CAG"):
        run = (unit * 30)[:20]
        sequence = encode(f"GTC{run}TGCATTGACC")
        masked = without_runs(sequence)
        assert (masked[3:23] == 4).all()
        assert np.array_equal(masked[25:], sequence[25:])
        short = encode(f"GTC{run[:17]}TGCATTGACC")
        assert np.array_equal(without_runs(short), short)
    assert np.array_equal(without_runs(encode("N" * 30)), encode("N" * 30))
    assert without_runs(encode("")).size == 0
