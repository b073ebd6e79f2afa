from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.motifs.archetypes import AUTO, correlation, join_alike
from cislens.motifs.library import read_library
from cislens.motifs.sites import Motif, consensus_motif


def soft(consensus, name, certain=0.85):
    """The consensus with the rest of the probability spread over the other bases."""
    sharp = consensus_motif(consensus).probabilities_W4
    return Motif(name, sharp * (certain - (1 - certain) / 3) + (1 - certain) / 3)


@pytest.fixture
def family():
    """Three forms of one motif, its reverse complement, and two others."""
    return [
        soft("TGACTCA", "M4 JUN"),
        soft("TGACTCAT", "M2 FOS"),
        soft("ATGACTCA", "M3 FOS::JUN"),
        soft("TGAGTCA", "M1 BATF"),
        soft("GGGGCGGGG", "M6 SP1"),
        soft("CAATTAAC", "M5 HB"),
    ]


def test_shift_and_strand_do_not_count_but_every_column_does():
    motif, shifted = soft("TGACGTAA", "a"), soft("CTGACGTA", "b")
    alike = correlation([motif, motif.reverse_complement(), shifted, soft("GGG", "c")])
    assert alike[0, 1] == 1
    # Seven of eight columns agree; the eighth of each has no partner.
    assert alike[0, 2] == pytest.approx(7 / 8, abs=1e-6)
    assert alike[0, 3] < 0.4
    assert np.array_equal(alike, alike.T)


def test_alike_motifs_are_joined_and_the_most_central_stands_for_them(family):
    rows = join_alike(family, 3)
    joined = next(row for row in rows if len(row.members) > 1)
    assert joined.members == ("M1", "M2", "M3", "M4")
    assert joined.factors == ("BATF", "FOS", "JUN")
    near = correlation(sorted(family, key=lambda motif: motif.id)[:4]).mean(1)
    assert joined.motif.id == f"M{int(np.argmax(near)) + 1}"


def test_rows_are_in_the_order_of_the_leaves(family):
    rows = join_alike(family, "none")
    assert [row.leaf for row in rows] == list(range(6))
    ids = [row.motif.id for row in rows]
    places = sorted(ids.index(name) for name in ("M1", "M2", "M3", "M4"))
    assert places[3] - places[0] == 3


def test_the_order_of_the_library_makes_no_difference(family):
    assert [(row.motif.id, row.members, row.leaf) for row in join_alike(family[::-1], 4)] == [
        (row.motif.id, row.members, row.leaf) for row in join_alike(family, 4)
    ]


def test_equally_central_motifs_yield_to_the_first_identifier():
    twins = [soft("TGACTCA", "B"), soft("TGACTCA", "A"), soft("GGGGCGG", "C")]
    assert [row.motif.id for row in join_alike(twins, 2) if len(row.members) == 2] == ["A"]


@pytest.mark.parametrize("wanted", ["auto", "none", 6])
def test_small_libraries_keep_every_motif(family, wanted):
    assert [len(row.members) for row in join_alike(family, wanted)] == [1] * 6


def test_large_libraries_are_cut_to_about_320():
    rng = np.random.default_rng(0)
    many = [Motif(f"M{n:03}", rng.dirichlet([0.3] * 4, 8)) for n in range(400)]
    rows = join_alike(many, "auto")
    assert len(rows) == AUTO
    assert sorted(name for row in rows for name in row.members) == [f"M{n:03}" for n in range(400)]


def test_one_motif_is_one_row(family):
    assert [row.members for row in join_alike(family[:1], "auto")] == [("M4",)]


@pytest.mark.parametrize("wanted", [0, 7])
def test_a_number_that_cannot_be_is_refused(family, wanted):
    with pytest.raises(CislensError, match=f"archetypes: {wanted} of 6 motifs.*from 1 to 6"):
        join_alike(family, wanted)


def test_no_alignment_of_tomtom_correlates_better():
    """Where memelite.tomtom finds two of JASPAR's motifs alike, its alignment is ours.

    The table is what `tomtom(columns, columns)` of memelite 0.5.0 says of the packaged motifs,
    columns being their probabilities. To compile it takes longer than all other tests of motifs.
    """
    path = example_path("motifs/JASPAR2026_vertebrates_subset.meme.gz")
    motifs = read_library(str(path)).motifs
    row_of = {motif.id: row for row, motif in enumerate(motifs)}
    pairs = pl.read_csv(Path(__file__).with_name("tomtom.tsv"), separator="\t")
    assert pairs.height == len(motifs) * (len(motifs) - 1)
    ours = correlation(motifs)
    gaps = []
    for query, target, _p, offset, reverse in pairs.iter_rows():
        a, b = row_of[query], row_of[target]
        other = motifs[b].reverse_complement() if reverse else motifs[b]
        gaps.append(ours[a, b] - at_offset(motifs[a], other, offset))
    gaps, alike = np.array(gaps), (pairs["p"] < 1e-3).to_numpy()
    assert gaps.min() > -1e-6
    assert alike.sum() >= 10
    assert (gaps[alike] < 1e-6).mean() >= 0.9


def at_offset(a, b, offset):
    """Correlation over the union of the columns when column 0 of `a` lies at `offset` of `b`."""
    left, right = a.probabilities_W4 - 0.25, b.probabilities_W4 - 0.25
    pairs = [(at, at + offset) for at in range(len(a)) if 0 <= at + offset < len(b)]
    product = sum((left[i] * right[j]).sum() for i, j in pairs)
    return product / np.sqrt((left**2).sum() * (right**2).sum())
