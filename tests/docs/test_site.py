"""The site is built without a network, and reads without one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.browser import Chromium, keep_picture, looked_at
from tests.docs.blocks import ROOT

pytest.importorskip("mkdocs", reason="mkdocs of the `docs` extra is missing")
pytestmark = pytest.mark.slow


def build(settings: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build --strict`, where every warning is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", str(settings), "--site-dir", str(folder)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; pages without a place, and links and anchors that miss, would stop it."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_of_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    loads = re.compile(r"<(?:script|img|link)[^>]+(?:src|href)=\"?(https?:[^\" >]+)")
    assert [(page.name, found) for page in pages for found in loads.findall(page.read_text())] == []


def test_formulas_are_mathml(site: Path) -> None:
    page = (site / "concepts/space.html").read_text()
    assert page.count("<math") >= 8
    assert "\\frac" not in page and "arithmatex" not in page


def test_the_reference_says_what_the_docstrings_say(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert "cislens.effects.variants.scores.score_variants" in page
    assert "alternate over reference" in page


def test_a_link_or_an_anchor_that_misses_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Here\n[a](nowhere.md) [b](#nothing)\n")
    text = (ROOT / "mkdocs.yml").read_text()
    rules = text[text.index("validation:") : text.index("\nnav:")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\nnav: [index.md]\n{rules}\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr and "#nothing" in done.stderr


@pytest.mark.browser
def test_search_works_from_a_file(chromium: Chromium, site: Path) -> None:
    with looked_at(chromium, site / "index.html") as (page, heard):
        page.keyboard.press("/")
        page.keyboard.type("homologs", delay=20)
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        keep_picture(page, "docs-search", whole=False)
        assert heard.errors == [] and heard.outside() == []
