import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.signal.tracks import Track, read_tracks, track_table, tracks_text

HEADER = "id\tfile\tspecies\tassay\tstrand\tstrand_pair\tscale\tclip\tclip_mode\tsum_stat"


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "tracks.tsv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_is_read_with_defaults_and_files_beside_it(tmp_path):
    path = table(
        tmp_path,
        "a+\tsub/a.bw\tyeast\tCAGE\t+\ta-\t2\t32\tsoft\tmean",
        "a-\t/data/b.bw\tyeast\tCAGE\t-\ta+\t-1\t\t\t",
    )
    first, second = read_tracks(path).rows()
    assert first.file == str(tmp_path / "sub/a.bw")
    assert second.file == "/data/b.bw"
    assert (first.scale, first.clip, first.clip_mode, first.sum_stat) == (2, 32, "soft", "mean")
    assert (second.scale, second.clip, second.clip_mode, second.sum_stat) == (
        -1, math.inf, "none", "sum",
    )  # fmt: skip
    assert first.group == "CAGE"
    assert first.uncovered == "auto"


def test_basenji_names_are_accepted_and_pairs_by_index_become_ids(tmp_path):
    header = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tstrand_pair\tdescription"
    path = table(
        tmp_path,
        "0\t0\tENC1\t/d/1.w5\t384\t1\tsum\t1\tCAGE:K562/+",
        "1\t0\tENC2\t/d/2.w5\t384\t1\tsum\t0\tCAGE:K562/-",
        "2\t0\tENC3\t/d/3.w5\t32\t2\tmean\t2\tDNASE:K562",
        header=header,
    )
    tracks = read_tracks(path, species="human")
    assert [t.species for t in tracks.rows()] == ["human"] * 3
    assert [t.strand_pair for t in tracks.rows()] == ["ENC2", "ENC1", ""]
    assert [t.assay for t in tracks.rows()] == ["CAGE", "CAGE", "DNASE"]
    assert [t.clip_mode for t in tracks.rows()] == ["hard"] * 3
    assert tracks.strand_permutation().tolist() == [1, 0, 2]


def test_soft_clip_column_of_basenji_is_a_soft_clip(tmp_path):
    path = table(tmp_path, "a\ta.bw\ty\t32", header="identifier\tfile\tspecies\tclip_soft")
    assert read_tracks(path).rows()[0].clip_mode == "soft"


def test_the_permutation_swaps_pairs_and_is_its_own_inverse():
    names = {"a": "c", "b": "", "c": "a"}
    tracks = track_table(Track(n, "f", "y", strand_pair=pair) for n, pair in names.items())
    swap = tracks.strand_permutation()
    assert swap.tolist() == [2, 1, 0]
    assert (swap[swap] == np.arange(3)).all()


def test_species_keep_the_order_of_the_table():
    tracks = track_table([Track("a", "f", "y"), Track("b", "f", "x"), Track("c", "f", "y")])
    assert tracks.species() == ["y", "x"]
    assert tracks.for_species("y").frame["id"].to_list() == ["a", "c"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a\ta.bw\ty\t\t\t\tfast\t\t\t"], r"line 2: scale is 'fast', expected a number"),
        (["a\ta.bw\ty\t\t\t\t0\t\t\t"], r"line 2: scale is 0"),
        (["a\ta.bw\ty\t\t\t\t\t\t\tmedian"], r"line 2: sum_stat is 'median', expected one of sum"),
        (["a\ta.bw\ty\t\tplus\t\t\t\t\t"], r"line 2: strand is 'plus'"),
        (["a\ta.bw\ty\t\t\t\t\t0.5\tsoft\t"], r"line 2: clip is 0.5"),
        (["a\ta.bw\ty\t\t\t\t\t\tsoft\t"], r"line 2: clip is inf"),
        (["a\t\ty\t\t\t\t\t\t\t"], r"line 2 has no file"),
        (["a\ta.bw"], r"line 2 has 2 columns, the header has 10"),
        (
            ["a\ta.bw\ty\t\t\t\t\t\t\t", "b\tb.bw\ty\t\t\t\t\t\t\t", "a\tb.bw\ty\t\t\t\t\t\t\t"],
            r"tracks\.tsv line 4: track id 'a' is used twice, first in line 2",
        ),
        (
            ["a\ta.bw\ty\tATAC\t\t\t\t\t\t", "b\tb.bw\ty\t\t\t\t\t\t\t"],
            r"tracks\.tsv line 3: track 'b' has no assay, while line 2 has one",
        ),
        (["a\ta.bw\ty\t\t\tb\t\t\t\t"], r"strand_pair 'b', which is not in the table"),
        (
            ["a\ta.bw\ty\t\t\tb\t\t\t\t", "b\tb.bw\ty\t\t\t\t\t\t\t"],
            r"'a' names strand_pair 'b', whose own strand_pair is 'empty'",
        ),
        (
            ["a\ta.bw\ty\t\t+\tb\t\t\t\t", "b\tb.bw\ty\t\t+\ta\t\t\t\t"],
            r"both are on strand \+",
        ),
        (
            ["a\ta.bw\ty\t\t\tb\t\t\t\t", "b\tb.bw\tz\t\t\ta\t\t\t\t"],
            r"belongs to species 'z'",
        ),
        ([], r"lists no tracks"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, rows, message):
    with pytest.raises(CislensError, match=message):
        read_tracks(table(tmp_path, *rows))


def test_a_missing_column_is_named_with_what_there_is(tmp_path):
    with pytest.raises(CislensError, match="no column 'species'; its columns are id, file"):
        read_tracks(table(tmp_path, "a\ta.bw", header="id\tfile"))


def test_two_clip_columns_are_refused(tmp_path):
    path = table(tmp_path, "a\tf\ty\t1\t2", header="id\tfile\tspecies\tclip\tclip_soft")
    with pytest.raises(CislensError, match="both columns"):
        read_tracks(path)


def test_the_weight_in_the_loss_and_the_target_are_read(tmp_path):
    header = "id\tfile\tspecies\tassay\ttarget\tweight"
    path = table(tmp_path, "a\tf\ty\tCHIP\tH3K27ac\t0.5", "b\tf\ty\tATAC\t\t", header=header)
    first, second = read_tracks(path).rows()
    assert (first.target, first.weight, first.group) == ("H3K27ac", 0.5, "histone")
    assert (second.target, second.weight, second.group) == ("", 1.0, "accessibility")


@pytest.mark.parametrize(("weight", "shown"), [("-1", "-1"), ("inf", "inf"), ("nan", "nan")])
def test_a_weight_that_is_no_finite_number_from_0_on_is_refused(tmp_path, weight, shown):
    path = table(tmp_path, f"a\tf\ty\t{weight}", header="id\tfile\tspecies\tweight")
    with pytest.raises(CislensError, match=rf"line 2: weight is {shown}, expected a number from 0"):
        read_tracks(path)
    with pytest.raises(CislensError, match=rf"track 'a' has weight {shown}"):
        track_table([Track("a", "f", "y", weight=float(weight))])


def test_a_table_without_any_assay_is_unknown_throughout(tmp_path):
    path = table(tmp_path, "a\tf\ty", "b\tf\ty", header="id\tfile\tspecies")
    assert [(t.assay, t.group) for t in read_tracks(path).rows()] == [("unknown", "unknown")] * 2


def test_a_description_without_an_assay_among_others_is_named(tmp_path):
    path = table(
        tmp_path, "a\tf\ty\tCAGE:heart", "b\tf\ty\theart", header="id\tfile\tspecies\tdescription"
    )
    with pytest.raises(CislensError, match=r"line 3: track 'b' has no assay, while line 2 has one"):
        read_tracks(path)


def test_a_gzip_table_is_read_and_a_damaged_one_named(tmp_path):
    raw = gzip.compress(b"id\tfile\tspecies\na\tf\ty\n")
    path = tmp_path / "tracks.txt.gz"
    path.write_bytes(raw)
    assert read_tracks(path).frame["id"].to_list() == ["a"]
    path.write_bytes(raw[:-9])
    with pytest.raises(CislensError, match=r"tracks\.txt\.gz is truncated or damaged gzip"):
        read_tracks(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CislensError, match="is not UTF-8 text"):
        read_tracks(path)


def test_a_table_is_written_with_empty_cells_empty_and_read_again(tmp_path):
    tracks = track_table(
        [
            Track("a", str(tmp_path / "a.bw"), "toy", assay="ATAC"),
            Track("b", str(tmp_path / "b.bw"), "toy", assay="CHIP", target="CTCF"),
        ]
    )
    path = tmp_path / "tracks.tsv"
    path.write_text(tracks_text(tracks.frame.with_row_index("index")))
    assert '"' not in path.read_text()
    cells = [line.split("\t") for line in path.read_text().splitlines()]
    assert [row[cells[0].index("target")] for row in cells[1:]] == ["", "CTCF"]
    assert read_tracks(path).frame.equals(tracks.frame)
