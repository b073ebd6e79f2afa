import gzip

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.genome.reference import open_genome
from cislens.motifs import fragments
from cislens.motifs.fragments import read_cuts
from cislens.signal.bigwig import read_windows


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "toy.fa"
    path.write_text(">chr2\n" + "ACGTC" * 1000 + "\n>chr1\n" + "GGCAT" * 800 + "\n")
    return open_genome(path)


@pytest.fixture
def cuts(tmp_path, genome):
    def read(text, **options):
        path = tmp_path / "fragments.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_cuts(path, genome, **options)

    return read


def test_shifted_fragments_are_cut_at_their_first_and_last_base(cuts):
    assert cuts("chr1\t100\t200\n").rows() == [("chr1", 100), ("chr1", 199)]


def test_unshifted_ends_move_to_the_middle_of_the_nine_copied_bases(cuts):
    # 100..108 and 191..199 are the copies; their middles are equally far from either end.
    assert cuts("chr1\t100\t200\n", shifted=False).rows() == [("chr1", 104), ("chr1", 195)]


def test_sites_that_move_beyond_a_chromosome_are_left_out(cuts):
    assert cuts("chr1\t0\t3\n", shifted=False)["position"].to_list() == [4]
    assert cuts("chr1\t3997\t4000\n", shifted=False)["position"].to_list() == [3995]


def test_comments_barcodes_and_counts_of_duplicates_are_passed_over(cuts):
    text = "# id=x\n# barcodes\nchr1\t5\t9\tACGT-1\t7\nchr2\t6\t8\tACGA-1\t1\n"
    assert cuts(text).rows() == [("chr2", 6), ("chr2", 7), ("chr1", 5), ("chr1", 8)]


def test_order_blocks_and_compression_make_no_difference(cuts, monkeypatch):
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 3000, 500).tolist()
    rows = [f"chr{1 + s % 2}\t{s}\t{s + 100}\tAC\t1" for s in starts]
    whole = cuts("\n".join(rows) + "\n")
    assert whole.height == 1000
    monkeypatch.setattr(fragments, "_BLOCK", 100)
    shuffled = "\n".join(rng.permutation(rows))  # and no line break at the end
    assert cuts(shuffled).equals(whole)
    assert cuts(gzip.compress(shuffled.encode())).equals(whole)


def test_foreign_contigs_are_left_out_and_named_in_the_log(cuts, caplog):
    assert cuts("chrUn\t5\t9\n1\t5\t9\n")["chrom"].to_list() == ["chr1", "chr1"]
    assert "Left out: chrUn" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# c\nchr1\t5\t9\nchr1\t9\t9\n", r"line 3: 'chr1\\t9\\t9' is no fragment"),
        ("chr1\t5\t9\nchr1\tx\t9\n", "line 2: .*is no fragment"),
        ("chr1\t5\t9\n\nchr1\t5\t9\n", "line 2: '' is no fragment"),
        ("chr1\t-5\t9\n", "line 1: .*is no fragment"),
        ("chr1 5 9\n", "line 1: expected `chrom, start, end`"),
        ("chr1\t5\t9\nchr1\t3990\t4001\n", r"line 2 \(chr1:3990-4001\) .* which has 4,000 bp"),
        ("# only a comment\n", "holds no fragment"),
        ("chr9\t5\t9\n", "no chromosome of .* is in the genome"),
        (gzip.compress(b"chr1\t5\t9\n" * 100, mtime=0)[:-12], "truncated or damaged gzip"),
    ],
)
def test_a_bad_line_is_named(cuts, text, message):
    with pytest.raises(CislensError, match=message):
        cuts(text)


def test_the_line_is_right_in_a_later_block(cuts, monkeypatch):
    monkeypatch.setattr(fragments, "_BLOCK", 10)
    with pytest.raises(CislensError, match="line 31: "):
        cuts("# comment\n" + "chr1\t5\t9\n" * 29 + "chr1\t5\n")


def test_a_missing_file_is_named(genome):
    with pytest.raises(MissingFileError, match=r"fragment file nowhere\.tsv does not exist"):
        read_cuts("nowhere.tsv", genome)


def test_real_cut_sites_are_those_of_an_independent_track(core_data):
    """The yeast's bedpe against the bigWig of cut sites that came with it: equal at every base."""
    yeast = core_data / "scerevisiae_sacCer3"
    genome = open_genome(yeast / "sacCer3.fa.gz")
    found = read_cuts(yeast / "atac_SRR1822137_500k.bedpe.gz", genome, shifted=False)
    track = read_windows(
        yeast / "tracks/atac_cutsites.bw", ["chrIV"], [0], genome.size("chrIV"), missing=0.0
    )[0]
    here = found.filter(pl.col("chrom") == "chrIV")["position"].to_numpy()
    assert here.size == 70_860
    assert np.array_equal(np.bincount(here, minlength=track.size), track)
