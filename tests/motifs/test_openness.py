import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.errors import CislensError
from cislens.genome.reference import open_genome
from cislens.motifs.cells import read_cell
from cislens.motifs.openness import openness, overlapping
from cislens.recipes.regions import CellSection
from cislens.signal.bigwig import write_bigwig


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    path.write_text(">chr2\n" + "ACGTC" * 1000 + "\n>chr1\n" + "GGCAT" * 800 + "\n")
    return open_genome(path)


def places(*rows):
    return pl.DataFrame(list(rows), schema=["chrom", "start", "end"], orient="row")


REGIONS = places(("chr2", 4900, 5000), ("chr1", 0, 100), ("chr1", 300, 400), ("chr1", 400, 500))


@pytest.fixture
def cell(tmp_path, genome):
    def read(peaks=None, cuts=None):
        files = {}
        for kind, text in (("peaks", peaks), ("fragments", cuts)):
            if text is not None:
                files[kind] = tmp_path / f"{kind}.bed"
                files[kind].write_text(text)
        return read_cell("liver", CellSection(**files), genome)

    return read


def test_a_region_is_open_where_a_peak_shares_a_base(cell, genome):
    found = cell("chr2\t4800\t4900\tp\t1\nchr1\t99\t300\tp\t3\nchr1\t350\t410\tp\t4\n")
    opened, access = openness(found, None, REGIONS, genome)
    assert opened.tolist() == [False, True, True, True]
    assert access.tolist() == [0, 375_000, 500_000, 500_000]


def test_the_best_peak_over_a_region_tells_its_accessibility(cell, genome):
    found = cell("chr1\t310\t320\tp\t3\nchr1\t330\t340\tp\t5\nchr1\t350\t360\tp\t2\n")
    assert openness(found, None, REGIONS, genome)[1].tolist() == [0, 0, 500_000, 0]


@given(
    st.lists(st.integers(0, 48), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)), max_size=12),
)
def test_all_pairs_that_share_a_base_are_found(genome, tiles, peaks):
    starts = sorted({tile * 20 for tile in tiles})
    regions = places(*(("chr1", start, start + 30) for start in starts))
    table = places(*(("chr1", start, start + length) for start, length in peaks))
    table = table if peaks else REGIONS.clear()
    found = set(zip(*map(np.ndarray.tolist, overlapping(regions, table, genome)), strict=True))
    assert found == {
        (row, peak)
        for row, start in enumerate(starts)
        for peak, (left, length) in enumerate(peaks)
        if left < start + 30 and start < left + length
    }


def test_cut_sites_are_counted_half_open_and_peaks_still_tell_what_is_open(cell, genome):
    # Sites at 299, 300, 399 and 400.
    found = cell("chr1\t0\t10\n", cuts="chr1\t299\t401\nchr1\t300\t400\n")
    opened, access = openness(found, None, REGIONS, genome)
    assert opened.tolist() == [False, True, False, False]
    assert access.tolist() == [0, 0, 2, 1]


def test_a_cell_type_of_fragments_alone_is_open_where_cuts_crowd(cell, genome):
    """100 sites on 9,000 bp are 1.1 in 100 bp; by chance 8 are there with p = 2e-5, 9 with 3e-6."""
    cuts = "chr1\t310\t390\n" * 4 + "chr1\t410\t490\n" * 4 + "chr1\t490\t600\n"
    scattered = "".join(f"chr2\t{n}\t{n + 50}\n" for n in range(0, 4100, 100))
    found = cell(cuts=cuts + scattered)
    assert found.cuts.height == 100
    opened, access = openness(found, None, REGIONS, genome)
    assert access.tolist() == [0, 0, 8, 9]
    assert opened.tolist() == [False, False, False, True]


def test_a_signal_is_averaged_with_zero_where_the_file_has_none(cell, genome, tmp_path):
    path = tmp_path / "signal.bw"
    sizes = dict(genome.chrom_sizes)
    write_bigwig(path, sizes, ["chr1", "chr1"], [350, 450], [400, 500], np.array([4.0, 1.0]))
    found = cell("chr1\t0\t10\n", cuts="chr1\t0\t10\n")
    opened, access = openness(found, path, REGIONS, genome)
    assert access.tolist() == [0, 0, 2, 0.5]
    assert opened.tolist() == [False, True, False, False]


def test_a_signal_under_other_names_is_read_and_one_without_a_chromosome_is_told(
    cell, genome, tmp_path, caplog
):
    path = tmp_path / "signal.bw"
    write_bigwig(path, {"1": 4000}, ["1"], [0], [100], np.array([3.0]))
    assert openness(cell("chr1\t0\t9\n"), path, REGIONS, genome)[1].tolist() == [0, 3, 0, 0]
    assert "names no chr2: the accessibility of 1 regions there is 0" in caplog.text


def test_a_signal_below_zero_or_of_another_assembly_is_refused(cell, genome, tmp_path):
    path = tmp_path / "signal.bw"
    write_bigwig(path, dict(genome.chrom_sizes), ["chr1"], [0], [100], np.array([-3.0]))
    with pytest.raises(CislensError, match="below 0 on the mean of 1 regions"):
        openness(cell("chr1\t0\t9\n"), path, REGIONS, genome)
    write_bigwig(path, {"chr1": 4001}, ["chr1"], [0], [100], np.array([3.0]))
    with pytest.raises(CislensError, match="beyond the end of chr1"):
        openness(cell("chr1\t0\t9\n"), path, REGIONS, genome)
