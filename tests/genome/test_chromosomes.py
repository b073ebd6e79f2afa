import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.chromosomes import match_names

YEAST = ["chrI", "chrII", "chrIII", "chrIV", "chrX", "chrM"]


def test_equal_names_match_as_they_are():
    matched = match_names(["chr2", "chr1"], ["chr1", "chr2"], "a.bed")
    assert matched.mapping == {"chr2": "chr2", "chr1": "chr1"}
    assert matched.report == "a.bed: 2 of 2 chromosome names are in the genome."


def test_prefix_mitochondrion_and_roman_numbers():
    matched = match_names(["1", "2", "10", "MT"], YEAST, "a.bed")
    assert matched.mapping == {"1": "chrI", "2": "chrII", "10": "chrX", "MT": "chrM"}
    assert "Renamed: 1 -> chrI, 2 -> chrII, 10 -> chrX, MT -> chrM." in matched.report
    assert match_names(["I", "IV", "Mito"], YEAST, "x").mapping == {
        "I": "chrI", "IV": "chrIV", "Mito": "chrM",
    }  # fmt: skip
    assert match_names(YEAST, ["1", "2", "3", "4", "10"], "x").mapping == {
        "chrI": "1", "chrII": "2", "chrIII": "3", "chrIV": "4", "chrX": "10",
    }  # fmt: skip


def test_chromosome_x_is_not_the_tenth_where_numbers_are_arabic():
    matched = match_names(["X", "10"], ["chr10", "chrX"], "x")
    assert matched.mapping == {"X": "chrX", "10": "chr10"}
    assert match_names(["chrX", "chr1"], ["1", "10"], "x").mapping == {"chr1": "1"}


def test_nothing_is_lost_in_silence(caplog):
    matched = match_names(["1", "GL000192.1"], ["chr1"], "peaks.bed")
    assert "peaks.bed: 1 of 2 chromosome names are in the genome." in caplog.text
    assert "Left out: GL000192.1." in caplog.text
    frame = pl.DataFrame({"chrom": ["1", "GL000192.1", "1"], "start": [1, 2, 3]})
    assert matched.rename(frame).rows() == [("chr1", 1), ("chr1", 3)]


def test_no_common_name_names_both_sides():
    with pytest.raises(CislensError, match=r"no chromosome of a\.bw .* has foo, .*has chr1, chr2"):
        match_names(["foo"], ["chr1", "chr2"], "a.bw")


def test_two_names_for_one_chromosome():
    with pytest.raises(CislensError, match=r"both 'chr1' and '1', which would both be 'chr1'"):
        match_names(["chr1", "1"], ["chr1"], "a.bed")


@pytest.mark.parametrize("found", [["XVI"], ["XVI", "chrV"], ["chrXVI", "IX"]])
def test_one_roman_number_is_found_in_a_genome_that_counts_in_them(found: list[str]) -> None:
    known = ["chrI", "chrII", "chrIII", "chrIV", "chrV", "chrIX", "chrXVI"]
    expected = {name: "chr" + name.removeprefix("chr") for name in found}
    assert match_names(found, known, "a file").mapping == expected


def test_the_tenth_chromosome_is_not_taken_for_x() -> None:
    known = ["chrI", "chrII", "chrIII", "chrIV", "chrX"]
    assert match_names(["10", "2"], known, "a file").mapping == {"10": "chrX", "2": "chrII"}
    assert match_names(["X"], ["chr1", "chr10", "chrX"], "a file").mapping == {"X": "chrX"}
