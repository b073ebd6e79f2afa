"""The page in a real browser: what a parser cannot see."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from tests.browser import Chromium, looked_at

from cislens.report.inputs import ReportInput
from cislens.report.page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def measured(page: "Page", width: int) -> dict[str, Any]:
    """What the browser measured at one width."""
    page.set_viewport_size({"width": width, "height": 2000})
    found: dict[str, Any] = page.evaluate(MEASURE)
    return found


def require_order(found: dict[str, Any]) -> None:
    """Nothing is wider than the page, too small to read, cut off, or over something else."""
    assert found["scroll"] <= found["width"]
    wrong = {name: found[name] for name in ("wide", "small", "clipped", "overlaps")}
    assert not any(wrong.values()), wrong


def test_page_shows_without_error_or_overflow(chromium: Chromium, report_file: Path) -> None:
    with looked_at(chromium, report_file) as (page, heard):
        for width in (390, 1000, 1200, 1440):
            found = measured(page, width)
            assert (found["width"], found["figures"]) == (width, 43)
            require_order(found)
        assert heard.errors == []

        # The check sees what it should.
        page.evaluate(
            "document.querySelector('main').insertAdjacentHTML('afterbegin', "
            '\'<div style="width:1500px">x</div><img src="https://a.invalid/a.png">\')'
        )
        found = measured(page, 1440)
        assert found["scroll"] > found["width"]
        assert len(found["wide"]) >= 1
        page.wait_for_timeout(100)
        assert any("Content Security Policy" in line for line in heard.errors)


def test_long_names_do_not_break_the_page(
    chromium: Chromium, run: ReportInput, tmp_path: Path
) -> None:
    long = "_with_a_name_that_nobody_would_choose_but_a_pipeline_does_2026"
    longer = {name: pl.col(name) + long for name in ("task", "arm", "metric")}
    stretched = replace(
        run,
        title=run.title + long,
        verdicts=run.verdicts.with_columns(baseline=pl.col("baseline") + long, **longer),
        scores=run.scores.with_columns(**longer),
        manifest={**run.manifest, "summary": {"path": "/a" * 90}},
    )
    file = write_report(stretched, tmp_path / "long.html")
    with looked_at(chromium, file, 390) as (page, heard):
        require_order({**measured(page, 390), "small": []})
        assert heard.errors == []
