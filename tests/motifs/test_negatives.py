"""Regions that do not belong: how far, how alike, and never the locus itself."""

import numpy as np
import pytest

from cislens.motifs.contexts import positions
from cislens.motifs.loader import RegionLoader
from cislens.motifs.negatives import CALIPERS, Layout, Pool, composition, strata
from cislens.recipes.multimodal import MultimodalTerms


@pytest.fixture(scope="module")
def large(make_store):
    """5,800 regions, so that most have a match far away."""
    return make_store(chrom_size=1_300_000)


@pytest.fixture(scope="module")
def loader(large):
    return RegionLoader(large, "train", 128, terms=MultimodalTerms())


def drawn_of(loader, steps=8):
    loci = [loader.loci(0, step) for step in range(steps)]
    rows = np.concatenate([each.row_B for each in loci])
    cells = np.concatenate([each.cell_B for each in loci])
    other = np.concatenate([each.other.row_B for each in loci])
    near = np.concatenate([each.other.near_B for each in loci])
    matched = np.concatenate([each.other.matched_B for each in loci])
    return rows, cells, other, near, matched


def test_negatives_are_open_in_the_cell_type_and_never_overlap(large, loader):
    rows, cells, other, _near, _matched = drawn_of(loader)
    assert large.is_open[other, cells].all()
    assert (large.regions["split"].to_numpy()[other] == "train").all()
    assert (loader.layout.distance(rows, other) >= 256 + 2 * 32).all()


def test_matched_negatives_are_within_the_calipers(large, loader):
    rows, _cells, other, _near, matched = drawn_of(loader)
    unlike = np.abs(composition(large)[rows] - composition(large)[other])
    assert (unlike[matched] <= CALIPERS + 1e-9).all()
    assert matched.mean() > 0.98
    assert (unlike[~matched] > CALIPERS).any(1).all()


def test_every_other_negative_is_near_and_the_rest_is_far(loader):
    rows, _cells, other, near, matched = drawn_of(loader)
    distance = loader.layout.distance(rows, other)
    assert (distance[near] <= 100_000).all()
    assert not near[1::2].any()
    # Of the loci asked; isochores of 10 kb leave few alike regions near by.
    assert near[::2].mean() > 0.6
    # Far is over 1 Mb or on another chromosome, wherever such a region is like enough.
    assert (distance[~near & matched] > 1_000_000).mean() > 0.95


def test_what_is_drawn_beyond_the_calipers_is_counted(make_store):
    store = make_store(chrom_size=60_000)
    loader = RegionLoader(store, "train", 32, terms=MultimodalTerms())
    for step in range(len(loader)):
        loader.loci(0, step)
    assert loader.counted["match"] == len(loader) * 32
    assert 0 < loader.counted["match beyond calipers"] < loader.counted["match"] / 2
    assert 0 < loader.counted["match near"] <= loader.counted["match"] / 2


def test_negatives_are_distributed_as_the_loci_are(large):
    """So that a context alone does not tell: of regions shared by 1, 2, 3 cell types as many."""
    terms = MultimodalTerms(negatives="random")
    rows, _cells, other, *_rest = drawn_of(RegionLoader(large, "train", 128, terms=terms), 28)
    shared = large.is_open.sum(1)
    left, right = (np.bincount(shared[who], minlength=4) / len(rows) for who in (rows, other))
    np.testing.assert_allclose(left, right, atol=0.03)


def test_random_negatives_come_from_anywhere(large):
    loader = RegionLoader(large, "train", 128, terms=MultimodalTerms(negatives="random"))
    rows, cells, other, near, _matched = drawn_of(loader)
    assert large.is_open[other, cells].all()
    assert not near.any()
    assert (loader.layout.distance(rows, other) >= 320).all()
    gap = np.abs(composition(large)[rows, 0] - composition(large)[other, 0])
    assert (gap > 0.02).mean() > 0.7


def test_homologs_are_never_negatives(make_store):
    store = make_store(chrom_size=60_000)
    clusters = np.arange(len(store.regions)) % 3
    store.regions = store.regions.with_columns(homology=clusters)
    for negatives in ("random", "matched"):
        terms = MultimodalTerms(negatives=negatives, next=1.0)
        loader = RegionLoader(store, "train", 32, terms=terms)
        loci = loader.loci(0, 0)
        assert (clusters[loci.row_B] != clusters[loci.other.row_B]).all()
        elsewhere = loci.second_B != loci.row_B
        assert elsewhere.any()
        assert (clusters[loci.row_B] != clusters[loci.second_B])[elsewhere].all()


def test_pairs_that_may_not_count_as_apart(store):
    homology = np.arange(len(store.regions))
    homology[500] = homology[40]
    homology[[600, 601]] = -1  # of no cluster
    layout = Layout(positions(store.regions), homology, reach=1200)
    row_B = np.array([40, 41, 44, 500, 40, 600])
    apart = layout.apart(row_B)
    assert not apart.diagonal().any()
    np.testing.assert_array_equal(apart, apart.T)
    same = {(0, 1), (0, 3), (0, 4), (1, 4), (3, 4)}  # close, homologs, the same region twice
    for i in range(6):
        for j in range(i + 1, 6):
            assert apart[i, j] == ((i, j) not in same), (i, j)


def test_batches_hold_apart_pairs_as_the_layout_says(store):
    batch = RegionLoader(store, "train", 32, terms=MultimodalTerms()).batch(0, 0)
    assert not batch.apart_BB.diagonal().any()
    distance = np.abs(positions(store.regions)[batch.row_B][:, None] - 0)
    close = np.abs(distance - distance.T) < 256 + 64
    np.testing.assert_array_equal(batch.apart_BB, ~close)


def test_a_region_alone_in_its_cell_type_is_left_out(make_store, caplog):
    store = make_store(chrom_size=40_000)
    train = np.flatnonzero(store.regions["split"] == "train")
    store.is_open = store.is_open.copy()
    store.is_open[train, 0] = False
    store.is_open[train[5], 0] = True
    loader = RegionLoader(store, "train", 8, terms=MultimodalTerms())
    cells = np.concatenate([loader.batch(0, step).cell_B for step in range(len(loader))])
    assert 0 not in cells
    assert "a single train region is open in liver: left out" in caplog.text


def test_a_group_of_two_gives_the_other_one():
    layout = Layout(np.array([0, 5_000]), np.array([0, 1]), 300)
    covariates = np.array([[0.2, 0.1, 0.0], [0.7, 0.9, 0.5]])
    pool = Pool(layout, np.arange(2), np.zeros(2, int), np.ones(2), covariates)
    drawn = pool.matched(np.array([0, 1, 0]), np.zeros(3, int), np.random.default_rng(0))
    assert drawn.row_B.tolist() == [1, 0, 1]
    assert not drawn.matched_B.any()


def test_entries_are_drawn_by_weight():
    layout = Layout(np.arange(4) * 2_000_000, np.arange(4), 300)
    pool = Pool(
        layout, np.arange(4), np.zeros(4, int), np.array([1.0, 1.0, 2.0, 5.0]), np.zeros((4, 3))
    )
    rows = np.zeros(8000, int)
    for draw in (pool.random, pool.matched):
        found = draw(rows, rows, np.random.default_rng(1)).row_B
        shares = np.bincount(found, minlength=4) / 8000
        np.testing.assert_allclose(shares, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.02)


def test_batches_of_a_stratum_are_alike_in_gc():
    rng = np.random.default_rng(2)
    gc = rng.normal(0.48, 0.08, 3210)
    order = strata(gc, 32, 32, seed=0, epoch=0)
    np.testing.assert_array_equal(np.sort(order), np.arange(3210))
    batches = gc[order][: 3200 // 32 * 32].reshape(-1, 32)
    assert np.median(np.ptp(batches, axis=1)) < 0.02
    # The order of the batches tells nothing.
    assert abs(np.corrcoef(batches.mean(1), np.arange(len(batches)))[0, 1]) < 0.3
    assert (strata(gc, 32, 32, seed=0, epoch=1) != order).any()


def test_in_batch_pairs_are_alike_in_gc(large, loader):
    gaps = []
    for step in range(10):
        gc = loader.batch(0, step).gc_B
        gaps.append(np.abs(gc[:, None] - gc[None, :])[~np.eye(len(gc), dtype=bool)].mean())
    assert np.mean(gaps) < 0.02
    random = RegionLoader(large, "train", 128, terms=MultimodalTerms(negatives="random"))
    gc = random.batch(0, 0).gc_B
    assert np.abs(gc[:, None] - gc[None, :]).mean() > 0.08
