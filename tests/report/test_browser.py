"""The page in a real browser: what a parser cannot see."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.browser import looked_at

from cislens.report.inputs import ReportInput
from cislens.report.page import render

pytestmark = pytest.mark.browser

MEASURE = """() => {
  const page = document, width = page.documentElement.clientWidth;
  page.querySelectorAll("details").forEach(part => { part.open = true; });
  const inside = element => element.closest(".scroll, pre, .skip, thead");
  const wide = [...page.querySelectorAll("main *, header *")].filter(element => !inside(element)
    && element.getBoundingClientRect().right > width + 0.5).map(e => e.outerHTML.slice(0, 120));
  const small = [], clipped = [], overlaps = [];
  for (const svg of page.querySelectorAll("figure svg")) {
    const card = svg.closest("figure").getBoundingClientRect();
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const texts = [...svg.querySelectorAll("text")].map(text =>
      [text.textContent, text.getBoundingClientRect(),
       parseFloat(getComputedStyle(text).fontSize) * scale]);
    texts.forEach(([name, box, size], i) => {
      if (size < 8.5) small.push([name, size]);
      if (box.left < card.left || box.right > card.right || box.bottom > card.bottom)
        clipped.push(name);
      for (const [other, rect] of texts.slice(i + 1)) {
        const across = Math.min(box.right, rect.right) - Math.max(box.left, rect.left);
        const down = Math.min(box.bottom, rect.bottom) - Math.max(box.top, rect.top);
        if (across > 1 && down > 0.4 * Math.min(box.height, rect.height))
          overlaps.push([name, other]);
      }
    });
  }
  return {
    width, scroll: page.documentElement.scrollWidth, wide, small, clipped, overlaps,
    figures: page.querySelectorAll("figure svg").length};
}"""


def look(chromium: Any, page: str, width: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the browser measured, and the errors of its console."""
    (folder / "page.html").write_text(page, "utf-8")
    with looked_at(chromium, folder / "page.html", width, 2000) as (shown, heard):
        return shown.evaluate(MEASURE), heard.errors


@pytest.mark.parametrize("width", [390, 1000, 1200, 1440])
def test_page_shows_without_error_or_overflow(
    chromium: Any, run: ReportInput, tmp_path: Path, width: int
) -> None:
    found, console = look(chromium, render(run), width, tmp_path)
    assert console == []
    assert found["figures"] == 43
    assert found["scroll"] <= found["width"]
    assert found["wide"] == []
    assert found["small"] == []
    assert found["clipped"] == []
    assert found["overlaps"] == []


def test_long_names_do_not_break_the_page(chromium: Any, run: ReportInput, tmp_path: Path) -> None:
    long = "_with_a_name_that_nobody_would_choose_but_a_pipeline_does_2026"
    longer = {name: pl.col(name) + long for name in ("task", "arm", "metric")}
    stretched = replace(
        run,
        title=run.title + long,
        verdicts=run.verdicts.with_columns(baseline=pl.col("baseline") + long, **longer),
        scores=run.scores.with_columns(**longer),
        manifest={**run.manifest, "summary": {"path": "/a" * 90}},
    )
    found, console = look(chromium, render(stretched), 390, tmp_path)
    assert console == []
    assert found["wide"] == []
    assert found["scroll"] <= found["width"]
    assert found["clipped"] == []
    assert found["overlaps"] == []


def test_the_check_sees_what_it_should(chromium: Any, run: ReportInput, tmp_path: Path) -> None:
    broken = render(run).replace(
        "<main>", '<main><div style="width:900px">x</div><img src="https://a.invalid/a.png">'
    )
    found, console = look(chromium, broken, 390, tmp_path)
    assert found["scroll"] > found["width"]
    assert len(found["wide"]) >= 1
    assert any("Content Security Policy" in line for line in console)
