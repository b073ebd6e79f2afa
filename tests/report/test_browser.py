"""The page in a real browser: what a parser cannot see."""

import html as escaping
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cislens.report.inputs import ReportInput
from cislens.report.page import render

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--virtual-time-budget=8000", "--window-size=1600,1200",
)  # fmt: skip

# The report is shown in a frame, because a headless window is never narrower than 500 pixels.
WRAPPER = """<!doctype html><body><iframe style="width:%dpx;height:2000px;border:0"></iframe>
<pre id="found"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, width = page.documentElement.clientWidth;
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
       parseFloat(frame.contentWindow.getComputedStyle(text).fontSize) * scale]);
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
  document.getElementById("found").textContent = JSON.stringify({
    width, scroll: page.documentElement.scrollWidth, wide, small, clipped, overlaps,
    figures: page.querySelectorAll("figure svg").length});
};
frame.srcdoc = %s;
</script></body>"""


@pytest.fixture(scope="module")
def browser() -> str:
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on the PATH")


def look(browser: str, page: str, width: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the browser measured, and the lines of its console."""
    wrapper = folder / "wrapper.html"
    source = json.dumps(page).replace("</", "<\\/")
    wrapper.write_text(WRAPPER % (width, source), "utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, wrapper.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(escaping.unescape(found[1])), console


@pytest.mark.parametrize("width", [390, 1000, 1200, 1440])
def test_page_shows_without_error_or_overflow(
    browser: str, run: ReportInput, tmp_path: Path, width: int
) -> None:
    found, console = look(browser, render(run), width, tmp_path)
    assert console == []
    assert found["figures"] == 37
    assert found["scroll"] <= found["width"]
    assert found["wide"] == []
    assert found["small"] == []
    assert found["clipped"] == []
    assert found["overlaps"] == []


def test_long_names_do_not_break_the_page(browser: str, run: ReportInput, tmp_path: Path) -> None:
    long = "_with_a_name_that_nobody_would_choose_but_a_pipeline_does_2026"
    longer = {name: pl.col(name) + long for name in ("task", "arm", "metric")}
    stretched = replace(
        run,
        title=run.title + long,
        verdicts=run.verdicts.with_columns(baseline=pl.col("baseline") + long, **longer),
        scores=run.scores.with_columns(**longer),
        manifest={**run.manifest, "summary": {"path": "/a" * 90}},
    )
    found, console = look(browser, render(stretched), 390, tmp_path)
    assert console == []
    assert found["wide"] == []
    assert found["scroll"] <= found["width"]
    assert found["clipped"] == []
    assert found["overlaps"] == []


def test_the_check_sees_what_it_should(browser: str, run: ReportInput, tmp_path: Path) -> None:
    broken = render(run).replace(
        "<main>", '<main><div style="width:900px">x</div><img src="https://a.invalid/a.png">'
    )
    found, console = look(browser, broken, 390, tmp_path)
    assert found["scroll"] > found["width"]
    assert len(found["wide"]) >= 1
    assert any("Content Security Policy" in line for line in console)
