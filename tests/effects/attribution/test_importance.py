import logging

import numpy as np
import pytest

from cislens.effects.attribution.importance import (
    global_importance,
    matched_backgrounds,
    shuffled_backgrounds,
)
from cislens.errors import CislensError
from cislens.genome.codes import C, G, N, decode, encode, gc_content
from cislens.randomness import generator

MOTIF = "TGACGTCA"


def sequences(n, length=60, gc=0.5, name="gia"):
    p = np.array([1 - gc, gc, gc, 1 - gc]) / 2
    return generator(0, name).choice(4, (n, length), p=p).astype(np.uint8)


def counting(words):
    return np.array([2.0 * decode(word).count(MOTIF) for word in words], np.float32)


def test_a_motif_that_counts_has_an_importance_and_its_sham_none():
    backgrounds = shuffled_backgrounds(sequences(20), seed=0)
    motifs = {"site": encode(MOTIF), "other": encode("ACACACAG")}
    site, other = global_importance(counting, motifs, backgrounds, seed=0)
    assert (site.motif, other.motif) == ("site", "other") and site.backgrounds == 300
    assert site.effect == pytest.approx(2.0, abs=0.02)
    assert site.low <= site.effect <= site.high and site.low > 1.9
    assert abs(site.sham) < 0.02 and site.p_value < 1e-30
    assert abs(other.effect) < 0.02 and other.p_value > 0.05
    again = global_importance(counting, motifs, backgrounds, seed=0)
    assert again == (site, other)
    (alone,) = global_importance(counting, {"other": motifs["other"]}, backgrounds, seed=0)
    assert alone == other  # a motif's shams do not depend on the other motifs


def test_the_interval_is_students():
    def predict(words):
        return np.array([int((word == G).sum()) for word in words], np.float32)

    backgrounds = sequences(50)
    (found,) = global_importance(predict, {"m": encode("GGAT")}, backgrounds, seed=0)
    change = 2 - (backgrounds[:, 28:32] == G).sum(1)
    half = 2.009575 * change.std(ddof=1) / np.sqrt(50)  # t, 49 degrees of freedom
    assert found.effect == pytest.approx(change.mean())
    assert (found.low, found.high) == pytest.approx((change.mean() - half, change.mean() + half))
    assert found.sham == pytest.approx(found.effect)  # the order of the bases does not count here


def test_a_motif_of_probabilities_draws_a_word_for_each_background():
    p = np.tile([0.0, 0.0, 0.0, 1.0], (8, 1))
    p[3] = (0.5, 0.0, 0.5, 0.0)  # TTTATTTT or TTTGTTTT
    seen = []

    def predict(words):
        seen.extend(decode(word)[26:34] for word in words)
        return np.zeros(len(words), np.float32)

    global_importance(predict, {"m": p}, sequences(200), seed=0)
    words = seen[200:400]
    assert set(words) == {"TTTATTTT", "TTTGTTTT"}
    assert 70 < words.count("TTTATTTT") < 130
    assert all(sorted(a) == sorted(b) and a != b for a, b in zip(words, seen[400:], strict=True))


def test_what_cannot_be_compared_is_refused():
    backgrounds = sequences(4)
    with pytest.raises(CislensError, match="'a' is one base repeated and has no sham"):
        global_importance(counting, {"a": encode("AAAA")}, backgrounds, seed=0)
    with pytest.raises(CislensError, match="of 72 bp does not fit 60 bp"):
        global_importance(counting, {"a": np.tile(encode(MOTIF), 9)}, backgrounds, seed=0)
    with pytest.raises(CislensError, match="two backgrounds or more, got 1"):
        global_importance(counting, {"a": encode(MOTIF)}, backgrounds[:1], seed=0)


def test_shuffled_backgrounds_keep_the_dinucleotides_of_each_sequence():
    given = sequences(3)
    found = shuffled_backgrounds(given, seed=0, count=7)
    for row, background in enumerate(found):
        both = (given[row % 3], background)
        pairs = [np.bincount(x[:-1] * 4 + x[1:], minlength=16) for x in both]
        assert np.array_equal(*pairs) and not np.array_equal(*both)


def test_matched_backgrounds_have_the_gc_of_the_sequences_and_come_from_the_pool(caplog):
    given = sequences(10, gc=0.65, name="given")
    pool = [*sequences(400, gc=0.5, name="low"), *sequences(400, gc=0.7, name="high")]
    with caplog.at_level(logging.WARNING, "cislens"):
        found = matched_backgrounds(given, pool, seed=0, count=100)
    assert not caplog.records
    assert len({codes.tobytes() for codes in found}) == 100  # none is taken twice
    assert {codes.tobytes() for codes in found} <= {codes.tobytes() for codes in pool}
    assert gc_content(found).mean() == pytest.approx(gc_content(given).mean(), abs=0.005)
    assert np.array_equal(found, matched_backgrounds(given, pool, seed=0, count=100))


def test_a_pool_that_cannot_match_is_told(caplog):
    poor = sequences(20, gc=0.2, name="poor")
    with caplog.at_level(logging.WARNING, "cislens"):
        matched_backgrounds(sequences(10, gc=0.8, name="rich"), poor, seed=0, count=20)
    assert "differ in GC" in caplog.text
    poor[0, 5] = N
    with pytest.raises(CislensError, match="of 20 regions to take them from 19 have no N"):
        matched_backgrounds(sequences(5), poor, seed=0, count=20)


def test_a_word_of_one_base_among_others_is_its_own_sham():
    p = np.full((2, 4), 0.0)
    p[:, [C, G]] = 0.5  # CC, CG, GC or GG
    (found,) = global_importance(counting, {"m": p}, sequences(40), seed=0)
    assert found.sham == found.effect == 0
