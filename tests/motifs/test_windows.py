import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.genome.reference import open_genome
from cislens.motifs.windows import WindowRules, flat, without_overlap
from cislens.signal.blacklist import read_blacklist


@pytest.fixture
def genome(tmp_path):
    """chr2 of 5,000 bp, then chr1 of 4,000 of which [2000, 2400) are unknown."""
    path = tmp_path / "toy.fa"
    known = "GGCAT" * 400
    path.write_text(f">chr2\n{'ACGTC' * 1000}\n>chr1\n{known}{'N' * 400}{known[400:]}\n")
    return open_genome(path)


def centers(chrom, *places):
    return pl.DataFrame({"chrom": [chrom] * len(places), "center": places})


def greedy(starts, scores, width):
    """The rule word by word."""
    kept = []
    for row in sorted(range(len(starts)), key=lambda row: (-scores[row], starts[row])):
        if all(abs(starts[row] - starts[other]) >= width for other in kept):
            kept.append(row)
    return sorted(starts[row] for row in kept)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5)), max_size=60),
    st.integers(1, 40),
)
def test_best_first_keeps_what_the_rule_says(windows, width):
    starts = np.array([start for start, _ in windows], np.int64)
    scores = np.array([score for _, score in windows], np.float64)
    kept = without_overlap(starts, scores, width)
    assert starts[kept].tolist() == greedy(starts.tolist(), scores.tolist(), width)


def test_touching_windows_do_not_overlap_and_of_equals_the_first_stays():
    starts = np.array([0, 9, 10, 20], np.int64)
    assert without_overlap(starts, np.ones(4), 10).tolist() == [0, 2, 3]


def test_a_better_window_frees_what_its_loser_would_have_covered():
    # The middle beats the left, the right beats the middle: the left stays.
    kept = without_overlap(np.array([0, 6, 12]), np.array([1.0, 2.0, 3.0]), 10)
    assert kept.tolist() == [0, 2]


def test_the_center_lies_at_half_the_width_and_windows_may_touch_both_ends(genome):
    report = {}
    rules = WindowRules(genome, 100)
    found = rules.windows(centers("chr1", 49, 50, 3950, 3951), report)
    assert found.select("start", "end").rows() == [(0, 100), (3900, 4000)]
    assert report["over_chromosome_ends"] == 2
    odd = WindowRules(genome, 101).windows(centers("chr1", 1000), report)
    assert odd.select("start", "end").rows() == [(950, 1051)]


def test_windows_with_more_than_a_twentieth_unknown_go(genome):
    report = {}
    # Windows of 100 bp that reach 5 and 6 bases into the gap at 2000.
    found = WindowRules(genome, 100).windows(centers("chr1", 1955, 1956), report)
    assert found["center"].to_list() == [1955]
    assert report["with_more_than_5_%_N"] == 1


def test_windows_on_the_blacklist_go_with_twenty_bases_beside_it(genome, tmp_path):
    path = tmp_path / "blacklist.bed"
    path.write_text("2\t1000\t1100\n")
    rules = WindowRules(genome, 100, read_blacklist(path, genome))
    report = {}
    found = rules.windows(centers("chr2", 930, 931, 1050, 1169, 1170), report)
    assert found["center"].to_list() == [930, 1170]
    assert report["on_the_blacklist"] == 3
    assert rules.windows(centers("chr1", 1050), {}).height == 1


def test_no_window_left_is_an_empty_table(genome):
    assert WindowRules(genome, 100).windows(centers("chr1", 2200), {}).is_empty()


def test_chromosomes_follow_each_other_on_one_line(genome):
    table = pl.DataFrame({"chrom": ["chr1", "chr2"], "start": [7, 7]})
    assert flat(table, "start", genome).tolist() == [5007, 7]
    # The last window of chr2 and the first of chr1 touch on that line; both stay.
    ends = pl.DataFrame({"chrom": ["chr2", "chr1"], "start": [4900, 0], "score": [1.0, 1.0]})
    assert WindowRules(genome, 100).apart(ends).height == 2
