"""The genome browser's page: what is in it, and what a real browser makes of it."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from tests.browser import Chromium, keep_picture, looked_at
from tests.genome.test_reference import write_fasta, write_two_bit
from tests.report.browsing import (
    BIN,
    BINS,
    CHROM,
    HOSTILE,
    HOSTILE_FILE,
    START,
    attributed_folder,
    gene_file,
    hostile_track,
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

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Predictions, attributions, variants, genes and what was measured; hostile names in each."""
    root = tmp_path_factory.mktemp("browsing")
    folders = [
        predicted_folder(root / f"predicted {HOSTILE_FILE}", HOSTILE),
        attributed_folder(root / "attributed"),
        scored_folder(root / "scored"),
    ]
    tracks = [measured_track(root / "tracks"), hostile_track(root / "tracks")]
    return Asked(folders, yeast().path, gene_file(root), tracks)


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
    assert len(lines) == 2 * len(view.places) == 10
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
    measured = track(view, "measured </script>")
    # 10 on half of the bases: 5 where a base without a value counts 0, as this track was read.
    assert measured["stretches"][0]["values"][0] == 5.0
    assert measured["autoscaleGroup"] == track(view, "predicted")["autoscaleGroup"]
    names = [t["name"].split()[0] for t in view.tracks]
    assert names == ["genes", "variants,", "measured", "measured", "predicted", "contribution"]
    assert view.tracks[2]["name"] == f"measured {HOSTILE_FILE}"
    table = asked.folders[0] / "tracks.tsv"
    kept = table.read_text()
    table.write_text(kept.replace("zero", "baseline"))
    try:
        other = asked.sources().embedded()
    finally:
        table.write_text(kept)
    assert track(other, "measured </script>")["stretches"][0]["values"][0] == 10.0


def test_attributions_are_letters_of_single_bases(view: View) -> None:
    found = track(view, "contribution")
    assert found["graphType"] == "dynseq"
    stretch = found["stretches"][1]
    assert (stretch["start"], stretch["step"], stretch["values"]) == (START, 1, [1.0, -1.0] * 30)


def test_variants_lie_on_their_reference_bases_colored_by_score(view: View) -> None:
    gain, loss, _ = track(view, "variants")["features"]
    assert (gain["start"], gain["end"], gain["name"]) == (12_999, 13_001, "rs1 AT>A")
    assert (loss["start"], loss["end"], loss["name"]) == (13_999, 14_000, "A>G")
    assert gain["color"] == "rgb(0,103,165)"
    red, _, blue = (int(value) for value in re.findall(r"\d+", loss["color"]))
    assert red > blue
    assert "color" not in track(view, "variants")  # which igv.js would draw all of them in


def test_genes_have_exons_a_coding_part_and_a_strand(view: View, asked: Asked) -> None:
    rows = [line.split("\t") for line in track(view, "genes")["bed"].splitlines()]
    expected = [CHROM, "13000", "14600", "spliced", "0", "+", "13200", "14300", ".", "2",
                "400,600", "0,1000"]  # fmt: skip
    assert rows[0] == expected
    assert not set('<" ;') & set(rows[1][3])
    (place,) = (far := replace(asked, at=[f"{CHROM}:1-12000"]).sources()).places
    assert place.end == 12_000
    assert track(far.embedded(), "genes")["bed"] == ""
    # A server gives all of them, at an address.
    offered = offer(asked)
    assert offered.pages["/texts/genes.bed"] == track(view, "genes")["bed"]


def test_the_most_unusual_variant_is_shown_first(view: View) -> None:
    assert [place.title for place in view.places] == [
        "predictions begin", "peak", "rs1 AT>A, 2", "A>G, -0.5", f"{HOSTILE} C>T, 0.1",
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


def test_a_run_shows_its_validation_windows(
    run: ReportInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (locus, *_) = run.loci
    shown = [replace(locus, sequence="ACGT" * ((locus.end - locus.start) // 4))]
    monkeypatch.setattr("cislens.report.run.watched_loci", lambda folder: shown)
    (tmp_path / "metrics.parquet").touch()
    page = browser_page(Asked([tmp_path]))
    assert "Validation windows, measured and predicted" in page
    assert f"{locus.chrom}:{locus.start + 1:,}" in page
    shown.clear()
    with pytest.raises(CislensError, match="shows no validation windows"):
        browser_page(Asked([tmp_path]))


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


GENES_READ = """async chrom => {
  const [track] = document.getElementById("browser").igv.findTracks("name", "genes");
  const found = await track.getFeatures(chrom, 12000, 16000, 1);
  return found.map(({ start, end, name, strand, exons }) => [name, strand, start, end,
    exons.map(({ start, end, cdStart, cdEnd }) => [start, cdStart ?? start, cdEnd ?? end, end])]);
}"""


def search_for(page: "Page", text: str) -> tuple[int, int]:
    """The span that the browser shows after a search, 1-based with both ends included."""
    field = page.locator("input.igv-search-input")
    before = field.input_value()
    field.fill(text)
    field.press("Enter")
    for _ in range(50):
        if field.input_value() not in (text, before) or text == before:
            break
        page.wait_for_timeout(100)
    first, last = field.input_value().split(":")[1].replace(",", "").split("-")
    return int(first), int(last)


def require_genes_with_exons(page: "Page") -> None:
    """As igv.js draws them: each exon with its coding part."""
    spliced, hostile = page.evaluate(GENES_READ, CHROM)
    assert spliced == [
        "spliced", "+", 13_000, 14_600,
        [[13_000, 13_200, 13_400, 13_400], [14_000, 14_000, 14_300, 14_600]],
    ]  # fmt: skip
    assert "<" not in hostile[0] and "img" in hostile[0]
    first, last = search_for(page, "spliced")
    assert first <= 13_001 < 14_600 <= last < first + 20_000


def require_plain_words(page: "Page") -> None:
    """What igv.js says of the variant in the middle, as HTML, has no element of the data's."""
    at = page.locator(".igv-viewport").filter(has_text="variants, blue").bounding_box()
    assert at is not None
    page.mouse.click(at["x"] + at["width"] / 2, at["y"] + 28)
    page.wait_for_timeout(600)
    keep_picture(page, "browser-1280-words")
    said = page.locator("[class*=popover]").filter(has_text="C>T").first
    said.wait_for(timeout=5000)
    assert "onerror" in said.inner_text()
    assert said.locator("img").count() == 0
    attributes = "e => [...e.querySelectorAll('*')].flatMap(part => part.getAttributeNames())"
    names = said.evaluate(attributes)
    assert "title" in names
    assert not any(name.startswith(("on", "document")) for name in names)
    page.keyboard.press("Escape")


@pytest.mark.browser
def test_the_page_draws_moves_toggles_and_fits(chromium: Chromium, page_file: Path) -> None:
    with looked_at(chromium, page_file) as (page, heard):
        ready(page)
        assert drawn(page, PREDICTED) > 1000
        assert drawn(page, MEASURED) > 0
        search = page.locator("input.igv-search-input")
        assert search.input_value() == f"{CHROM}:{START + 1:,}-{START + 32_768:,}"
        keep_picture(page, "browser-1280-light")
        for width, colors in ((390, "light"), (390, "dark"), (1280, "dark"), (1280, "light")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=colors)  # type: ignore[arg-type]
            page.wait_for_timeout(300)
            assert drawn(page, PREDICTED) > 200
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            label = page.locator(".igv-track-label").first
            ink = label.evaluate("element => getComputedStyle(element).color")
            assert ink == "rgb(0, 0, 0)"  # turned with the rest in the dark
            keep_picture(page, f"browser-{width}-{colors}")

        before = drawn(page, PREDICTED)
        box = page.get_by_label("predicted")
        box.uncheck()
        assert drawn(page, PREDICTED, most=before // 10) <= before // 10
        box.check()
        page.wait_for_timeout(300)
        assert drawn(page, PREDICTED) == pytest.approx(before, rel=0.2)

        assert search_for(page, f"{CHROM}:13,000-13,400") == (13_000, 13_400)
        require_genes_with_exons(page)
        page.wait_for_timeout(300)
        keep_picture(page, "browser-1280-exons")
        page.get_by_role("button", name="peak").click()
        page.wait_for_timeout(300)
        assert search.input_value() == f"{CHROM}:{START + 1:,}-{START + 60:,}"
        letters = drawn(page, LETTER_A)
        keep_picture(page, "browser-1280-letters")
        page.get_by_label("contribution").uncheck()
        # What is left of that color is the sequence's own.
        assert 0 < drawn(page, LETTER_A, most=letters - 200) < letters - 200
        page.get_by_role("button", name="C>T").click()
        page.wait_for_timeout(300)
        require_plain_words(page)
        assert page.title() == "Genome browser"
        assert heard.errors == []
        assert heard.requests == [page_file.as_uri()]


@pytest.mark.browser
@pytest.mark.parametrize(("end", "write"), [("fa", write_fasta), ("2bit", write_two_bit)])
def test_a_served_page_reads_whole_files_by_ranges(
    chromium: Chromium, asked: Asked, tmp_path: Path, end: str, write: Callable[..., Path]
) -> None:
    # Of a genome that has one chromosome, under a name that must not run.
    bases = {CHROM: decode(yeast().chromosome(CHROM))}
    genome = write(tmp_path / f"{HOSTILE_FILE}.{end}", bases)
    offered = offer(replace(asked, genome=genome, folders=asked.folders[1:]))
    statuses: dict[str, set[int]] = {}
    with server_of(offered) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with looked_at(chromium, "about:blank") as (page, heard):
            page.on(
                "response",
                lambda answer: statuses.setdefault(
                    answer.url.rsplit(".", 1)[-1], set()).add(answer.status),
            )  # fmt: skip
            page.goto(address_of(server))
            ready(page)
            page.get_by_role("button", name="rs1").click()
            assert drawn(page, MEASURED) > 1000
            require_genes_with_exons(page)
            keep_picture(page, f"serve-{end}-1280-light")
            page.get_by_role("button", name="peak").click()
            # The bases of the reference, which stand above the tracks in their own colors.
            page.get_by_label("contribution").uncheck()
            assert drawn(page, LETTER_A) > 0
            assert page.title() == "Genome browser"
            assert heard.errors == []
            assert heard.outside() == []
        server.shutdown()
    assert statuses["bw"] == {206}
    assert statuses["bed"] == {200}
    assert statuses[end] == {206}


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


@pytest.mark.parametrize("option", ["genome", "genes"])
def test_a_run_is_shown_with_what_its_recipe_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "metrics.parquet").touch()
    monkeypatch.setattr("cislens.report.run.watched_loci", lambda folder: [])
    with pytest.raises(CislensError, match="its recipe names"):
        browser_page(replace(Asked([tmp_path]), **{option: tmp_path / "some"}))
