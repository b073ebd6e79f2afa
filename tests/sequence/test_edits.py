from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from cislens.genome.codes import N, decode, encode, reverse_complement
from cislens.sequence.edits import carry, complement, crop, substitute
from cislens.sequence.store import REPEAT


def crops(rows=400, size=64, length=40, turned=False, indels=0, longest=1, seed=0):
    rng = np.random.default_rng(seed)
    sizes, turned_R = np.full(rows, size), np.full(rows, turned)
    made = crop(sizes, length, turned_R, rng, indels, longest)
    inserted_RL = np.zeros(made.index_RL.shape, bool)
    inserted_RL.ravel()[made.inserted] = True
    return made.index_RL, inserted_RL


def runs(wanted_L):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted_L, [0]]).astype(int)))
    return (edges[1::2] - edges[::2]).tolist()


@given(
    length=st.integers(8, 60),
    room=st.integers(0, 40),
    indels=st.integers(0, 4),
    longest=st.integers(1, 12),
    turned=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_view_reads_its_source_in_order_but_for_insertions_and_deletions(
    length, room, indels, longest, turned, seed
):
    index, inserted = crops(30, length + room, length, turned, indels, longest, seed)
    assert index.shape == (30, length)
    assert index.min() >= 0
    assert index.max() < length + room
    if turned:
        index = -index
    assert (inserted.sum(1) < length / 2).all()
    for index_L, inserted_L in zip(index, inserted, strict=True):
        assert not inserted_L[[0, -1]].any()
        assert (np.diff(index_L)[inserted_L[1:]] == 0).all()
        steps = np.diff(index_L[~inserted_L])
        assert steps.min() >= 1
        put, out = runs(inserted_L), (steps[steps > 1] - 1).tolist()
        assert len(put) + len(out) <= indels
        assert max([*put, *out], default=0) <= longest


def test_as_many_insertions_and_deletions_as_drawn_and_of_every_length():
    """0, 1 or 2 in a third of the views each; insertion or deletion; 1 to 5 bp."""
    index, inserted = crops(6000, 200, 100, indels=2, longest=5)
    put = [runs(row) for row in inserted]
    steps = [np.diff(row[~gone]) for row, gone in zip(index, inserted, strict=True)]
    out = [(step[step > 1] - 1).tolist() for step in steps]
    number = np.bincount([len(a) + len(b) for a, b in zip(put, out, strict=True)])
    np.testing.assert_allclose(number / 6000, [1 / 3] * 3, atol=0.02)
    for lengths in (list(chain(*put)), list(chain(*out))):
        assert len(lengths) == pytest.approx(3000, rel=0.06)
        assert chisquare(np.bincount(lengths)[1:]).pvalue > 1e-3
        assert len(np.bincount(lengths)) == 6
    where = np.flatnonzero(inserted[:, 1:] & ~inserted[:, :-1]) % 99
    # As often in the first half of a view as in the second.
    assert (where < 49).mean() == pytest.approx(0.5, abs=0.03)


def test_a_view_lies_anywhere_in_its_source():
    index, _ = crops(4000, 20, 16)
    assert chisquare(np.bincount(index[:, 0], minlength=5)).pvalue > 1e-3
    assert (np.diff(index) == 1).all()


def test_what_is_deleted_is_filled_up_from_what_the_source_has():
    """Where the view is the whole source only what insertions push out can fill deletions."""
    index, inserted = crops(500, 40, 40, indels=2, longest=6)
    real = (~inserted).sum(1)
    spanned = index[:, -1] - index[:, 0] + 1
    assert (spanned <= 40).all()
    assert (spanned > real).any()
    assert (real < 40).any()


def test_substitutions_come_at_their_rate_two_transitions_to_one_transversion():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 5, (4, 200_000), dtype=np.uint8)
    after = before.copy()
    substitute(after, np.array([0.0, 0.01, 0.05, 1.0]), rng)
    called, changed = before != N, before != after
    assert (after[~called] == N).all()
    assert (after[called] != N).all()
    shares = changed.sum(1) / called.sum(1)
    np.testing.assert_allclose(shares, [0, 0.01, 0.05, 1], rtol=0.05)
    transition = (before ^ after) == 2
    pairs = np.unique(np.stack([before, after], -1)[transition], axis=0)
    assert [decode(pair) for pair in pairs] == ["AG", "CT", "GA", "TC"]
    assert (transition & changed).sum() / changed.sum() == pytest.approx(2 / 3, abs=0.005)
    kinds = np.bincount((before ^ after)[changed], minlength=4)
    assert kinds[1] / kinds[3] == pytest.approx(1, abs=0.03)


def test_complement_twice_is_the_identity_and_n_stays():
    codes = np.random.default_rng(0).integers(0, 5, (6, 33), dtype=np.uint8)
    rows = np.array([True, False] * 3)
    once = codes.copy()
    complement(once, rows)
    np.testing.assert_array_equal(once[rows], reverse_complement(codes[rows])[:, ::-1])
    np.testing.assert_array_equal(once[~rows], codes[~rows])
    complement(once, rows)
    np.testing.assert_array_equal(once, codes)


def carried(source, alleles, shortest=1):
    found = [(first, count, encode(alt)) for first, count, alt in alleles]
    marked, place = carry(encode(source), found, shortest)
    return decode(marked), place.tolist()


def test_alleles_of_a_haplotype_by_hand():
    assert carried("ACGTACGT", [(1, 1, "T"), (4, 1, "AGG")]) == (
        "ATGTAGGCGT", [0, 1, 2, 3, 4, -1, -1, 5, 6, 7],
    )  # fmt: skip
    assert carried("ACGTACGT", [(2, 3, "G"), (6, 1, "C")]) == ("ACGCCT", [0, 1, 2, 5, 6, 7])
    assert carried("ACGTACGT", [(0, 1, "G"), (7, 1, "TT")]) == (
        "GCGTACGTT", [0, 1, 2, 3, 4, 5, 6, 7, -1],
    )  # fmt: skip
    assert carried("ACGT", []) == ("ACGT", [0, 1, 2, 3])


def test_alleles_that_do_not_fit_are_left_out():
    whole = ("ACGTACGT", list(range(8)))
    assert carried("ACGTACGT", [(-1, 2, "TT"), (7, 2, "TT")]) == whole
    assert carried("ACGTACGT", [(2, 3, "G")], shortest=7) == whole
    assert carried("ACGTACGT", [(2, 3, "G")], shortest=6)[0] == "ACGCGT"
    assert carried("ACGTACGT", [(1, 3, "T"), (2, 1, "A")]) == carried("ACGTACGT", [(1, 3, "T")])
    # An insertion makes room for the deletion behind it.
    assert carried("ACGTACGT", [(0, 1, "AGG"), (2, 3, "G")], shortest=8)[0] == "AGGCGCGT"


def test_alleles_inherit_the_soft_masking_of_the_reference():
    marked = encode("ACGTAC") | np.array([0, 1, 1, 0, 0, 0], np.uint8) * REPEAT
    got, _ = carry(marked, [(1, 2, encode("TTTT")), (3, 1, encode("AA"))], 1)
    assert decode(got & 7) == "ATTTTAAAC"
    np.testing.assert_array_equal(got >= REPEAT, [0, 1, 1, 1, 1, 0, 0, 0, 0])


@st.composite
def edits(draw):
    source = draw(st.text("ACGTN", min_size=1, max_size=40))
    alleles, first = [], 0
    while (first := first + draw(st.integers(0, 8))) < len(source):
        count = draw(st.integers(1, 4))
        alleles.append((first, count, draw(st.text("ACGT", min_size=1, max_size=4))))
        first += count
    return source, alleles


@given(edits())
def test_a_haplotype_is_the_source_with_its_alleles_put_in_from_the_end(drawn):
    source, alleles = drawn
    text = source
    for first, count, alt in reversed(alleles):
        if first + count <= len(source):
            text = text[:first] + alt + text[first + count :]
    got, place = carried(source, alleles)
    assert got == text
    kept = [index for index in place if index >= 0]
    assert kept == sorted(set(kept))
    touched = {p for first, count, _ in alleles for p in range(first, first + count)}
    for base, index in zip(got, place, strict=True):
        assert index < 0 or index in touched or base == source[index]
    assert set(range(len(source))) - touched <= set(kept)
