import io

import numpy as np
import pytest
from rich.console import Console

from cislens.evaluation.cells.examples import Pairs
from cislens.evaluation.cells.run import CellEvaluation
from cislens.evaluation.cells.tables import BASELINES, make_tables, own_arms
from cislens.report.cells import headline, render_cells, terminal_table

PARTS = ("new regions", "new cell types")
SKILL = {"good": 3.0, "good+cell-mean+neighbors": 3.5, "poor": 0.05, "cell-mean+neighbors": 1.0}


def evaluation() -> CellEvaluation:
    """One arm that is good and one that knows nothing, on 1200 pairs of three cell types."""
    rng = np.random.default_rng(0)
    scores, judged = {}, {}
    for part in PARTS:
        row_N = np.repeat(np.arange(400), 3)
        open_N = (rng.random(1200) < 0.3).astype(np.int64)
        judged[part] = Pairs(row_N, np.tile(np.arange(3), 400), open_N, row_N // 10)
        names = [*BASELINES, *own_arms("good"), *own_arms("poor")]
        scores[part] = {
            arm: [(SKILL.get(arm, 0.0) * open_N + rng.normal(size=1200))[:, None]] for arm in names
        }
    tables = make_tables(scores, judged, {"good": 1, "poor": 1}, 500, 0)
    facts = {
        "arms": {"good": ["runs/<good>"], "poor": ["poor"]},
        "judged_cells": {part: ["a & b", "c", "d"] for part in PARTS},
    }
    return CellEvaluation(*tables, facts, ["a note <b>"])


@pytest.fixture(scope="module")
def found() -> CellEvaluation:
    return evaluation()


def test_the_base_rate_is_that_of_a_score_without_skill(found):
    for row in found.scores.filter(metric="auprc", arm="composition").iter_rows(named=True):
        assert row["open"] == pytest.approx(0.3, abs=0.05)
        assert row["low"] - 0.02 < row["open"] < row["high"] + 0.02


def test_headline_says_gains_and_their_lack_in_plain_words(found):
    good, poor = headline(found)[:2]
    assert good.startswith("New cell types: good beats what other cell types and neighbors tell")
    assert "and adds to it; it is better than its sequence part and better than" in good
    assert poor.startswith("New cell types: poor does worse than what other cell types")
    assert "it is not detectably better than its sequence part" in poor


def test_page_holds_every_part_and_no_markup_of_names(found):
    page = render_cells(found)
    assert page == render_cells(found)
    for part in ("scores", "differences", "methods", "manifest"):
        assert f'<section id="{part}">' in page
    assert "a &amp; b" in page and "a note &lt;b&gt;" in page and "<good>" not in page
    assert page.count('role="img"') == 4
    share = found.scores.filter(part=PARTS[0])["open"][0]
    assert f"AUPRC [95 %], {share:.3f} without skill" in page
    assert ">nan" not in page and "None" not in page


def test_terminal_shows_parts_and_outcomes(found):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(terminal_table(found))
    text = console.export_text()
    assert "New regions" in text and "gain" in text and "loss" in text and text.isascii()
