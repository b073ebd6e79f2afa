import warnings

import numpy as np
import pyBigWig
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.example import example_path
from cislens.signal.bigwig import open_bigwig, read_windows, summarize, write_bigwig

ATAC = example_path("yeast_mini/atac_cutsites.bw")
SIZES = {"chr1": 1000, "chr2": 500}


@pytest.mark.peers
@pytest.mark.parametrize("missing", [0.0, np.nan])
def test_windows_are_those_of_pybigwig(missing):
    peer = pyBigWig.open(str(ATAC))
    rng = np.random.default_rng(0)
    chroms = rng.choice(list(peer.chroms()), 200)
    starts = np.array([rng.integers(0, peer.chroms()[c] - 700) for c in chroms])
    expected = np.stack(
        [
            peer.values(c, int(s), int(s) + 700, numpy=True)
            for c, s in zip(chroms, starts, strict=True)
        ]
    )
    if not np.isnan(missing):
        expected = np.nan_to_num(expected)
    np.testing.assert_array_equal(
        read_windows(ATAC, chroms, starts, 700, missing=missing), expected
    )


def test_bases_outside_a_chromosome_and_absent_chromosomes_are_missing(tmp_path):
    write_bigwig(tmp_path / "t.bw", SIZES, "chr1", [0, 995], [5, 1000], np.array([2.0, 3.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_windows(
            tmp_path / "t.bw", np.array(["chr1", "chr1", "chrX"]), [-3, 998, 0], 6, missing=0
        )
    assert found.tolist() == [[0, 0, 0, 2, 2, 2], [3, 3, 0, 0, 0, 0], [0] * 6]
    assert np.isnan(read_windows(tmp_path / "t.bw", "chr1", [-9], 6)).all()


@pytest.mark.peers
def test_what_is_written_is_what_pybigwig_reads(tmp_path):
    rng = np.random.default_rng(1)
    starts = np.arange(0, 960, 32)
    values = rng.normal(size=starts.size).astype(np.float32)
    values[3], values[5] = 0, np.nan
    order = rng.permutation(starts.size)
    path = tmp_path / "w.bw"
    write_bigwig(path, SIZES, "chr1", starts[order], starts[order] + 32, values[order])
    peer = pyBigWig.open(str(path))
    assert peer.chroms() == SIZES
    intervals = peer.intervals("chr1")
    kept = ~np.isnan(values)
    assert [i[0] for i in intervals] == starts[kept].tolist()
    assert [i[1] for i in intervals] == (starts[kept] + 32).tolist()
    np.testing.assert_array_equal([i[2] for i in intervals], values[kept])
    assert peer.intervals("chr2") is None
    np.testing.assert_allclose(peer.stats("chr1", 0, 32)[0], values[0], rtol=1e-6)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    starts = np.arange(0, 500, 5)
    for name in ("a.bw", "b.bw"):
        write_bigwig(tmp_path / name, SIZES, "chr2", starts, starts + 5, np.sin(starts))
    assert (tmp_path / "a.bw").read_bytes() == (tmp_path / "b.bw").read_bytes()


@pytest.mark.parametrize(
    ("chrom", "starts", "ends", "values"),
    [
        ("chrX", [0], [5], [1.0]),
        ("chr1", [990], [1001], [1.0]),
        ("chr1", [0, 3], [5, 8], [1.0, 2.0]),
        ("chr1", [0], [5], [np.inf]),
    ],
)
def test_a_failed_write_says_why_and_leaves_the_old_file(tmp_path, chrom, starts, ends, values):
    path = tmp_path / "w.bw"
    path.write_bytes(b"earlier")
    with pytest.raises(CislensError, match=r"w\.bw cannot be written"):
        write_bigwig(path, SIZES, chrom, starts, ends, np.array(values))
    assert path.read_bytes() == b"earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["w.bw"]


def test_the_summary_is_that_of_the_values():
    summary = summarize(ATAC)
    values = read_windows(ATAC, "chrII", [0], summary.chrom_sizes["chrII"])
    assert summary.chrom_sizes["chrII"] == 813_184
    assert summary.leaves_zeros_out
    assert summary.minimum == 1 == np.nanmin(values)
    assert summary.covered > np.isfinite(values).sum()


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_named(tmp_path, keep):
    data = ATAC.read_bytes()
    path = tmp_path / "cut.bw"
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(CislensError, match=r"cut\.bw cannot be read: .*truncated"):
        summarize(path)


def test_a_file_cut_before_its_data_index_is_named_without_zoom_levels(tmp_path):
    path = tmp_path / "plain.bw"
    writer = pyBigWig.open(str(path), "w")
    writer.addHeader([("chr1", 100_000)], maxZooms=0)
    writer.addEntries("chr1", list(range(0, 90_000, 3)), values=[1.5] * 30_000, span=1)
    writer.close()
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(CislensError, match=r"plain\.bw cannot be read"):
        summarize(path)


def test_another_format_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "x.bw").write_text("track type=bedGraph\n" * 10)
    with pytest.raises(CislensError, match=r"x\.bw is not a bigWig"):
        open_bigwig(tmp_path / "x.bw")
    with pytest.raises(MissingFileError, match="nowhere"):
        open_bigwig(tmp_path / "nowhere.bw")
