import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.report.inputs import Locus, LocusTrack, ReportInput
from cislens.report.page import CONTENTS, render, write_report
from cislens.report.words import grouped, interval

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Tags, ids, text and attributes; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.images: list[dict[str, str | None]] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "svg":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open[-1:] == ["script"] else self.pieces).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


@pytest.fixture(scope="module")
def html(run: ReportInput) -> str:
    return render(run)


def test_page_is_well_formed_with_unique_ids(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert len(html) < 3_000_000


def test_nothing_is_fetched(html: str) -> None:
    page = Page(html)
    assert not {"iframe", "object", "embed", "form"} & set(page.tags)
    assert page.scripts == [files("cislens.report").joinpath("page.js").read_text("utf-8")]
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "xlink:href"):
            assert value.startswith(("#", "data:")), (tag, name, value)
        assert not name.startswith("on")
    assert "@import" not in html
    drawn = html[: html.index("<script>")]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", drawn))
    assert "http:" not in html
    assert "https:" not in html


def test_sections_stand_in_order_and_are_listed(html: str) -> None:
    page = Page(html)
    order = ["headline", *(name for name, _ in CONTENTS)]
    places = [page.ids.index(name) for name in order]
    assert places == sorted(places)
    for name, _ in CONTENTS:
        assert ("a", "href", f"#{name}") in page.attributes


def test_every_figure_says_what_it_shows(html: str) -> None:
    for attributes in Page(html).images:
        if attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img"
            assert len(attributes["aria-label"] or "") > 20
    drawn = 5 + 5 + 5 + 3 + 3  # forests, scores, curves, loci, experts
    behind = 3 + 1 + 4 + 1 + 6 + 3 + 4  # controls, ranks, labels, layers, maps, calibration, cost
    assert html.count('role="img"') == drawn + behind


def test_numbers_on_the_page_are_those_of_the_frames(run: ReportInput, html: str) -> None:
    text = Page(html).text
    for row in run.verdicts.iter_rows(named=True):
        whole = interval(row["difference"], row["diff_low"], row["diff_high"], signed=True)
        assert whole == (
            f"{row['difference']:+.3f} [{row['diff_low']:+.3f}, {row['diff_high']:+.3f}]"
        ).replace("-", "\u2212")
        assert whole in text
        assert f"n {row['n_test']:,}" in text
    for row in run.scores.iter_rows(named=True):
        assert f"{row['point']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in text


def test_colors_follow_the_page(html: str) -> None:
    figures = html[html.index("<main>") :]
    assert re.findall(r"(?:fill|stroke):\s*(#[0-9a-f]+)", figures) == []
    used = set(re.findall(r"var\(--([\w-]+)\)", html))
    defined = re.findall(r"--([\w-]+):", html)
    assert used <= set(defined)
    # Light, dark and print each give every color.
    assert {defined.count(name) for name in used} == {3}


def test_users_plot_settings_do_not_matter(run: ReportInput, html: str) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        assert render(run) == html


def test_missing_parts_are_said_to_be_missing(run: ReportInput) -> None:
    bare = ReportInput("bare", run.verdicts.clear(), run.scores.clear())
    text = Page(render(bare)).text
    for sentence in (
        "This run holds no comparison, so nothing is claimed.",
        "This run holds no comparison, so there is no verdict.",
        "This run holds no scores.",
        "No training log was given, so no curves are shown.",
        "No held-out loci were given, so no tracks are shown.",
        "The model has no expert layer, or its use was not recorded.",
        "The manifest does not say what the intervals cover.",
        "The manifest does not record the splits.",
        "The manifest records no licences.",
        "No manifest was given",
    ):
        assert sentence in text


def test_undefined_numbers_are_dashes_never_nan(run: ReportInput) -> None:
    nan = pl.lit(float("nan"))
    numbers = ("point", "low", "high", "difference", "diff_low", "diff_high", "p_holm", "mde")
    broken = replace(
        run,
        verdicts=run.verdicts.with_columns(**dict.fromkeys(numbers, nan)),
        scores=run.scores.with_columns(point=nan, low=nan, high=nan),
        loci=[Locus("yeast", "chrI", 0, 10, [LocusTrack("flat", np.zeros(4), np.ones(4))])],
    )
    text = Page(render(broken)).text
    assert "nan" not in text.lower().replace("finance", "")
    assert "r = \u2013" in text


def test_manifest_is_printed_whole(run: ReportInput, html: str) -> None:
    text = Page(html).text
    for value in (
        "9f2c" * 16,
        "ledger",
        "train.seconds",
        "171.2",
        "preset: space-plus-tiny",
        "2.13.0",
    ):
        assert value in text
    assert "windows over two blocks 84" in text
    assert "public domain" in text


def test_report_is_written_whole_and_the_same_bytes_again(
    run: ReportInput, tmp_path: Path, html: str
) -> None:
    path = tmp_path / "folder" / "report.html"
    assert write_report(run, path) == path
    assert path.read_text("utf-8") == html
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_counts_are_grouped() -> None:
    assert grouped(1234567) == "1,234,567"
