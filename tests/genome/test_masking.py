import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.genome.codes import N
from cislens.genome.masking import WIDE_SPANS, close_gaps, mask_bases, mask_spans


def sequences(rows, length, seed=0):
    return np.random.default_rng(seed).integers(0, 4, (rows, length), dtype=np.uint8)


def unseen(hidden_L, kmer):
    """Bases that no token without a hidden base covers, told token by token."""
    seen = set()
    for token in range(len(hidden_L) - kmer + 1):
        if not any(hidden_L[token : token + kmer]):
            seen |= set(range(token, token + kmer))
    return [base not in seen for base in range(len(hidden_L))]


def runs(wanted_L):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted_L, [0]]).astype(int)))
    return edges[1::2] - edges[::2]


@pytest.mark.parametrize("kmer", [3, 4, 5, 6])
def test_bases_of_no_visible_token_are_the_hidden_ones(kmer):
    target = sequences(40, 120)
    masked = mask_spans(target, (0.15, 0.3), np.random.default_rng(1), kmer)
    for hidden in masked.hidden_BL:
        assert hidden.tolist() == unseen(hidden, kmer)
        visible = runs(~hidden)
        assert (visible >= kmer).all()
    assert (masked.scored_BL | ~masked.hidden_BL).all()


@given(st.lists(st.booleans(), min_size=6, max_size=40), st.integers(2, 6))
def test_closing_gaps_hides_what_no_token_shows_and_nothing_else(hidden, kmer):
    closed = close_gaps(np.array([hidden]), kmer)[0]
    assert closed.tolist() == unseen(hidden, kmer)
    np.testing.assert_array_equal(close_gaps(closed[None], kmer)[0], closed)


def test_masking_a_run_of_tokens_in_token_space_would_hide_one_base():
    """What masks in base space avoid: k hidden 6-mers in a row hide a single base."""
    tokens = np.zeros(60, bool)
    tokens[20:26] = True
    seen = np.zeros(65, bool)
    for token in np.flatnonzero(~tokens):
        seen[token : token + 6] = True
    assert (~seen).sum() == 1


def test_n_is_never_asked_and_never_replaced():
    target = sequences(60, 200)
    target[:, 50:120] = N
    target[0] = N
    masked = mask_spans(target, (0.3, 0.3), np.random.default_rng(2), kmer=6)
    assert not masked.scored_BL[target == N].any()
    assert (masked.codes_BL[target == N] == N).all()
    assert masked.scored_BL[1:].any(1).all()


def test_shares_of_spans_that_are_hidden_replaced_and_left():
    target = sequences(3000, 256)
    masked = mask_spans(target, (0.15, 0.3), np.random.default_rng(3))
    hidden, scored = masked.hidden_BL, masked.scored_BL
    assert (masked.codes_BL[hidden] == N).all()
    unhidden = scored & ~hidden
    changed = unhidden & (masked.codes_BL != target)
    np.testing.assert_array_equal(masked.codes_BL[~scored], target[~scored])
    # Of the bases 80 % are hidden; of the replaced 10 % a quarter keep their base by chance.
    assert hidden.sum() / scored.sum() == pytest.approx(0.8, abs=0.01)
    assert changed.sum() / scored.sum() == pytest.approx(0.075, abs=0.005)


@pytest.mark.parametrize("rate", [(0.15, 0.15), (0.15, 0.3)])
def test_share_of_bases_asked(rate):
    masked = mask_spans(sequences(3000, 256), rate, np.random.default_rng(4))
    shares = masked.scored_BL.mean(1)
    assert shares.mean() == pytest.approx(sum(rate) / 2, abs=0.003)
    # No more than one span (20 bp) beside the rate wanted.
    assert shares.min() > rate[0] - 20 / 256
    assert shares.max() < rate[1] + 20 / 256
    assert shares.std() == pytest.approx((rate[1] - rate[0]) / 12**0.5, abs=0.02)


def test_every_place_is_asked_about_equally_often():
    scored = mask_spans(sequences(100_000, 64), (0.2, 0.2), np.random.default_rng(5)).scored_BL
    by_place = scored.mean(0)
    assert by_place[12:-12].std() < 0.01
    # Fewer spans reach the ends, and both ends alike.
    assert by_place.min() > 0.04
    np.testing.assert_allclose(by_place, by_place[::-1], atol=0.012)


def test_span_lengths():
    """Mean of 0.8 x geometric(1/4) clipped to 12 and 0.2 x U{8..20}: 0.8 x 3.87 + 0.2 x 14."""
    masked = mask_spans(sequences(4000, 512), (0.02, 0.02), np.random.default_rng(6))
    lengths = np.concatenate([runs(row) for row in masked.scored_BL])
    # Sparse masks: runs are spans, but for rare neighbors.
    assert lengths.max() <= 40
    assert np.median(lengths) <= 5
    assert (lengths > 12).mean() == pytest.approx(0.2 * 8 / 13, abs=0.04)
    assert (lengths == 1).mean() == pytest.approx(0.8 / 4, abs=0.04)


def test_wide_spans():
    """Half geometric with mean 10, clipped to 48: 9.9; half U{16..48}: 32. Together 21.0."""
    rng = np.random.default_rng(8)
    masked = mask_spans(sequences(200, 40_000), (0.02, 0.02), rng, law=WIDE_SPANS)
    lengths = np.concatenate([runs(row) for row in masked.scored_BL])
    assert lengths.mean() == pytest.approx(21.0, rel=0.04)
    assert (lengths < 16).mean() == pytest.approx(0.5 * (1 - 0.9**15), abs=0.02)
    assert (lengths == 1).mean() == pytest.approx(0.05, abs=0.01)
    # But for spans side by side.
    assert (lengths > 48).mean() < 0.02
    assert (lengths == 48).mean() == pytest.approx(0.5 * (1 / 33 + 0.9**47), abs=0.01)


@pytest.mark.parametrize(("length", "most"), [(64, 0.8), (256, 0.7), (512, 0.6)])
def test_share_of_bases_in_wide_spans(length, most):
    rng = np.random.default_rng(9)
    shares = mask_spans(sequences(4000, length), (0.1, 0.5), rng, law=WIDE_SPANS).scored_BL.mean(1)
    # A sequence of 64 bp has one span at least, which is up to 16 bp.
    assert shares.mean() == pytest.approx(0.3, abs=0.02)
    assert shares.max() < most
    assert shares.std() > 0.1


@pytest.mark.parametrize("rate", [0.02, 0.15, 0.6])
def test_bases_masked_one_by_one(rate):
    target = sequences(1500, 256)
    target[:, 100:140] = N
    masked = mask_bases(target, rate, np.random.default_rng(10))
    hidden, scored, called = masked.hidden_BL, masked.scored_BL, target != N
    assert not scored[~called].any()
    assert (masked.codes_BL[~called] == N).all()
    assert scored[called].mean() == pytest.approx(rate, abs=0.004)
    # Each on its own: neighbors are no more often asked than others, and so is every place.
    both = (scored[:, 1:] & scored[:, :-1])[:, :99].mean()
    assert both == pytest.approx(rate**2, abs=0.004)
    assert scored[:, called.all(0)].mean(0).std() < 2 * (rate * (1 - rate) / 1500) ** 0.5
    assert (hidden & called).sum() / scored.sum() == pytest.approx(0.8, abs=0.015)
    assert (masked.codes_BL[hidden] == N).all()
    changed = ~hidden & (masked.codes_BL != target)
    assert not (changed & ~scored).any()
    assert changed.sum() / scored.sum() == pytest.approx(0.075, abs=0.01)


def test_bases_masked_for_a_reader_of_kmers():
    masked = mask_bases(sequences(40, 120), 0.1, np.random.default_rng(11), kmer=4)
    for hidden in masked.hidden_BL:
        assert hidden.tolist() == unseen(hidden, 4)
    assert not (masked.hidden_BL & ~masked.scored_BL).any()


def test_what_spans_hide_stays_the_same_from_version_to_version():
    """Runs of released versions can be repeated: the same seed hides the same bases."""
    masked = mask_spans(sequences(64, 512), (0.15, 0.3), np.random.default_rng(3), kmer=4)
    digest = hashlib.sha256(masked.codes_BL.tobytes() + masked.scored_BL.tobytes()).hexdigest()
    assert digest[:16] == "ffed4e620d325b90"


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_short_sequences_keep_at_least_one_base_asked(length):
    masked = mask_spans(sequences(50, length), (0.15, 0.3), np.random.default_rng(7), kmer=3)
    assert masked.scored_BL.any(1).all()


def test_masks_depend_on_the_generator_alone():
    target = sequences(8, 100)
    first, again, other = (
        mask_spans(target, (0.15, 0.3), np.random.default_rng(seed), 4) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.codes_BL, again.codes_BL)
    assert (first.hidden_BL != other.hidden_BL).any()
