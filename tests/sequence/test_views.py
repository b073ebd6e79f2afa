"""Views of windows: every base is where its map says, on the strand that is told."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cislens.genome.codes import N, decode, encode, reverse_complement
from cislens.genome.haplotypes import Haplotypes
from cislens.recipes.sequence_terms import Masks, Views
from cislens.sequence.views import make_views

WINDOW = 120
PLAIN = {"substitutions": (0.0, 0.0), "indels": 0, "reverse_complement": False}


class Genome:
    """A store of one chromosome in memory."""

    species = ("x",)

    def __init__(self, codes, repeat, haplotypes=None, window=WINDOW):
        self.codes, self.repeat, self.window = codes, repeat, window
        self._haplotypes = haplotypes

    def cut(self, species, chrom_B, start_B, length):
        at = start_B[:, None] + np.arange(length)
        return self.codes[at], self.repeat[at]

    def labels(self, species, chrom_B, center_B):
        return (center_B % 2).astype(np.int8)

    def haplotypes(self, species):
        return self._haplotypes

    def chroms(self, species):
        return ("c",)


def genome(seed=0, size=2000, haplotypes=None):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, size, dtype=np.uint8)
    for first in rng.integers(0, size, 20):
        codes[first : first + 9] = N
    repeat = np.repeat(rng.random(size // 10) < 0.3, 10)
    return Genome(codes, repeat, haplotypes)


def people(store, seed=0):
    """20 single bases, insertions and deletions, carried by about half of six haplotypes each."""
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(np.flatnonzero(store.codes[:-5] != N), 200, replace=False))
    rows = []
    for begin in positions.tolist():
        ref = decode(store.codes[begin : begin + int(rng.integers(1, 4))])
        alt = decode(rng.integers(0, 4, int(rng.integers(1, 5)), dtype=np.uint8))
        if "N" not in ref:
            rows.append(("c", begin + 1, ref, alt))
    table = pl.DataFrame(rows, schema=["chrom", "pos", "ref", "alt"], orient="row")
    carried = rng.random((len(rows), 6)) < 0.5
    return Haplotypes(table, np.packbits(carried, axis=1), 6)


def batch_of(store, views, masks=None, seed=0, size=8, kmer=1):
    start_B = np.random.default_rng(seed).integers(0, len(store.codes) - store.window, size)
    nothing = np.zeros(size, np.int64)
    rng = np.random.default_rng(seed + 1)
    return make_views(store, nothing, nothing, start_B, views, masks, rng, kmer)


def forward(views):
    """Targets, repeats and places of all views (R, L) as they lie in the genome, and windows."""
    number, windows, length = views.target_VBL.shape
    turned = np.repeat(views.turned_VB.ravel()[:, None], length, 1)
    target, repeat, place = (
        part.reshape(-1, length) for part in (views.target_VBL, views.repeat_VBL, views.place_VBL)
    )
    return (
        np.where(turned, reverse_complement(target), target),
        np.where(turned, repeat[:, ::-1], repeat),
        np.where(turned, place[:, ::-1], place),
        np.tile(np.arange(windows), number),
    )


drawn_views = st.builds(
    Views,
    length=st.integers(16, WINDOW),
    local_length=st.integers(8, WINDOW),
    count=st.integers(1, 3),
    local_count=st.integers(0, 2),
    reverse_complement=st.booleans(),
    substitutions=st.just((0.0, 0.0)),
    indels=st.integers(0, 3),
    indel_length=st.integers(1, 12),
)


@settings(max_examples=60)
@given(drawn_views, st.integers(0, 50))
def test_each_base_of_a_view_is_the_base_of_its_place(views, seed):
    store = genome(seed)
    made = batch_of(store, views, seed=seed)
    at = made.start_B[:, None] + np.arange(WINDOW)
    np.testing.assert_array_equal(made.parent_BP, store.codes[at])
    assert made.whole.target_VBL.shape == (views.count, 8, views.length)
    assert (made.local is None) == (views.local_count == 0)
    for part in filter(None, (made.whole, made.local)):
        target, repeat, place, window = forward(part)
        real = place >= 0
        row = np.repeat(window[:, None], place.shape[1], 1)
        # Nothing is invented but what was inserted, which is never N.
        np.testing.assert_array_equal(target[real], made.parent_BP[row, place][real])
        np.testing.assert_array_equal(repeat[real], store.repeat[at][row, place][real])
        assert (target[~real] != N).all()
        assert place.max() < WINDOW
        for place_L in place:
            assert (np.diff(place_L[place_L >= 0]) >= 1).all()
        if not views.indels:
            assert (np.diff(place) == 1).all()
        if not views.reverse_complement:
            assert not part.turned_VB.any()


@settings(max_examples=25)
@given(drawn_views, st.integers(0, 50))
def test_views_that_see_the_same_place_see_the_same_base(views, seed):
    made = batch_of(genome(seed), views.model_copy(update={"count": 2}), seed=seed)
    target, _, place, _ = forward(made.whole)
    for window in range(8):
        one, other = window, window + 8
        shared, left, right = np.intersect1d(place[one], place[other], return_indices=True)
        inside = shared >= 0
        np.testing.assert_array_equal(target[one][left[inside]], target[other][right[inside]])


@settings(max_examples=40)
@given(drawn_views, st.integers(0, 50))
def test_views_of_a_haplotype_carry_its_alleles_and_nothing_else(views, seed):
    store = genome(seed)
    store._haplotypes = people(store, seed)
    views = views.model_copy(update={"haplotypes": True, "indels": 0, "local_count": 0})
    made = batch_of(store, views, seed=seed)
    target, _, place, window = forward(made.whole)
    for row, (target_L, place_L) in enumerate(zip(target, place, strict=True)):
        start = int(made.start_B[window[row]])
        explained = []
        for haplotype in range(6):
            found = store._haplotypes.alleles("c", start, start + WINDOW, haplotype)
            explained.append(explains(store, start, found, target_L, place_L))
        assert any(explained)


def explains(store, start, alleles, target_L, place_L):
    """Whether each base is the one that a haplotype has at its place."""
    changed = {}
    for first, count, alt in alleles:
        # A deletion is not carried where it would leave too little for the view.
        spared = count > len(alt)
        for k in range(count):
            base = alt[k] if k < len(alt) else None
            changed[first - start + k] = {base} | ({store.codes[first + k]} if spared else set())
    pairs = zip(target_L.tolist(), place_L.tolist(), strict=True)
    return all(
        base in changed.get(place, {store.codes[start + place]})
        for base, place in pairs
        if place >= 0
    )


def test_an_allele_is_in_the_views_of_those_who_carry_it_on_either_strand():
    store = genome(3)
    store.codes[:] = encode("ACGT" * 500)
    table = pl.DataFrame(
        [("c", 51, "G", "T"), ("c", 61, "A", "AGGG"), ("c", 71, "GT", "G")],
        schema=["chrom", "pos", "ref", "alt"],
        orient="row",
    )
    store._haplotypes = Haplotypes(table, np.packbits([[0, 1]] * 3, axis=1), 2)
    views = Views(**{**PLAIN, "reverse_complement": True}, length=110, haplotypes=True, count=40)
    nothing = np.zeros(1, np.int64)
    made = make_views(store, nothing, nothing, nothing, views, None, np.random.default_rng(0))
    target, _, place, _ = forward(made.whole)
    with_insertion = (place < 0).any(1)
    assert with_insertion.sum() == pytest.approx(20, abs=10)
    for target_L, place_L, carries in zip(target, place, with_insertion, strict=True):
        assert decode(target_L[place_L == 50]) == ("T" if carries else "G")
        assert (71 in place_L) == (not carries)
        if carries:
            behind = np.flatnonzero(place_L == 60)[0]
            assert place_L[behind : behind + 5].tolist() == [60, -1, -1, -1, 61]
            assert decode(target_L[behind : behind + 5]) == "AGGGC"


def test_a_turned_view_by_hand():
    codes = encode("AACGTNNGATTACCGTAAAA")
    repeat = np.arange(20) < 4
    store = Genome(codes, repeat, window=16)
    views = Views(substitutions=(0, 0), indels=0, length=16, count=64, local_count=0)
    nothing = np.zeros(1, np.int64)
    masks = Masks(kind="bases", base_rate=0.4)
    made = make_views(store, nothing, nothing, nothing, views, masks, np.random.default_rng(0))
    assert 16 < made.whole.turned_VB.sum() < 48
    seen = set()
    for view, turned in enumerate(made.whole.turned_VB[:, 0]):
        target, place = made.whole.target_VBL[view, 0], made.whole.place_VBL[view, 0]
        sequence = "ACGGTAATCNNACGTT" if turned else "AACGTNNGATTACCGT"
        assert decode(target) == sequence
        assert place.tolist() == (list(range(15, -1, -1)) if turned else list(range(16)))
        soft = made.whole.repeat_VBL[view, 0].nonzero()[0].tolist()
        assert soft == ([12, 13, 14, 15] if turned else [0, 1, 2, 3])
        # What is asked is told in the orientation in which it is read.
        kept = ~made.whole.scored_VBL[view, 0]
        np.testing.assert_array_equal(made.whole.codes_VBL[view, 0][kept], target[kept])
        seen.add(sequence)
    assert len(seen) == 2
    np.testing.assert_array_equal(made.repeat_B, [0.25])
    np.testing.assert_array_equal(made.label_B, [0])


def test_substitutions_of_a_view_are_at_their_rate_and_never_at_n():
    store = genome(1)
    views = Views(**{**PLAIN, "substitutions": (0.02, 0.06)}, length=100, count=100)
    made = batch_of(store, views)
    target, _, place, window = forward(made.whole)
    parent = made.parent_BP[window[:, None], place]
    called = parent != N
    np.testing.assert_array_equal(target == N, ~called)
    shares = (target != parent).sum(1) / called.sum(1)
    assert shares.mean() == pytest.approx(0.04, abs=0.003)
    # More spread than at one rate: 0.0196 of chance and 0.0115 of the rates.
    assert shares.std() == pytest.approx(0.0228, abs=0.003)


@pytest.mark.parametrize(("kind", "rate"), [("bases", 0.15), ("spans", 0.3), ("mixed", 0.225)])
def test_share_of_bases_asked_and_what_is_shown_of_them(kind, rate):
    store = genome(2)
    views = Views(length=100, count=200, local_count=2)
    made = batch_of(store, views, Masks(kind=kind))
    whole, called = made.whole, made.whole.target_VBL != N
    assert whole.scored_VBL.sum() / called.sum() == pytest.approx(rate, abs=0.02)
    assert whole.hidden_VBL.sum() / whole.scored_VBL.sum() == pytest.approx(0.8, abs=0.03)
    assert not (whole.scored_VBL & ~called).any()
    assert not (whole.hidden_VBL & ~whole.scored_VBL).any()
    assert (whole.codes_VBL[whole.hidden_VBL] == N).all()
    kept = ~whole.scored_VBL
    np.testing.assert_array_equal(whole.codes_VBL[kept & called], whole.target_VBL[kept & called])
    assert not made.local.hidden_VBL.any()
    assert not made.local.scored_VBL.any()
    np.testing.assert_array_equal(made.local.codes_VBL, made.local.target_VBL)


def test_half_of_the_views_have_spans():
    """Spans ask for 30 % or more of the bases, but for the last of them; single bases for 0.1 %."""
    store = Genome(np.zeros(3000, np.uint8), np.zeros(3000, bool))
    masks, views = Masks(base_rate=0.001, span_rate=(0.3, 0.5)), Views(length=100, count=1)
    for size in (8, 1):
        made = [batch_of(store, views, masks, seed, size).whole for seed in range(60)]
        wide = np.stack([(whole.scored_VBL[0].mean(1) > 0.03).sum() for whole in made])
        # Exactly half of an even number; of a single one, as likely as not.
        if size == 8:
            assert (wide == 4).all()
        assert wide.mean() == pytest.approx(size / 2, abs=0.2)


def test_masks_for_a_reader_of_kmers_leave_no_gap_shorter_than_a_token():
    store = Genome(np.zeros(3000, np.uint8), np.zeros(3000, bool))
    made = batch_of(store, Views(length=100, substitutions=(0, 0)), Masks(), kmer=5)
    for hidden in made.whole.hidden_VBL.reshape(-1, 100):
        text = "".join("x" if base else "." for base in hidden)
        assert all(len(gap) >= 5 for gap in text.split("x") if gap)


def test_the_same_generator_gives_the_same_views_and_another_gives_others():
    store, views = genome(5), Views(length=60)
    one, same = (batch_of(store, views, Masks(), 1) for _ in range(2))
    nothing = np.zeros(8, np.int64)
    rng = np.random.default_rng(77)
    other = make_views(store, nothing, nothing, one.start_B, views, Masks(), rng)
    for name in vars(one.whole):
        np.testing.assert_array_equal(getattr(one.whole, name), getattr(same.whole, name))
        assert (getattr(one.whole, name) != getattr(other.whole, name)).any()


def test_windows_of_several_species_come_each_from_its_own():
    stores = {name: genome(seed) for seed, name in enumerate("xy")}
    both = SimpleNamespace(
        species=("x", "y"),
        window=WINDOW,
        cut=lambda name, *where: stores[name].cut(name, *where),
        labels=lambda name, chrom_B, center_B: np.full(len(chrom_B), "xy".index(name), np.int8),
    )
    species_B, start_B = np.array([1, 0, 1, 1]), np.array([5, 500, 900, 3])
    rng = np.random.default_rng(0)
    made = make_views(both, species_B, species_B * 0, start_B, Views(length=60), None, rng)
    for row, (number, start) in enumerate(zip(species_B, start_B, strict=True)):
        expected = stores["xy"[number]].codes[start : start + WINDOW]
        np.testing.assert_array_equal(made.parent_BP[row], expected)
    np.testing.assert_array_equal(made.label_B, species_B)
