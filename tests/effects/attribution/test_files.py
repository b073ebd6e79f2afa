import logging
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.effects.attribution import files
from cislens.effects.attribution.files import (
    contributions,
    read_windows,
    regions_bed,
    write_array,
    write_dynseq,
    write_modisco,
)
from cislens.errors import CislensError
from cislens.genome.codes import encode, one_hot
from cislens.genome.reference import Genome, open_genome
from cislens.signal.bigwig import read_windows as read_signal
from cislens.signal.bigwig import summarize


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    """chr1 of 400 bp and chr2 of 90 bp."""
    rng = np.random.default_rng(3)
    text = "".join(
        f">{name}\n{''.join(rng.choice(list('ACGT'), size))}\n"
        for name, size in (("chr1", 400), ("chr2", 90))
    )
    (tmp_path / "g.fa").write_text(text)
    return open_genome(tmp_path / "g.fa")


def bed(folder: Path, *lines: str) -> Path:
    path = folder / "regions.bed"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def windows_at(*starts: int, width: int = 20, chrom: str = "chr1") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "chrom": [chrom] * len(starts),
            "start": starts,
            "end": [start + width for start in starts],
            "name": [f"w{number}" for number in range(len(starts))],
        }
    )


def test_a_window_is_centered_on_its_region_and_keeps_the_order_of_the_file(
    tmp_path: Path, genome: Genome
) -> None:
    path = bed(tmp_path, "chr2\t40\t50\tb", "chr1\t200\t211\t.")
    windows = read_windows(path, genome, 20)
    assert windows.rows() == [("chr2", 35, 55, "b"), ("chr1", 195, 215, "chr1:200-211")]


def test_regions_of_three_columns_are_called_by_their_place(tmp_path: Path, genome: Genome) -> None:
    windows = read_windows(bed(tmp_path, "1\t200\t210"), genome, 20)
    assert windows.rows() == [("chr1", 195, 215, "chr1:200-210")]


def test_a_summit_is_the_middle_where_the_file_gives_one(tmp_path: Path, genome: Genome) -> None:
    path = tmp_path / "peaks.narrowPeak"
    path.write_text("chr1\t100\t300\tp\t0\t.\t1\t1\t1\t30\n")
    assert read_windows(path, genome, 20).row(0)[:3] == ("chr1", 120, 140)


def test_windows_over_the_ends_are_kept_and_counted(
    tmp_path: Path, genome: Genome, caplog: pytest.LogCaptureFixture
) -> None:
    path = bed(tmp_path, "chr1\t0\t10", "chr2\t80\t90", "chr1\t100\t110")
    with caplog.at_level(logging.WARNING, "cislens"):
        windows = read_windows(path, genome, 40)
    assert windows["start"].to_list() == [-15, 65, 85]
    assert "2 of 3 regions reach over a chromosome's end; they are padded with N" in caplog.text
    codes = genome.windows(windows["chrom"], windows["start"], 40)
    assert (codes == 4).sum(1).tolist() == [15, 15, 0]


def test_a_region_beyond_its_chromosome_is_refused_by_file_and_line(
    tmp_path: Path, genome: Genome
) -> None:
    path = bed(tmp_path, "# peaks", "chr1\t5\t9", "chr2\t60\t91")
    with pytest.raises(CislensError, match=r"regions.bed line 3: chr2:60-91 .* ends at 90"):
        read_windows(path, genome, 20)


def test_a_region_on_a_chromosome_the_genome_lacks_is_refused_by_file_and_line(
    tmp_path: Path, genome: Genome
) -> None:
    path = bed(tmp_path, "chr1\t5\t9", "chr9\t5\t9")
    with pytest.raises(CislensError, match=r"regions.bed line 2: .* no chromosome 'chr9'"):
        read_windows(path, genome, 20)


def test_an_empty_file_of_regions_is_refused(tmp_path: Path, genome: Genome) -> None:
    with pytest.raises(CislensError, match="holds no interval"):
        read_windows(bed(tmp_path, "# nothing"), genome, 20)


SIZE = 300


@given(start=st.integers(-50, SIZE), width=st.integers(1, 99))
def test_the_middle_of_a_row_is_that_of_its_window(start: int, width: int) -> None:
    if start + width // 2 < 0:
        return  # the middle is a base of the chromosome
    if start + width // 2 >= SIZE:
        return
    row = regions_bed(windows_at(start, width=width), {"chr1": SIZE}).rstrip("\n").split("\t")
    left, right = int(row[1]), int(row[2])
    assert 0 <= left < right <= SIZE
    assert right <= start + width + 1
    assert (left + right) // 2 == start + width // 2
    assert row[3:] == ["w0", "0", "."]


def test_an_array_reads_back_and_its_bytes_do_not_depend_on_how_it_was_cut(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(600, 4, 90)).astype(np.float32)
    write_array(tmp_path / "a.npz", array.shape, np.float32, [array])
    cuts = np.split(array, [1, 7, 300])
    write_array(tmp_path / "b.npz", array.shape, np.float32, cuts)
    with np.load(tmp_path / "a.npz") as read:
        assert read.files == ["arr_0"]
        assert np.array_equal(read["arr_0"], array)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_array_that_lacks_rows_is_not_written(tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(CislensError, match="3 rows were given"):
        write_array(tmp_path / "a.npz", (4, 4, 5), np.float32, [array])
    with pytest.raises(CislensError, match="a block of shape"):
        write_array(tmp_path / "a.npz", (3, 4, 6), np.float32, [array])
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_tf_modisco_hold_the_same_regions_row_by_row(tmp_path: Path) -> None:
    x = one_hot(np.stack([encode("ACGTNACGTA"), encode("TTTTTCCCCC")]))
    hypothetical = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    written = write_modisco(tmp_path, windows_at(5, 30, width=10), hypothetical, x, {"chr1": 90})
    assert [path.name for path in written] == ["ohe.npz", "shap.npz", "regions.bed"]
    ohe, shap = (np.load(path)["arr_0"] for path in written[:2])
    assert ohe.dtype == np.int8
    assert np.array_equal(ohe, x)
    assert shap.dtype == np.float32
    assert np.array_equal(shap, hypothetical)
    assert written[2].read_text() == "chr1\t5\t15\tw0\t0\t.\nchr1\t30\t40\tw1\t0\t.\n"
    with pytest.raises(CislensError, match="do not belong together"):
        write_modisco(tmp_path, windows_at(5), hypothetical, x, {"chr1": 90})


def test_a_contribution_is_that_of_the_base_that_is_there() -> None:
    hypothetical = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    x = one_hot(encode("GNT"))[None].astype(np.int8)
    assert contributions(hypothetical, x).tolist() == [[6.0, 0.0, 11.0]]


def test_a_base_of_several_windows_gets_their_mean_and_an_uncovered_one_nothing(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(5)
    # Around 65,536 the writer goes from one stretch to the next; the first window is padded.
    starts = [65_530, -5, 65_520, 90_000, 199_990]
    size, width = 200_000, 20
    x = one_hot(rng.integers(0, 4, (5, width)).astype(np.uint8))
    hypothetical = rng.normal(size=x.shape).astype(np.float32)
    path = tmp_path / "a.bw"
    write_dynseq(path, windows_at(*starts), hypothetical, x, {"chr0": 50, "chr1": size})

    total, count = np.zeros(size), np.zeros(size)
    for start, values in zip(starts, contributions(hypothetical, x), strict=True):
        for at, value in zip(range(start, start + width), values, strict=True):
            if 0 <= at < size:
                total[at] += value
                count[at] += 1
    read = read_signal(path, "chr1", [0], size)[0]
    assert np.array_equal(np.isnan(read), count == 0)
    covered = count > 0
    np.testing.assert_allclose(read[covered], total[covered] / count[covered], atol=1e-6)
    assert summarize(path).covered == covered.sum() == 15 + 30 + 20 + 10


def test_memory_does_not_grow_with_the_number_of_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the windows, 3 MB and 32 MB of maps, within 1.5 times the memory."""
    monkeypatch.setattr(files, "_ROWS_AT_ONCE_BYTES", 1 << 20)
    peaks = []
    for count in (200, 2000):
        shape = (count, 4, 1000)
        kept = np.lib.format.open_memmap(tmp_path / "h", "w+", np.float32, shape)
        x = np.lib.format.open_memmap(tmp_path / "x", "w+", np.int8, shape)
        windows = windows_at(*range(0, 10_000 * count, 10_000), width=1000)
        tracemalloc.start()
        write_modisco(tmp_path, windows, kept, x, {"chr1": 10_000 * count})
        write_dynseq(tmp_path / "a.bw", windows, kept, x, {"chr1": 10_000 * count})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 16e6


def test_a_bigwig_of_a_value_that_is_not_finite_or_of_a_foreign_chromosome_is_refused(
    tmp_path: Path,
) -> None:
    x = one_hot(np.zeros((1, 20), np.uint8))
    infinite = np.full(x.shape, np.inf, np.float32)
    with pytest.raises(CislensError, match="not finite"), np.errstate(invalid="ignore"):
        write_dynseq(tmp_path / "a.bw", windows_at(5), infinite, x, {"chr1": 100})
    with pytest.raises(CislensError, match="'chr1' has no size"):
        write_dynseq(tmp_path / "a.bw", windows_at(5), x, x, {"chr2": 100})
    assert list(tmp_path.iterdir()) == []
