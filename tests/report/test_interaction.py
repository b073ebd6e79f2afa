"""What a person can do with a page: sort, filter, take along, reach by keyboard, and read."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.browser import Chromium, looked_at

pytestmark = pytest.mark.browser

CONTRAST = """() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = parts(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("script, style, svg, .unseen, .browser")) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([element.className, element.textContent.slice(0, 30), ratio]);
  }
  return low;
}"""


# The control that has the focus: its place among all, and whether a ring shows it.
REACHED = """() => {
  const all = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")];
  const here = document.activeElement, style = getComputedStyle(here);
  return [all.indexOf(here), style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2];
}"""
SHOWN = """() => [...document.querySelectorAll(
    "a[href], button, input, select, summary, [tabindex]")]
  .map((e, i) => [e, i]).filter(([e]) => e.checkVisibility()).map(([, i]) => i)"""


def test_tables_sort_filter_and_are_taken_along(chromium: Chromium, report_file: Path) -> None:
    with looked_at(chromium, report_file) as (page, heard):
        table = page.locator("#verdicts table").first
        button = table.locator("th button", has_text="Difference")
        first = "td:nth-child(3) .difference"
        for direction in ("ascending", "descending"):
            button.press("Enter")
            assert button.locator("..").get_attribute("aria-sort") == direction
            shown = [
                float(text.replace("\u2212", "-"))
                for text in table.locator(f"tbody tr {first}").all_inner_texts()
            ]
            assert len(shown) > 2
            assert shown == sorted(shown, reverse=direction == "descending")
        page.locator("#scores summary").click()
        scores = page.locator("#scores .listing")
        whole = scores.locator("tbody tr").count()
        scores.locator("input[type=search]").fill("Untrained")
        visible = scores.locator("tbody tr:visible").count()
        assert 0 < visible < whole
        assert scores.locator("[role=status]").inner_text() == f"{visible} of {whole} rows"

        with page.expect_download() as taking:
            page.locator("#differences figure button", has_text="SVG").first.click()
        svg = ElementTree.parse(taking.value.path()).getroot()
        text = Path(taking.value.path()).read_text("utf-8")
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text
        assert float(svg.get("width", "0")) > 100
        with page.expect_download() as taking:
            page.locator("#differences figure a", has_text="CSV").first.click()
        assert taking.value.suggested_filename.endswith(".csv")
        assert "difference" in Path(taking.value.path()).read_text("utf-8").splitlines()[0]
        assert heard.errors == []
        assert heard.outside() == []


def test_text_has_contrast_and_controls_have_names(chromium: Chromium, report_file: Path) -> None:
    with looked_at(chromium, report_file, 390) as (page, heard):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        nameless = page.evaluate(
            "[...document.querySelectorAll('a, button, input, select, svg[role=img]')].filter("
            "e => !(e.getAttribute('aria-label') || e.textContent.trim())).length"
        )
        assert nameless == 0
        for colors, gray in (("light", "#909090"), ("dark", "#606060")):
            page.emulate_media(color_scheme=colors)
            assert page.evaluate(CONTRAST) == []
            # The check sees a text that cannot be read.
            paint = "gray => { document.querySelector('h2').style.color = gray; }"
            page.evaluate(paint, gray)
            assert len(page.evaluate(CONTRAST)) == 1
            page.evaluate(paint, "")
        assert heard.errors == []


def test_every_control_is_reached_and_worked_by_keyboard(
    chromium: Chromium, report_file: Path
) -> None:
    with looked_at(chromium, report_file) as (page, heard):
        shown = page.evaluate(SHOWN)
        assert len(shown) > 100
        reached = []
        for _ in shown:
            page.keyboard.press("Tab")
            reached.append(page.evaluate(REACHED))
        assert [place for place, _ in reached] == shown
        assert all(ring for _, ring in reached)
        fold = page.locator("#verdicts details")
        for key, opened in (("Enter", True), ("Space", False), ("Space", True)):
            fold.locator("summary").press(key)
            assert fold.evaluate("fold => fold.open") is opened
        head = page.locator("#verdicts th button").first
        for key, direction in (("Space", "ascending"), ("Enter", "descending")):
            head.press(key)
            assert head.locator("..").get_attribute("aria-sort") == direction
        with page.expect_download() as taking:
            page.locator("#ranks figure button").press("Enter")
        assert taking.value.suggested_filename.endswith(".svg")
        assert heard.errors == []
        # The check sees a control without a ring.
        page.add_style_tag(content="* { outline: none !important; }")
        page.locator("#verdicts th button").first.focus()
        page.keyboard.press("Tab")
        assert page.evaluate(REACHED)[1] is False


def test_paper_has_what_is_folded_and_no_browser_that_drew_nothing(
    chromium: Chromium, report_file: Path
) -> None:
    with looked_at(chromium, report_file) as (page, _):
        page.evaluate(
            "document.querySelector('#verdicts').insertAdjacentHTML('beforeend',"
            " '<details id=idle><summary>x</summary><div class=browser></div></details>')"
        )
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#verdicts details[open] table").is_visible()
        assert not page.locator("#idle summary").is_visible()
        assert page.locator(".takes:visible, .tools:visible, nav:visible").count() == 0
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 0


def test_the_page_is_whole_without_scripts(chromium: Chromium, report_file: Path) -> None:
    with looked_at(chromium, report_file, java_script_enabled=False) as (page, _):
        assert page.locator("#verdicts tbody tr").first.is_visible()
        assert page.locator(".tools, button.sort").count() == 0
        assert re.match("data:text/csv", page.locator("a.take").first.get_attribute("href"))
