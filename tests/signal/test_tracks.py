import math
from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.signal.tracks import Track, read_tracks, track_table

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
        (["a\ta.bw\ty\t\t\t\t\t\t\t", "a\tb.bw\ty\t\t\t\t\t\t\t"], r"'a' is used twice"),
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
