import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.genome.reference import open_genome
from cislens.motifs.cells import read_cell
from cislens.recipes.regions import CellSection


@pytest.fixture
def genome(tmp_path):
    """chr2 of 5,000 bp before chr1 of 4,000: not the order of the alphabet."""
    path = tmp_path / "toy.fa"
    path.write_text(">chr2\n" + "ACGTC" * 1000 + "\n>chr1\n" + "GGCAT" * 800 + "\n")
    return open_genome(path)


@pytest.fixture
def cell(tmp_path, genome):
    """Reads one cell type from the text of a peak file."""

    def read(text, name="peaks.bed", exclude=(), **section):
        path = tmp_path / name
        path.write_text(text)
        return read_cell("liver", CellSection(peaks=path, **section), genome, exclude)

    return read


def test_the_center_is_the_summit_or_else_the_midpoint(cell):
    text = "chr1\t100\t200\ta\t0\t.\t3\t-1\t-1\t30\nchr1\t300\t401\tb\t0\t.\t1\t-1\t-1\t-1\n"
    peaks = cell(text, "a.narrowPeak").peaks
    assert peaks["center"].to_list() == [130, 350]
    assert peaks["score"].to_list() == [750_000, 250_000]


def test_rows_are_sorted_by_the_order_of_the_genome_whatever_theirs(cell):
    places = [(1, 10, 0.1), (2, 900, 0.7), (2, 30, 1 / 3), (1, 700, 0.2), (1, 400, 1e-9)]
    rows = [f"chr{chrom}\t{start}\t{start + 50}\tp\t{score}" for chrom, start, score in places]
    first = cell("\n".join(rows) + "\n").peaks
    assert first.select("chrom", "start").rows() == [
        ("chr2", 30), ("chr2", 900), ("chr1", 10), ("chr1", 400), ("chr1", 700),
    ]  # fmt: skip
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(rows)
        again = cell("\n".join(shuffled) + "\n").peaks
        assert again["score"].to_numpy().tobytes() == first["score"].to_numpy().tobytes()
        assert again.equals(first)


def test_a_list_of_no_files_is_refused():
    with pytest.raises(ValueError, match="`peaks` lists no file"):
        CellSection(peaks=[], fragments="fragments.tsv")


def test_several_files_are_one_set_of_peaks(tmp_path, genome, cell):
    whole = cell("chr1\t0\t50\tp\t1\nchr2\t0\t50\tp\t3\n")
    (tmp_path / "one.bed").write_text("chr2\t0\t50\tp\t3\n")
    (tmp_path / "two.bed").write_text("chr1\t0\t50\tp\t1\n")
    section = CellSection(peaks=[tmp_path / "one.bed", tmp_path / "two.bed"])
    parts = read_cell("liver", section, genome)
    assert parts.peaks.equals(whole.peaks)
    assert parts.report["read"] == 2


def test_duplicates_are_collapsed_to_the_best_score_and_counted(cell):
    found = cell("chr1\t0\t50\tp\t1\nchr1\t0\t50\tq\t3\nchr1\t0\t60\tr\t1\n")
    assert found.report["duplicates"] == 1
    assert found.peaks.select("end", "score").rows() == [(50, 750_000), (60, 250_000)]


def test_two_summits_of_one_peak_are_no_duplicates(cell):
    line = "chr1\t100\t200\ta\t0\t.\t3\t-1\t-1\t{}\n"
    found = cell(line.format(30) + line.format(70), "a.narrowPeak")
    assert found.peaks["center"].to_list() == [130, 170]


def test_foreign_contigs_and_excluded_chromosomes_are_left_out_and_counted(cell):
    text = "1\t0\t50\nchr2\t0\t50\nchrUn_7\t0\t50\n"
    found = cell(text, exclude=["chr2"])
    assert found.peaks.select("chrom", "score").rows() == [("chr1", 1_000_000)]
    report = found.report
    assert (report["read"], report["on_foreign_contigs"]) == (3, 1)
    assert (report["on_excluded_chromosomes"], report["peaks"]) == (1, 1)


def test_a_cell_type_without_peaks_left_says_where_they_went(cell):
    message = r"'liver' has no peak left of 2 read \(2 on excluded chromosomes\)"
    with pytest.raises(CislensError, match=message):
        cell("chr1\t0\t50\nchr1\t60\t80\n", exclude=["chr1"])
    with pytest.raises(CislensError, match=r"(?s)no chromosome of .*peaks.bed \(cell type 'liver'"):
        cell("X\t0\t50\n")


def test_a_peak_may_end_with_its_chromosome_but_not_beyond(cell):
    assert cell("chr1\t3990\t4000\n").peaks.height == 1
    with pytest.raises(CislensError, match=r"peak 2 \(chr1:3990-4001\) .* has 4,000 bp .*\(1 of"):
        cell("chr2\t0\t50\nchr1\t3990\t4001\n")


def test_a_pattern_picks_peaks_of_a_pooled_file(cell):
    text = "chr1\t0\t50\tK562|CTCF\t1\nchr1\t90\t99\tHepG2|CTCF\t1\nchr2\t0\t50\tK562|MAX\t1\n"
    assert cell(text, named="K562|*").peaks["chrom"].to_list() == ["chr2", "chr1"]
    assert cell(text, named="*|CTCF").report["read"] == 2
    with pytest.raises(CislensError, match=r"no peak named 'K526\|MAX'.*Did you mean 'K562\|MAX'"):
        cell(text, named="K526|MAX")
    with pytest.raises(CislensError, match=r"no column 'nmae' of names\. Did you mean 'name'"):
        cell(text, named="K562|*", column="nmae")


def test_scores_come_from_the_signal_then_the_score_then_are_equal(cell):
    narrow = "chr1\t{}\t{}\ta\t{}\t.\t{}\t-1\t-1\t3\n"
    text = narrow.format(0, 50, 9, 1) + narrow.format(60, 90, 1, 3)
    assert cell(text, "a.narrowPeak").peaks["score"].to_list() == [250_000, 750_000]
    assert cell(text, "a.narrowPeak", score="score").peaks["score"].to_list() == [900_000, 100_000]
    without = narrow.format(0, 50, 9, 0) + narrow.format(60, 90, 1, 0)
    assert cell(without, "a.narrowPeak").peaks["score"].to_list() == [900_000, 100_000]
    assert cell("chr1\t0\t50\nchr1\t60\t70\n").peaks["score"].to_list() == [500_000, 500_000]
    zeros = "chr1\t0\t50\ta\t0\t+\nchr1\t60\t70\ta\t0\t+\n"
    assert cell(zeros).peaks["score"].to_list() == [500_000, 500_000]


@pytest.mark.parametrize(
    ("text", "section", "message"),
    [
        ("chr1\t0\t50\tp\t5\nchr1\t60\t70\tp\t-1\n", {}, r"peak 2 \(chr1:60-70\): score is -1.0"),
        ("chr1\t0\t50\tp\t5\nchr1\t60\t70\tp\t.\n", {}, "peak 2 .*score is None, expected a score"),
        ("chr1\t0\t50\tp\t5\n", {"score": "name"}, "name is 'p', expected a score from 0 on"),
        ("chr1\t0\t50\tp\t5\n", {"score": "scroe"}, "no column 'scroe' of scores. Did you mean"),
        ("chr1\t0\t50\tp\t5\n", {"summit": "peak"}, "no column 'peak' of summit offsets"),
        ("chr1\t0\t50\tp\t5\t51\n", {"summit": "column_6"}, "column_6 is '51', expected an off"),
    ],
)
def test_a_score_or_summit_that_is_none_names_the_peak(cell, text, section, message):
    with pytest.raises(CislensError, match=message):
        cell(text, **section)


def test_a_column_of_offsets_gives_the_summit(cell):
    text = "chr1\t100\t150\tp\t5\t20\nchr1\t200\t250\tp\t5\t50\nchr1\t300\t350\tp\t5\t-1\n"
    # 50 of 50 bp lies right behind the last base, as ENCODE's sets from SPP have it at times.
    assert cell(text, summit="column_6").peaks["center"].to_list() == [120, 249, 325]


def test_fragments_alone_give_cuts_and_no_peaks(tmp_path, genome):
    path = tmp_path / "fragments.tsv"
    path.write_text("chr2\t10\t60\nchr1\t10\t60\n")
    found = read_cell("liver", CellSection(fragments=path), genome, exclude=["chr2"])
    assert found.peaks.is_empty()
    assert found.cuts.rows() == [("chr1", 10), ("chr1", 59)]
    assert found.report == {"cut_sites": 2}


def test_the_pooled_peaks_of_a_real_cell_line(core_data):
    human = core_data / "human_hg19_chr20_21"
    section = CellSection(
        peaks=human / "peaks/ENCODE_DREAM_conservative_TF_peaks.bed.gz",
        named="K562|*", summit="column_6",
    )  # fmt: skip
    found = read_cell("K562", section, open_genome(human / "hg19_chr20_21.fa.gz"))
    assert found.report["read"] == 11_336  # of 97,675 in the file
    assert found.peaks["score"].sum() == pytest.approx(1e6)
