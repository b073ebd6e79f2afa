import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.effects.attribution import seqlets as module
from cislens.effects.attribution.seqlets import (
    find_seqlets,
    name_seqlets,
    write_seqlets,
)
from cislens.errors import CislensError
from cislens.extras import extra
from cislens.genome.codes import encode, one_hot
from cislens.motifs.sites import consensus_motif

MOTIF = encode("TGACTCAG")
PLACE = slice(40, 48)

# tangermeme compiles what calls and what names seqlets, tens of seconds once in a process.
compiled = pytest.mark.slow


def planted(rows: int = 12, length: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Maps of noise with a motif at 40-48 that counts, for every third row against the score."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 4, (rows, length)).astype(np.uint8)
    codes[:, PLACE] = MOTIF
    x = one_hot(codes)
    hypothetical = rng.normal(0, 0.05, x.shape).astype(np.float32)
    hypothetical[:, :, PLACE] += x[:, :, PLACE]
    hypothetical[::3] *= -1
    return hypothetical, x


@pytest.fixture(scope="module")
def called() -> pl.DataFrame:
    """The seqlets of `planted`; here, for the first call compiles for some ten seconds."""
    return find_seqlets(*planted(), 0.001)


@compiled
def test_a_planted_motif_is_called_in_every_row_with_its_sign(called: pl.DataFrame) -> None:
    strong = called.filter(pl.col("attribution").abs() > 4)
    assert strong["row"].to_list() == list(range(12))
    overlap = (strong["end"].clip(upper_bound=48) - strong["start"].clip(lower_bound=40)).to_numpy()
    assert (overlap >= 5).all()
    expected = np.where(np.arange(12) % 3 == 0, -1, 1)
    assert np.array_equal(np.sign(strong["attribution"].to_numpy()), expected)


@compiled
def test_the_attribution_of_a_seqlet_is_the_sum_over_its_bases(called: pl.DataFrame) -> None:
    hypothetical, x = planted()
    maps = (hypothetical * x).sum(1)
    for row, start, end, attribution, _ in called.iter_rows():
        assert attribution == pytest.approx(maps[row, start:end].sum(), abs=1e-4)


@compiled
@pytest.mark.usefixtures("called")
def test_a_seqlet_does_not_reach_into_bases_that_are_not_there() -> None:
    """Windows over a chromosome's start begin with N; a place before it would be below 0."""
    hypothetical, x = planted(20, 400)
    for values in (hypothetical, x):
        values[:, :, :50] = 0
    hypothetical[:, :, 50:54] += np.float32([8, 4, 2, 2])
    found = find_seqlets(hypothetical, x).filter(pl.col("start") < 60)
    assert len(found) >= 20
    assert found["start"].min() == 50
    for row, start, end, attribution, _ in found.iter_rows():
        total = (hypothetical * x)[row, :, start:end].sum()
        assert attribution == pytest.approx(total, abs=1e-4)


@compiled
@pytest.mark.usefixtures("called")
def test_seqlets_of_a_row_do_not_overlap() -> None:
    found = find_seqlets(*planted(), 0.05)
    for (_,), mine in found.group_by("row"):
        assert (mine["start"][1:] >= mine["end"][:-1]).all()


@compiled
def test_parts_keep_the_rows_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    hypothetical, x = planted()
    monkeypatch.setattr(module, "_BASES_AT_ONCE", 6 * 120)
    found = find_seqlets(hypothetical, x, 0.001).filter(pl.col("attribution").abs() > 4)
    assert found["row"].to_list() == list(range(12))


@compiled
def test_a_map_without_signal_has_no_seqlet() -> None:
    x = one_hot(np.zeros((2, 50), np.uint8))
    assert find_seqlets(np.zeros_like(x), x).is_empty()


def test_a_map_that_is_not_finite_and_a_p_value_that_is_none_are_refused() -> None:
    hypothetical, x = planted()
    with pytest.raises(CislensError, match="p-value"):
        find_seqlets(hypothetical, x, 0)
    hypothetical[3, :, 7] = np.nan
    with pytest.raises(CislensError, match="not finite"):
        find_seqlets(hypothetical, x)


@compiled
def test_a_seqlet_is_named_by_the_motif_it_was_made_of(caplog: pytest.LogCaptureFixture) -> None:
    hypothetical, x = planted()
    found = find_seqlets(hypothetical, x, 0.001).filter(pl.col("attribution").abs() > 4)
    motifs = [consensus_motif("GGGCGGGG", "SP1"), consensus_motif("TGACTCA", "MA0099 AP1")]
    with caplog.at_level(logging.WARNING, "cislens"):
        named = name_seqlets(found, x, motifs)
    assert "2 motifs are few" in caplog.text
    assert named["motif"].to_list() == ["MA0099 AP1"] * 12
    assert named["motif_p"].max() < 0.01  # type: ignore[operator]
    # The order and number of seqlets are no matter: rows are found again after renumbering.
    assert name_seqlets(found[5:6], x, motifs).equals(named[5:6])


@compiled
def test_naming_needs_motifs_and_keeps_its_columns_without_seqlets() -> None:
    hypothetical, x = planted(2)
    found = find_seqlets(hypothetical, x)
    with pytest.raises(CislensError, match="no motif"):
        name_seqlets(found, x, [])
    none = name_seqlets(found.clear(), x, [consensus_motif("TGACTCA")])
    assert none.is_empty()
    assert none.columns[-2:] == ["motif", "motif_p"]


def test_the_bed_holds_genome_coordinates_sorted(tmp_path: Path) -> None:
    windows = pl.DataFrame(
        {"chrom": ["chr2", "chr1"], "start": [1000, -10], "end": [1100, 90], "name": ["a", "b"]}
    )
    found = pl.DataFrame(
        {
            "row": [0, 0, 1], "start": [5, 50, 20], "end": [9, 60, 30],
            "attribution": [1.5, -2.0, 3.0], "p_value": [1e-3, 0.0, 1e-12],
        }
    )  # fmt: skip
    write_seqlets(tmp_path / "s.bed", found, windows)
    assert (tmp_path / "s.bed").read_text().splitlines() == [
        "chr1\t10\t20\tpositive\t1000\t.\t3.0\t1e-12\tb",
        "chr2\t1005\t1009\tpositive\t300\t.\t1.5\t0.001\ta",
        "chr2\t1050\t1060\tnegative\t1000\t.\t-2.0\t0.0\ta",
    ]
    named = found.with_columns(motif=pl.lit("MA1 X Y"), motif_p=pl.lit(0.25))
    write_seqlets(tmp_path / "s.bed", named, windows)
    assert (tmp_path / "s.bed").read_text().splitlines()[1].split("\t")[3] == "MA1_X_Y"
    assert (tmp_path / "s.bed").read_text().splitlines()[1].split("\t")[9] == "0.25"


def test_a_missing_extra_is_one_message_that_says_how_to_get_it() -> None:
    with pytest.raises(CislensError, match=r"'no_such'.*pip install 'cislens\[interpret\]'"):
        extra("no_such.module", "interpret")
