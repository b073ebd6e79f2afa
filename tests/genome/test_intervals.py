import gzip

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.errors import CislensError, MissingFileError
from cislens.example import example_path
from cislens.genome.intervals import Spans, centered, read_intervals, tile, within


def bed(tmp_path, text, name="some.bed"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_bed_columns_are_named_by_the_format(tmp_path):
    text = "# note\ntrack name=x\nchr1\t0\t10\ta\t5\t+\n\nchr2\t3\t4\tb\t.\t-\n"
    frame = read_intervals(bed(tmp_path, text))
    assert frame.columns == ["chrom", "start", "end", "name", "score", "strand"]
    assert frame.rows() == [("chr1", 0, 10, "a", 5.0, "+"), ("chr2", 3, 4, "b", None, "-")]


def test_spaces_windows_line_ends_and_a_header_are_read(tmp_path):
    frame = read_intervals(bed(tmp_path, "chr1 0 10\r\nchr1 5 6\r\n"))
    assert frame.rows() == [("chr1", 0, 10), ("chr1", 5, 6)]
    frame = read_intervals(bed(tmp_path, "chrom\tstart\tend\nchr1\t0\t10\n"))
    assert frame.rows() == [("chr1", 0, 10)]


def test_columns_foreign_to_the_format_are_kept_as_text(tmp_path):
    frame = read_intervals(bed(tmp_path, "chr20\t5\t90\tHepG2|MAFK\t37.3\t42\n"))
    assert frame.columns == ["chrom", "start", "end", "name", "score", "column_6"]
    assert frame["column_6"].to_list() == ["42"]


def test_packaged_files_are_read_whole():
    peaks = read_intervals(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz"))
    assert peaks.row(1, named=True)["summit"] == 5518 + 225
    assert peaks.select((pl.col("start") <= pl.col("summit")).all()).item()
    assert peaks.select((pl.col("summit") < pl.col("end")).all()).item()
    genes = read_intervals(example_path("pombe_mini/genes.bed12.gz"))
    assert (len(genes), genes.columns[-1]) == (644, "block_starts")
    assert read_intervals(example_path("yeast_mini/genes.bed.gz"))["column_7"].unique().to_list()
    assert read_intervals(example_path("human_mini/fBrain_DHS.bed.gz")).width == 3


def test_narrow_peak_without_a_summit_has_none(tmp_path):
    text = "chr1\t10\t20\tp\t0\t.\t1.5\t-1\t-1\t-1\nchr1\t10\t20\tp\t0\t.\t1.5\t-1\t-1\t3\n"
    frame = read_intervals(bed(tmp_path, text, "x.narrowPeak"))
    assert frame["summit"].to_list() == [None, 13]
    assert centered(frame, 4)["start"].to_list() == [13, 11]


def test_broad_peak(tmp_path):
    frame = read_intervals(bed(tmp_path, "chr1\t1\t2\tp\t0\t.\t1.5\t2\t3\n", "x.broadPeak"))
    assert frame.columns[-3:] == ["signal", "p_value", "q_value"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.bed",
            "chr1\t0\t9\n# x\nchr1\t9\t9\n",
            "line 3: start 9 and end 9, expected 0 <= start",
        ),
        ("a.bed", "chr1\t-1\t9\n", "line 1: start -1 and end 9"),
        ("a.bed", "chr1\t0\t9\nchr1\tten\t90\n", "line 2: start is 'ten', expected a whole number"),
        ("a.bed", "chr1\t0\t1e3\n", "line 1: end is '1e3', expected a whole number"),
        ("a.bed", "chr1\t0\t9\nchr1\t3\n", "line 2: 2 columns, expected 3"),
        ("a.bed", "chr1\t0\t9\tn\t0\t+\nchr1\t0\t9\tn\t0\tx\n", "line 2: strand is 'x'"),
        ("a.bed", "chr1\t0\t9\tn\t0\nchr1\t0\t9\tn\thigh\n", "line 2: score is 'high'"),
        ("a.bed", "# only a comment\n", "holds no interval"),
        ("a.narrowPeak", "chr1\t0\t9\n", "line 1: 3 columns, but a file of this kind has 10"),
        ("a.narrowPeak", "chr1\t0\t9\tp\t0\t.\t1\t1\t1\t9\n", "line 1: summit offset 9 lies out"),
    ],
)
def test_broken_intervals_name_file_and_line(tmp_path, name, text, message):
    path = bed(tmp_path, text, name)
    with pytest.raises(CislensError, match=message) as error:
        read_intervals(path)
    assert str(path) in str(error.value)


def test_missing_truncated_and_binary_files(tmp_path):
    with pytest.raises(MissingFileError):
        read_intervals(tmp_path / "no.bed")
    path = tmp_path / "cut.bed.gz"
    path.write_bytes(gzip.compress(b"chr1\t0\t10\n" * 500)[:-20])
    with pytest.raises(CislensError, match=r"cut\.bed\.gz is truncated or damaged gzip"):
        read_intervals(path)
    path = tmp_path / "image.bed"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(CislensError, match="is not a text file"):
        read_intervals(path)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 500), min_size=1),
    st.integers(1, 100),
    st.integers(1, 60),
)
def test_tiles_are_all_windows_on_the_grid_inside(sizes, width, stride):
    if width > max(sizes.values()):
        with pytest.raises(CislensError, match="longer than every chromosome"):
            tile(sizes, width, stride)
        return
    expected = [
        (chrom, start, start + width)
        for chrom, size in sizes.items()
        for start in range(0, size, stride)
        if start + width <= size
    ]
    assert tile(sizes, width, stride).rows() == expected


@given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 300))
def test_the_center_lies_at_half_the_width(start, length, width):
    frame = pl.DataFrame({"chrom": ["a"], "start": [start], "end": [start + length]})
    window = centered(frame, width)
    assert window["end"][0] - window["start"][0] == width
    assert window["start"][0] + width // 2 == start + length // 2
    at_summit = centered(frame.with_columns(summit=pl.lit(start)), width)
    assert at_summit["start"][0] + width // 2 == start


def test_windows_over_an_end_are_dropped_and_counted(caplog):
    frame = pl.DataFrame({"chrom": ["a"] * 3, "start": [0, 40, 95], "end": [2, 60, 99]})
    with caplog.at_level("INFO", "cislens"):
        kept = centered(frame, 20, {"a": 100})
    assert kept.rows() == [("a", 40, 60)]
    assert "2 of 3 windows reach over" in caplog.text
    with pytest.raises(CislensError, match="lie on 'a', which the genome does not have"):
        within(frame, {"chr1": 100})


intervals = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 20)), min_size=1, max_size=20)


@given(intervals, intervals)
def test_spans_know_every_overlap(union, asked):
    spans = Spans.of(
        pl.DataFrame({"start": [s for s, _ in union], "end": [s + n for s, n in union]})
    )
    covered = np.zeros(200, bool)
    for start, length in union:
        covered[start : start + length] = True
    starts = np.array([s for s, _ in asked])
    ends = starts + np.array([n for _, n in asked])
    expected = [covered[s:e].any() for s, e in zip(starts, ends, strict=True)]
    assert spans.overlap(starts, ends).tolist() == expected
