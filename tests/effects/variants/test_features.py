"""Features stay in the rows of the table that was scored, whatever was left out of it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.effects.variants.features import write_features
from cislens.effects.variants.request import Request
from cislens.effects.variants.run import run_variants
from cislens.effects.variants.scores import Scoring, score_variants
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.genome.reference import Genome

WRONG = 3  # row whose ref is not the genome's


@pytest.fixture(scope="module")
def traits(toy_genome: Genome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of TraitGym's kind: not in genome order, chromosomes without `chr`, labels."""
    rows = []
    for number, (chrom, pos) in enumerate(
        [("2", 9_000), ("1", 30_000), ("1", 700), ("1", 900), ("2", 500), ("1", 12_345)]
    ):
        ref = decode(toy_genome.fetch(f"chr{chrom}", pos - 1, pos))
        others = [base for base in "ACGT" if base != ref]
        given = others[1] if number == WRONG else ref
        rows.append((chrom, pos, given, others[0], number % 2 == 0))
    path = tmp_path_factory.mktemp("traits") / "test.parquet"
    columns = ["chrom", "pos", "ref", "alt", "label"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(path)
    return path


@pytest.fixture(scope="module")
def scored(traits: Path, toy_model: Path, toy_genome: Genome) -> Path:
    out = traits.parent / "scored"
    run_variants(
        Request(
            toy_model, traits, toy_genome, Scoring(device="cpu", average="none"), background=0,
            keep_going=True,
        ),
        out,
    )  # fmt: skip
    return out


def test_rows_are_those_of_the_input(
    scored: Path, traits: Path, toy_model: Path, toy_genome: Genome, tmp_path: Path
) -> None:
    found = write_features(scored, tmp_path / "all.parquet")
    table, given = pl.read_parquet(tmp_path / "all.parquet"), pl.read_parquet(traits)
    assert found == {"rows": 6, "missing": 1, "features": table.columns}
    assert table.height == given.height and table.columns[:3] == [
        "log_fold.a", "log_fold.b", "log_fold.c,d",
    ]  # fmt: skip
    assert not set(table.columns) & {"chrom", "pos", "ref", "alt", "label", "source_row"}
    assert table.select(pl.all().is_null().all().name.keep()).row(0) == (False,) * table.width
    assert [all(v is None for v in row) for row in table.iter_rows()] == [
        row == WRONG for row in range(6)
    ]
    kept = given.with_row_index("row").filter(pl.col("row") != WRONG)
    for row in kept.iter_rows(named=True):
        one = pl.DataFrame([{name: row[name] for name in ("chrom", "pos", "ref", "alt")}])
        alone = score_variants(toy_model, toy_genome, one, average="none", device="cpu")
        expected = alone.by_track["profile_l2"][0]
        got = table.select("profile_l2.a", "profile_l2.b", "profile_l2.c,d").row(row["row"])
        assert np.array(got) == pytest.approx(expected, rel=1e-4)


def test_one_score_has_the_names_of_its_tracks_or_is_called_score(
    scored: Path, tmp_path: Path
) -> None:
    write_features(scored, tmp_path / "l2.parquet", ["profile_l2"])
    assert pl.read_parquet(tmp_path / "l2.parquet").columns == ["a", "b", "c,d"]
    write_features(scored, tmp_path / "one.parquet", ["embedding_l2"])
    one = pl.read_parquet(tmp_path / "one.parquet")
    assert one.columns == ["score"] and one["score"].null_count() == 1


def test_other_scores_and_chosen_genes_are_refused(scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    with pytest.raises(CislensError, match=r"no score 'profile_l3'\. Did you mean 'profile_l2'"):
        write_features(scored, out, ["profile_l3"])
    summary = scored / "summary.json"
    whole = summary.read_text()
    try:
        summary.write_text(whole.replace('"elsewhere": 0', '"elsewhere": 4'))
        with pytest.raises(CislensError, match=r"leaves out 4 variants.*without --gene"):
            write_features(scored, out)
        summary.write_text("{}")
        with pytest.raises(CislensError, match="is damaged"):
            write_features(scored, out)
    finally:
        summary.write_text(whole)
    assert not out.exists()
