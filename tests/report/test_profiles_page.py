import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from cislens.evaluation.profiles.run import Evaluation
from cislens.evaluation.profiles.sums import WindowSums
from cislens.evaluation.profiles.tables import Judged, difference_table, score_table
from cislens.report.figures.profiles import against_baseline
from cislens.report.profiles import headline, render_profiles, terminal_table, write_profiles

TRACKS = {"atac": "accessibility", "dnase": "accessibility", "cage<1>": "CAGE & co"}
W, N = 60, 12
SKILL = {"good": 1.0, "poor": 0.2, "mean-profile": 0.01, "gc-ridge": 0.3, "kmer-ridge": 0.5}


def sums_of(arm: str, part: int) -> WindowSums:
    """Predictions that are the target and noise in the arm's shares."""
    rng = np.random.default_rng(part)
    target = rng.gamma(1.0, 1.0, size=(W, N, 3))
    noise = np.random.default_rng(100 + list(SKILL).index(arm)).gamma(1.0, 1.0, size=target.shape)
    rate = SKILL[arm] * target + noise
    return WindowSums.of(
        torch.from_numpy(rate), torch.from_numpy(target), list(TRACKS), ("cage<1>",)
    )


def evaluation(blocks: int = 15) -> Evaluation:
    baselines = [name for name in SKILL if "-" in name]
    each = Judged(
        "yeast", TRACKS, ("good", "poor"), {name: [sums_of(name, 0)] for name in SKILL},
        {name: sums_of(name, 1) for name in baselines}, np.arange(W) % blocks, left_out=2, seen=3,
    )  # fmt: skip
    scores, scored = score_table([each], 200, 0)
    facts = {
        "split": "test", "average": "rc", "windows": {"yeast": W}, "blocks": {"yeast": blocks},
        "block_kinds": {"yeast": "single windows"}, "tracks": {"yeast": 3},
        "seeds": {"good": 1, "poor": 1},
    }  # fmt: skip
    return Evaluation(scores, difference_table([each], scored), facts, each.notes())


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return evaluation()


def test_skill_is_found_and_its_lack_too(found: Evaluation) -> None:
    rows = found.differences.filter(
        pl.col("comparison") == "best baseline", pl.col("group") == "accessibility"
    )
    assert set(rows["baseline"]) == {"kmer-ridge"}
    for metric in ("pearson_pooled", "pearson_window"):
        outcomes = dict(rows.filter(metric=metric).select("arm", "outcome").rows())
        assert outcomes == {"good": "gain", "poor": "loss"}
    assert set(found.scores.filter(metric="pearson_log1p")["group"]) == {"CAGE & co", "all"}


def test_median_is_over_the_tracks_of_a_group(found: Evaluation) -> None:
    rows = found.scores.filter(metric="pearson_pooled", arm="good", group="all", track="all")
    single = found.scores.filter(
        pl.col("metric") == "pearson_pooled", pl.col("arm") == "good", pl.col("track") != "all"
    )
    assert rows["median"][0] == pytest.approx(float(np.median(single["value"].to_numpy())))
    assert single["median"].is_null().all()


def test_lower_is_better_for_the_likelihood(found: Evaluation) -> None:
    rows = found.differences.filter(metric="poisson_nll", group="all")
    for row in rows.iter_rows(named=True):
        if row["outcome"] != "none":
            assert (row["outcome"] == "gain") == (row["difference"] < 0)


def test_headline_says_which_arm_beats_the_best_baseline(found: Evaluation) -> None:
    good, poor = headline(found)
    assert good.startswith("good reaches pearson_pooled 0.7")
    assert "beats the best baseline in 2 of 2 assay groups." in good
    assert "in 0 of 2 assay groups and does worse in 2." in poor


def test_page_holds_every_part_and_no_markup_of_names(found: Evaluation, tmp_path: Path) -> None:
    page = write_profiles(found, tmp_path / "report.html").read_text()
    assert page == render_profiles(found)
    for part in ("scores", "differences", "tracks", "methods", "manifest"):
        assert f'<section id="{part}">' in page
    assert "cage&lt;1&gt;" in page and "cage<1>" not in page
    assert "CAGE &amp; co" in page
    # Three panels of scores, three of differences, two arms against the best baseline.
    assert page.count('role="img"') == 8
    assert "whole blocks of windows (single windows), and" in page
    assert "2 tracks of the store are left out" in page
    assert ">nan" not in page and "None" not in page


def test_one_block_gives_a_page_without_intervals() -> None:
    page = render_profiles(evaluation(blocks=1))
    assert "a single block" in page and "no uncertainty can be computed" in page


def test_terminal_shows_groups_with_outcomes(found: Evaluation) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_table(found))
    text = console.export_text()
    assert "accessibility" in text and "gain" in text and "loss" in text
    assert text.isascii()


def test_scatter_says_how_many_tracks_are_above() -> None:
    rows = pl.DataFrame({"group": ["a", "a", "b"], "x": [0.1, 0.5, 0.2], "y": [0.3, 0.4, 0.6]})
    drawn = against_baseline(rows, "model", "kmer-ridge", "pearson_pooled")
    assert drawn.alt.endswith("model is higher on 2 of 3.")
    empty = against_baseline(rows.clear(), "model", "kmer-ridge", "pearson_pooled")
    assert empty.alt.endswith("higher on 0 of 0.")
