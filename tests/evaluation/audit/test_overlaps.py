import time

import numpy as np
import pytest

from cislens.evaluation.audit.overlaps import Axis, alone, chained, largest_overlap
from cislens.evaluation.audit.table import Places
from cislens.genome.homology import components
from cislens.randomness import generator


def random_axis(n, seed, longest=400, span=20_000):
    rng = generator(seed, "axis")
    chrom = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    start = rng.integers(0, span, n)
    return Places(chrom, start, start + rng.integers(1, longest, n))


def both(left, right):
    """Axes of two sets whose chromosomes have the same offsets."""
    whole = Axis.of(
        Places(*(np.concatenate([getattr(left, f), getattr(right, f)])
                 for f in ("chrom", "start", "end")))
    )  # fmt: skip
    n = len(left.chrom)
    return whole.take(np.arange(n)), whole.take(np.arange(n, n + len(right.chrom)))


@pytest.mark.parametrize("longest", [5, 400, 6000])
def test_the_largest_overlap_is_what_comparing_all_pairs_gives(longest):
    left, right = random_axis(200, 1, longest), random_axis(300, 2, longest)
    found = largest_overlap(*both(left, right))
    shared = np.minimum(left.end[:, None], right.end) - np.maximum(left.start[:, None], right.start)
    shared = np.where(left.chrom[:, None] == right.chrom, np.maximum(shared, 0), 0)
    assert np.array_equal(found.overlap, shared.max(1))
    assert np.array_equal(found.known, np.where(shared.max(1) > 0, shared.argmax(1), -1))


def test_touching_intervals_share_nothing():
    places = Places(np.array(["a", "a", "b"]), np.array([10, 20, 12]), np.array([20, 30, 18]))
    axis = Axis.of(places)
    assert alone(axis).tolist() == [True, True, True]
    assert largest_overlap(axis.take(np.array([0])), axis.take(np.array([1, 2]))).known == [-1]
    assert axis.take(np.array([0])).near(axis.take(np.array([1])), 1).tolist() == [True]


def test_alone_and_chained_are_what_comparing_all_pairs_gives():
    places = random_axis(300, 3, longest=150)
    overlap = (
        (places.start[:, None] < places.end)
        & (places.start < places.end[:, None])
        & (places.chrom[:, None] == places.chrom)
    )
    np.fill_diagonal(overlap, False)
    axis = Axis.of(places)
    assert np.array_equal(alone(axis), ~overlap.any(1))
    every = np.argwhere(overlap)
    chain = chained(axis)
    assert overlap[chain[:, 0], chain[:, 1]].all()
    assert np.array_equal(components(300, chain), components(300, every))


def test_a_hundred_and_fifty_thousand_intervals_take_seconds():
    left, right = (random_axis(n, n, 800, 10**8) for n in (30_000, 120_000))
    began = time.process_time()
    found = largest_overlap(*both(left, right))
    assert time.process_time() - began < 5
    # 120,000 intervals, each met from 800 of 3 x 10^8 bp: 1 - exp(-0.32).
    assert (found.known >= 0).mean() == pytest.approx(0.274, abs=0.01)
