"""Tables of scored variants."""

from pathlib import Path

import numpy as np
import polars as pl

from cislens.effects.variants.calibration import Null, RankCounts
from cislens.effects.variants.output import (
    AT_LEAST,
    Columns,
    counts_of,
    describe,
    finished,
    join_parts,
    part_table,
)
from cislens.effects.variants.result import VariantScores
from cislens.signal.tracks import Track, track_table

TRACKS = track_table(
    [Track(name, f"{name}.bw", "toy", assay="ATAC", group=group) for name, group in
     (("a", "g1"), ("b", "g2"), ("c", "g1"), ("d", "g1"))]
)  # fmt: skip
COLUMNS = Columns(TRACKS, "log_fold", ("llr",))


def scores(log_fold: list[list[float]], llr: list[float]) -> VariantScores:
    variants = pl.DataFrame({"chrom": "chr1", "pos": np.arange(len(llr)) + 1, "ref": "A"})
    values = np.array(log_fold, np.float32)
    return VariantScores(
        variants, TRACKS, {"log_fold": values, "difference": 10 * values},
        {"llr": np.array(llr, np.float32)},
    )  # fmt: skip


def null() -> Null:
    """Scores 1 .. 9 of each track, 10 .. 90 of the likelihood ratio."""
    steps = np.arange(1, 10, dtype=np.float32)[:, None]
    scores = np.concatenate([steps] * 4 + [10 * steps], axis=1)
    return Null.of(scores, list(COLUMNS.sets.values()))


def test_a_part_keeps_the_counts_of_the_headline_and_the_scalars() -> None:
    part = part_table(scores([[1, -5, 0, 20]], [25]), COLUMNS, null())
    assert counts_of(part).tolist() == [[9, 5, 9, 0, 7, 0, 5, 0]]
    assert AT_LEAST not in part_table(scores([[1, -5, 0, 20]], [25]), COLUMNS, None).columns


def test_a_finished_part_tells_how_unusual_each_score_is() -> None:
    part = part_table(scores([[1, -5, 0, 20], [-9.5, 2, 0, 0]], [25, np.nan]), COLUMNS, null())
    ranks = RankCounts(9, 8)
    ranks.add(counts_of(part))
    table = finished(part, COLUMNS, null(), ranks.q_table())
    first, second = table.rows(named=True)
    assert first["percentile"] == [0, np.float32(400 / 9), 0, 100]
    assert [first[f"top_{i}_track"] for i in (1, 2, 3)] == ["d", "b", "a"]
    assert (first["top_1_score"], first["top_1_percentile"]) == (20, 100)
    assert first["top_1_q"] == np.float32(0.2)  # 2 variants * (1 / 10) / 1
    assert second["top_1_track"] == "a"
    assert second["top_1_score"] == -9.5
    assert first["group_percentile_g1"] == 100
    assert first["group_percentile_g2"] == np.float32(400 / 9)
    assert (first["any_percentile"], first["any_p"]) == (100, np.float32(0.1))
    # 9 is more times the root mean square of 1 .. 8 than 9.5 that of 1 .. 9.
    assert (second["any_p"], second["any_q"]) == (np.float32(0.2), np.float32(0.2))
    assert first["llr_percentile"] == np.float32(200 / 9)
    assert first["llr_q"] == np.float32(0.8)  # one variant alone: its p-value
    assert second["llr"] is None
    assert second["llr_percentile"] is None and second["llr_q"] is None
    assert AT_LEAST not in table.columns


def test_without_tracks_scalars_alone_are_calibrated() -> None:
    columns = Columns(None, None, ("llr",))
    given = scores([[0, 0, 0, 0]], [25])
    part = part_table(VariantScores(given.variants, None, {}, given.scalars), columns,
                      Null(null().sorted_nK[:, 4:]))  # fmt: skip
    ranks = RankCounts(9, 1)
    ranks.add(counts_of(part))
    table = finished(part, columns, Null(null().sorted_nK[:, 4:]), ranks.q_table())
    assert table.columns[-4:] == ["llr", "llr_percentile", "llr_p", "llr_q"]


def test_parts_are_joined_in_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.parquet" for n in range(30)]
    for number, path in enumerate(paths):
        rows = {"n": [2 * number, 2 * number + 1]}
        pl.DataFrame(rows).with_columns(
            pl.Series("x", np.full((2, 3), number, np.float32), dtype=pl.Array(pl.Float32, 3))
        ).write_parquet(path)
    for name in ("one", "two"):
        join_parts(paths, tmp_path / f"{name}.parquet")
    found = pl.read_parquet(tmp_path / "one.parquet")
    assert found["n"].to_list() == list(range(60))
    assert found["x"].to_numpy()[:, 2].tolist() == [n // 2 for n in range(60)]
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_every_column_is_described() -> None:
    names = ["log_fold", "difference_tss", "p", "llr_q", "top_2_score", "group_percentile_g1",
             "any_q", "embedding_l1", "embedding_l1_percentile", "any_score"]  # fmt: skip
    found = describe(names, Columns(TRACKS, "log_fold", ("llr", "embedding_l1")), 100)
    assert "transcription start" in found["difference_tss"]
    assert "by |log_fold|, a value per track" in found["p"]
    assert found["llr_q"].startswith("false discovery rate") and "|llr|" in found["llr_q"]
    assert "number 2" in found["top_2_score"]
    assert "best track of g1" in found["group_percentile_g1"]
    assert "best track of all" in found["any_q"]
    assert found["embedding_l1"] == "l1 distance of the embeddings of both alleles"
    assert found["embedding_l1_percentile"] == (
        "percent of the 100 background substitutions, to which insertions and deletions are "
        "compared too, that stand out less by |embedding_l1|"
    )
    assert found["any_score"] == "as the input gives it"
