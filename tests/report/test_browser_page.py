"""The genome browser's page: what is in it, and what a real browser makes of it."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from tests.browser import Chromium, keep_picture, looked_at
from tests.report.browsing import (
    BIN,
    BINS,
    CHROM,
    HOSTILE,
    START,
    attributed_folder,
    measured_track,
    predicted_folder,
    scored_folder,
    write_manifest,
    yeast,
)

from cislens.errors import CislensError
from cislens.example import example_path
from cislens.genome.codes import N, decode
from cislens.report import browser
from cislens.report.browser import Place, View, json_in_page, library
from cislens.report.browser_pages import Asked, browser_page, offer
from cislens.report.inputs import ReportInput
from cislens.report.loci import StoredGenome
from cislens.report.page import render
from cislens.report.serving import address_of, server_of
from cislens.untrusted import plain_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Page

GENES = example_path("yeast_mini/genes.bed.gz")
GENE_ROWS = [tuple(line.split("\t")) for line in plain_bytes(GENES).decode().splitlines()]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Predictions of a track with a hostile name, attributions, variants, and what was measured."""
    root = tmp_path_factory.mktemp("browsing")
    folders = [
        predicted_folder(root / "predicted", HOSTILE),
        attributed_folder(root / "attributed"),
        scored_folder(root / "scored"),
    ]
    return Asked(folders, yeast().path, GENES, [measured_track(root / "tracks")])


@pytest.fixture(scope="module")
def view(asked: Asked) -> View:
    return asked.sources().embedded()


def track(view: View, start: str) -> Any:
    (found,) = [t for t in view.tracks if t["name"].startswith(start)]
    return found


def test_igv_is_the_file_that_the_readme_says() -> None:
    readme = Path(browser.__file__).with_name("static") / "README.md"
    (stated,) = re.findall(r"\| ([0-9a-f]{64}) \|", readme.read_text())
    assert hashlib.sha256(library().encode()).hexdigest() == stated


def test_a_view_holds_the_bases_of_its_places_and_no_more(view: View) -> None:
    coded = view.reference["fastaURL"].removeprefix("data:text/plain;base64,")
    lines = base64.b64decode(coded).decode().splitlines()
    assert len(lines) == 2 * len(view.places) == 8
    # 1-based with both ends in the name of a slice, 0-based in ours.
    size = yeast().size(CHROM)
    assert lines[0] == f">{CHROM}:{START + 1}-{START + 32_768} @len={size}"
    assert lines[1] == decode(yeast().fetch(CHROM, START, START + 32_768))


def test_predicted_bins_are_those_of_the_file(view: View) -> None:
    (first, *_) = track(view, "predicted")["stretches"]
    assert (first["start"], first["step"]) == (START, BIN)
    assert first["values"][:BINS] == [i + 1.0 for i in range(BINS)]
    assert first["values"][BINS:] == [None] * (32_768 // BIN - BINS)


def test_a_measured_track_is_averaged_as_it_was_learned(view: View, asked: Asked) -> None:
    measured = track(view, "measured")
    # 10 on half of the bases: 5 where a base without a value counts 0, as this track was read.
    assert measured["stretches"][0]["values"][0] == 5.0
    assert measured["autoscaleGroup"] == track(view, "predicted")["autoscaleGroup"]
    names = [t["name"].split()[0] for t in view.tracks]
    assert names == ["genes", "variants,", "measured", "predicted", "contribution"]
    table = asked.folders[0] / "tracks.tsv"
    kept = table.read_text()
    table.write_text(kept.replace("zero", "baseline"))
    try:
        other = asked.sources().embedded()
    finally:
        table.write_text(kept)
    assert track(other, "measured")["stretches"][0]["values"][0] == 10.0


def test_attributions_are_letters_of_single_bases(view: View) -> None:
    found = track(view, "contribution")
    assert found["graphType"] == "dynseq"
    stretch = found["stretches"][1]
    assert (stretch["start"], stretch["step"], stretch["values"]) == (START, 1, [1.0, -1.0] * 30)


def test_variants_lie_on_their_reference_bases_colored_by_score(view: View) -> None:
    gain, loss = track(view, "variants")["features"]
    assert (gain["start"], gain["end"], gain["name"]) == (12_999, 13_001, "rs1 AT>A")
    assert (loss["start"], loss["end"], loss["name"]) == (13_999, 14_000, "A>G")
    assert gain["color"] == "rgb(0,103,165)"
    red, _, blue = (int(value) for value in re.findall(r"\d+", loss["color"]))
    assert red > blue
    assert "color" not in track(view, "variants")  # which igv.js would draw all of them in


def test_genes_keep_their_strand_and_place(view: View) -> None:
    first = track(view, "genes")["features"][0]
    (row,) = [row for row in GENE_ROWS if row[3] == first["name"]]
    assert (first["chr"], str(first["start"]), str(first["end"])) == row[:3]
    assert first["strand"] == row[5] in "+-"


def test_the_most_unusual_variant_is_shown_first(view: View) -> None:
    assert [place.title for place in view.places] == [
        "predictions begin", "peak", "rs1 AT>A, 2", "A>G, -0.5",
    ]  # fmt: skip
    assert view.places[2] == Place(CHROM, 12_000, 14_000, "rs1 AT>A, 2")


def test_positions_are_asked_for_as_browsers_write_them(asked: Asked) -> None:
    (place,) = replace(asked, at=["II:12,801-12,900"]).sources().places
    assert place == Place(CHROM, 12_800, 12_900)


def test_names_end_no_script() -> None:
    text = json_in_page([HOSTILE, "a & b"])
    assert not set("<>&") & set(text)
    assert json.loads(text) == [HOSTILE, "a & b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"genome": None}, "give --genome"),
        ({"at": ["chrII:0-10"]}, "expected 1 <= start"),
        ({"at": ["chrII:5-2"]}, "expected 1 <= start"),
        ({"at": ["nowhere.bed"]}, "neither chrom:start-end nor a BED file"),
        ({"at": ["chrII:1-800000", "chrIV:1-1500000", "chrIV:1-1500000", "chrXVI:1-900000"]},
         "at most 4,000,000"),
        ({"genome": example_path("fly_mini/dm6_chr2L_4_7Mb.fa.gz")}, "made on another genome"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused(asked: Asked, change: dict[str, Any], said: str) -> None:
    with pytest.raises(CislensError, match=re.escape(said)):
        browser_page(replace(asked, **change))


def test_a_folder_of_another_kind_is_refused(asked: Asked, tmp_path: Path) -> None:
    write_manifest(tmp_path / "other", format="cislens importance")
    with pytest.raises(CislensError, match=r"holds cislens importance, expected"):
        browser_page(replace(asked, folders=[tmp_path / "other"]))


def test_a_store_stands_in_for_the_genome_under_its_windows() -> None:
    genome, margin = yeast(), 3
    windows = pl.DataFrame({"row": [0, 1], "chrom": [CHROM] * 2, "start": [100, 200],
                            "end": [200, 300]})  # fmt: skip
    codes = genome.windows([CHROM] * 2, [100 - margin, 200 - margin], 100 + 2 * margin)
    store: Any = SimpleNamespace(
        path=Path("store"), margin=margin, chrom_sizes=lambda _: genome.chrom_sizes,
        sequence=lambda _, rows: codes[rows],
    )  # fmt: skip
    stored = StoredGenome(store, "yeast", windows)
    inside = genome.fetch(CHROM, 97, 303)
    np.testing.assert_array_equal(stored.fetch(CHROM, 90, 310)[7:-7], inside)
    assert set(stored.fetch(CHROM, 90, 97)) == set(stored.fetch(CHROM, 303, 310)) == {N}
    np.testing.assert_array_equal(stored.windows([CHROM], [150], 100)[0], inside[53:153])


# What follows is seen in a real browser.

DRAWN = """color => [...document.querySelector('.stage').shadowRoot.querySelectorAll(
  '.igv-viewport canvas')].reduce((sum, canvas) => {
    if (!canvas.width || !canvas.height) return sum;
    const bytes = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < bytes.length; i += 4)
      sum += bytes[i + 3] > 60 && color.every((value, j) => Math.abs(bytes[i + j] - value) < 8);
    return sum;
  }, 0)"""
MEASURED, PREDICTED, LETTER_A = [0x56, 0x63, 0x6F], [0x00, 0x72, 0xB2], [0, 200, 0]


def drawn(page: "Page", color: list[int], most: int | None = None) -> int:
    """Pixels of a color, once there are some, or at most so many."""
    for _ in range(50):
        found: int = page.evaluate(DRAWN, color)
        if found > 0 if most is None else found <= most:
            break
        page.wait_for_timeout(100)
    return found


def ready(page: "Page") -> None:
    page.wait_for_selector("#browser[data-ready]", timeout=30_000)


@pytest.fixture(scope="module")
def page_file(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "browser.html"
    path.write_text(browser_page(asked), encoding="utf-8")
    return path


@pytest.mark.browser
def test_the_page_draws_moves_and_toggles(chromium: Chromium, page_file: Path) -> None:
    with looked_at(chromium, page_file) as (page, heard):
        ready(page)
        assert drawn(page, PREDICTED) > 1000
        assert drawn(page, MEASURED) > 0
        search = page.locator("input.igv-search-input")
        assert search.input_value() == f"{CHROM}:{START + 1:,}-{START + 32_768:,}"
        keep_picture(page, "browser-1280-light")

        search.fill(f"{CHROM}:13,000-13,400")
        search.press("Enter")
        page.wait_for_function(
            "document.querySelector('.stage').shadowRoot"
            ".querySelector('.igv-windowsize-panel-container').textContent.includes('401')"
        )
        page.get_by_role("button", name="peak").click()
        page.wait_for_timeout(300)
        assert search.input_value() == f"{CHROM}:{START + 1:,}-{START + 60:,}"
        letters = drawn(page, LETTER_A)
        keep_picture(page, "browser-1280-letters")
        page.get_by_label("contribution").uncheck()
        # What is left of that color is the sequence's own.
        assert 0 < drawn(page, LETTER_A, most=letters - 200) < letters - 200

        page.get_by_role("button", name="predictions begin").click()
        before = drawn(page, PREDICTED)
        box = page.get_by_label("predicted")
        box.uncheck()
        assert drawn(page, PREDICTED, most=before // 10) <= before // 10
        box.check()
        page.wait_for_timeout(300)
        assert drawn(page, PREDICTED) == pytest.approx(before, rel=0.2)
        search.fill("YBL101C")
        search.press("Enter")
        page.wait_for_timeout(500)
        first, last = (
            int(n.replace(",", "")) for n in search.input_value().split(":")[1].split("-")
        )
        gene = next(g for g in GENE_ROWS if g[3] == "YBL101C")
        assert first <= int(gene[1]) + 1 <= int(gene[2]) <= last < first + 20_000
        assert page.title() == "Genome browser"
        assert heard.errors == []
        assert heard.requests == [page_file.as_uri()]


@pytest.mark.browser
def test_the_page_fits_narrow_and_wide_light_and_dark(chromium: Chromium, page_file: Path) -> None:
    with looked_at(chromium, page_file, 390) as (page, heard):
        ready(page)
        for width, colors in ((390, "light"), (390, "dark"), (1280, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=colors)  # type: ignore[arg-type]
            page.wait_for_timeout(300)
            assert drawn(page, PREDICTED) > 200
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            label = page.locator(".igv-track-label").first
            ink = label.evaluate("element => getComputedStyle(element).color")
            assert ink == "rgb(0, 0, 0)"  # turned with the rest in the dark
            keep_picture(page, f"browser-{width}-{colors}")
        assert heard.errors == []


@pytest.mark.browser
def test_a_served_page_reads_whole_files_by_ranges(chromium: Chromium, asked: Asked) -> None:
    offered = offer(asked)
    with server_of(offered) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with looked_at(chromium, address_of(server)) as (page, heard):
            page.on("response", lambda answer: statuses.append((answer.url, answer.status)))
            statuses: list[tuple[str, int]] = []
            page.reload()
            ready(page)
            assert drawn(page, PREDICTED) > 1000
            keep_picture(page, "serve-1280-light")
        server.shutdown()
    read = {status for url, status in statuses if url.endswith(".bw")}
    assert read == {206}
    assert heard.errors == []
    assert heard.outside() == []


@pytest.mark.browser
def test_a_report_opens_the_browser_when_its_fold_is_opened(
    chromium: Chromium, run: ReportInput, tmp_path: Path
) -> None:
    (locus, *_) = run.loci
    shown = replace(locus, sequence="ACGT" * ((locus.end - locus.start) // 4), chrom_size=10**8)
    page_file = tmp_path / "report.html"
    nothing = dict.fromkeys(
        ("ranks", "efficiency", "label_areas", "layers", "calibration", "costs", "training",
         "experts")
    )  # fmt: skip
    few = replace(
        run, loci=[shown], verdicts=run.verdicts.head(1), scores=run.scores.head(2), **nothing
    )
    page_file.write_text(render(few), encoding="utf-8")
    with looked_at(chromium, page_file) as (page, heard):
        assert page.evaluate("window.igv") is None
        page.locator("details:has(#browser) > summary").click()
        ready(page)
        assert drawn(page, PREDICTED) > 200
        keep_picture(page, "report-browser-1280-light", whole=False)
        assert heard.errors == []
        assert heard.requests == [page_file.as_uri()]
