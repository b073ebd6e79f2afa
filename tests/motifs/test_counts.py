import gzip

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.reference import open_genome
from cislens.motifs.counts import read_counts, read_table


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "toy.fa"
    path.write_text(">chr2\n" + "ACGTC" * 1000 + "\n>chr1\n" + "GGCAT" * 800 + "\n")
    return open_genome(path)


@pytest.fixture
def counts(tmp_path, genome):
    def read(text, name="counts.tsv", **options):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return read_counts(path, genome, **options)

    return read


TEXT = "region_id\tliver\tbrain\nchr1:100-200\t3\t0\nchr2:500-600\t1\t4\nchr1:300-400\t2\t0.5\n"


def test_rows_are_sorted_along_the_genome_with_their_counts(counts):
    table = counts(TEXT)
    assert table.regions["key"].to_list() == ["chr2:500-600", "chr1:100-200", "chr1:300-400"]
    assert table.counts_RC.tolist() == [[1, 4], [3, 0], [2, 0.5]]
    assert table.cells == ("liver", "brain")


def test_every_way_to_write_a_table_gives_the_same(counts):
    table = counts(TEXT)
    head, *rows = TEXT.splitlines()
    other = [
        "\n".join([head, *rows[::-1]]) + "\n",
        TEXT.replace("\t", ","),
        "# made by hand\n" + TEXT.replace("region_id", "loc"),
        TEXT.replace("chr1:", "hg19:chr1:").replace("chr2:", "hg19:chr2:"),
        TEXT.replace("chr1:", "1:").replace("\n", "\r\n"),
        "chrom\tend\tliver\tstart\tbrain\nchr1\t200\t3\t100\t0\nchr2\t600\t1\t500\t4\n"
        "chr1\t400\t2\t300\t0.5\n",
    ]
    for text in other:
        again = counts(text, assembly="hg19")
        assert again.regions.equals(table.regions)
        assert np.array_equal(again.counts_RC, table.counts_RC)
    assert counts(TEXT, "c.csv.gz").regions.equals(table.regions)


def test_counts_taken_for_logarithms_are_refused(counts):
    text = "region_id\tliver\nchr1:100-200\t3\nchr1:300-400\t2000\n"
    assert counts(text).counts_RC.tolist() == [[3], [2000]]
    with pytest.raises(CislensError, match=r"row 2 \(chr1:300-400\): liver is 2000, expected log2"):
        counts(text, log_counts=True)


def test_a_row_longer_than_the_header_is_named(counts):
    for text in (TEXT + "chr1:1-2\t1\t2\t3\n", TEXT.removeprefix("region_id\t")):
        row = 4 if text.startswith("region_id") else 1
        with pytest.raises(CislensError, match=rf"row {row} has . fields and the header names"):
            counts(text)
    with pytest.raises(CislensError, match="no readable table: empty"):
        counts("")


def test_logarithms_of_counts_become_counts(counts):
    table = counts("region_id\tliver\nchr1:100-200\t3\nchr1:300-400\t-0.3\n", log_counts=True)
    assert table.counts_RC[:, 0].tolist() == [7, 0]


def test_regions_elsewhere_are_left_out_and_counted(counts):
    text = TEXT + "chrUn:5-9\t1\t1\n"
    table = counts(text, exclude=["chr2"])
    assert table.regions["key"].to_list() == ["chr1:100-200", "chr1:300-400"]
    assert table.counts_RC[:, 0].tolist() == [3, 2]
    assert table.report == {"read": 4, "on_foreign_contigs": 1, "on_excluded_chromosomes": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "chr1:100-200\t3\t0\n", r"1 regions more than once \(chr1:100-200\)"),
        (TEXT + "1:100-200\t3\t0\n", "both '?chr1'? and '1'|both 'chr1' and '1'"),
        (TEXT + "chr1_100_200\t3\t0\n", r"row 4: no region in region_id \(1 rows .*chr1_100_200"),
        (TEXT + "chr1:9-9\t3\t0\n", "row 4: no region in region_id"),
        (TEXT + "chr1:3990-4001\t3\t0\n", r"row 4 \(chr1:3990-4001\) .* which has 4,000 bp"),
        (TEXT + "chr1:800-900\t-3\t0\n", r"row 4 \(chr1:800-900\): liver is -3.* `log_counts`"),
        (TEXT + "chr1:800-900\tNA\t0\n", r"row 4 \(chr1:800-900\): liver is None"),
        (TEXT + "chr1:800-900\thigh\t0\n", r"\(chr1:800-900\): liver is 'high', expected a count"),
        ("region_id\tliver\tliver\nchr1:1-2\t3\t0\n", r"has 1 columns twice \(liver\)"),
        ("region_id\nchr1:1-2\n", "no column of counts"),
        ("region_id\tliver\n", "no rows below its header"),
        ("region_id\tliver\nchrUn:1-2\t3\n", "no chromosome of .* is in the genome"),
        ("gene\tliver\nTP53\t3\nMYC\t3\n", r"no region in gene \(2 rows are so: MYC, TP53\)"),
    ],
)
def test_bad_tables_name_the_rows(counts, text, message):
    with pytest.raises(CislensError, match=message):
        counts(text)


def test_a_cell_type_may_not_be_given_twice(counts):
    with pytest.raises(CislensError, match="'brain' is in `cells` and a column"):
        counts(TEXT, cells=["brain"])


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "c.tsv.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 50)[:-9])
    with pytest.raises(CislensError, match="truncated or damaged gzip"):
        read_table(path, "count table")


def test_other_regions_than_wanted_are_counted_with_five_examples(counts):
    table = counts(TEXT)
    table.require_same(["chr1:300-400", "chr2:500-600", "chr1:100-200"], "regions.bed")
    wanted = ["chr1:300-400", *(f"chr1:{n}-{n + 9}" for n in range(1, 8))]
    message = (
        r"7 missing from the table \(chr1:1-10, chr1:2-11, chr1:3-12, chr1:4-13, chr1:5-14, \.\.\."
        r"\); 2 not in regions.bed \(chr1:100-200, chr2:500-600\)"
    )
    with pytest.raises(CislensError, match=message):
        table.require_same(wanted, "regions.bed")


def test_regions_with_a_count_are_the_peaks_of_a_cell_type(counts, genome):
    liver, brain = counts(TEXT).peaks(genome)
    assert liver.peaks["score"].to_numpy() == pytest.approx(np.array([1, 3, 2]) / 6e-6)
    assert brain.peaks.select("chrom", "center").rows() == [("chr2", 550), ("chr1", 350)]
    with pytest.raises(CislensError, match="'brain' has no count above 0 in the 1 regions"):
        counts("region_id\tliver\tbrain\nchr1:100-200\t3\t0\n").peaks(genome)


def windows(*places):
    """Windows of 100 bp around places on chr1."""
    starts = [place - 50 for place in places]
    ends = [place + 50 for place in places]
    return pl.DataFrame({"chrom": ["chr1"] * len(places), "start": starts, "end": ends})


def test_a_window_takes_the_row_that_it_is_centered_on_even_beside_a_larger_one(counts, genome):
    table = counts("region_id\tliver\nchr1:180-220\t2\nchr1:220-260\t9\nchr1:190-210\t3\n")
    # 200 is the center of two rows, 205 of none; 900 is beside all rows.
    assert table.counts(windows(200), genome).ravel().tolist() == [3]
    assert table.counts(windows(205, 900), genome).ravel().tolist() == [9, 0]


def test_with_keys_every_region_takes_its_own_row(counts, genome):
    table = counts(TEXT)
    keyed = windows(350, 150).with_columns(key=pl.Series(["chr1:300-400", "chr1:100-200"]))
    assert table.counts(keyed, genome).tolist() == [[2, 0.5], [3, 0]]
