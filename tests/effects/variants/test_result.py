import numpy as np
import polars as pl

from cislens.effects.variants.result import VariantScores
from cislens.signal.tracks import Track, track_table

NAN = float("nan")


def found() -> VariantScores:
    variants = pl.DataFrame({"chrom": ["1", "1"], "pos": [5, 9], "ref": "A", "alt": "C"})
    by_track = {
        "log_fold": np.array([[1, 2], [3, 4]], np.float32),
        "log_fold_tss": np.array([[NAN, NAN], [5, 6]], np.float32),
    }
    tracks = track_table([Track("a", "a.bw", "yeast"), Track("b", "b.bw", "yeast")])
    return VariantScores(variants, tracks, by_track, {"llr": np.array([NAN, -1], np.float32)})


def test_the_table_has_a_row_per_variant_and_null_for_what_is_not_there() -> None:
    table = found().table()
    assert table["pos"].to_list() == [5, 9]
    assert table["llr"].to_list() == [None, -1]
    assert table["log_fold"].to_list() == [[1, 2], [3, 4]]
    assert table["log_fold_tss"].to_list() == [None, [5, 6]]
    assert table.schema["log_fold_tss"] == pl.Array(pl.Float32, 2)


def test_the_tidy_table_has_a_row_per_variant_and_track() -> None:
    tidy = found().tidy()
    assert tidy["row"].to_list() == [0, 0, 1, 1]
    assert tidy["track"].to_list() == ["a", "b", "a", "b"]
    assert tidy["log_fold"].to_list() == [1, 2, 3, 4]
    assert tidy["log_fold_tss"].to_list() == [None, None, 5, 6]
    assert tidy["llr"].to_list() == [None, None, -1, -1]


def test_without_tracks_there_is_one_row_per_variant() -> None:
    alone = VariantScores(found().variants, None, {}, found().scalars)
    assert alone.tidy()["llr"].to_list() == [None, -1]
