"""Folders of results have a page each; what others name in them stays text."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.report.browsing import predicted_folder
from tests.report.test_page import Page

from cislens.effects.attribution.files import write_array
from cislens.errors import CislensError
from cislens.report.kinds import write_page

BAD = "=cmd()\"'><script>alert('x')</script></script><img src=x onerror=alert(1)>" + "W" * 300


def attributions(folder: Path) -> None:
    folder.mkdir()
    one_hot = np.zeros((2, 4, 80), np.int8)
    one_hot[:, 2] = 1
    shap = np.zeros((2, 4, 80), np.float32)
    shap[0, 2, 30:35], shap[1, 2, 40:44] = 0.1, 2.0
    write_array(folder / "ohe.npz", one_hot.shape, np.int8, [one_hot])
    write_array(folder / "shap.npz", shap.shape, np.float32, [shap])
    regions = {"chrom": ["c1", "c2"], "start": [100, 1000], "end": [180, 1080]}
    table = pl.DataFrame({**regions, "name": ["weak", BAD], "score": [0.5, 1.5]})
    table.write_csv(folder / "regions.tsv", separator="\t", quote_style="never")
    manifest = {"format": "cislens attributions", "regions": 2, "width": 80,
                "settings": {"method": BAD}}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


def variants(folder: Path) -> None:
    folder.mkdir()
    pl.DataFrame({
        "chrom": ["c1"] * 3, "pos": [5, 6, 7], "ref": ["A"] * 3, "alt": ["C"] * 3,
        "id": ["mild", "", BAD], "any_p": [0.5, 0.2, 0.001], "any_q": [0.5, 0.3, 0.003],
    }).write_parquet(folder / "variants.parquet")  # fmt: skip
    settings = {"species": BAD, "average": "rc", "seed": 0}
    (folder / "manifest.json").write_text(
        json.dumps({"format": "cislens-variants", "settings": settings})
    )
    (folder / "summary.json").write_text(
        json.dumps({"variants": 3, "left_out": {BAD: 2}, "columns": {BAD: BAD}, "warning": BAD})
    )


def insertions(folder: Path) -> None:
    folder.mkdir()
    (folder / "importance.tsv").write_text(
        "motif\teffect\tlow\thigh\tsham\tp_value\tbackgrounds\n"
        f"{BAD}\t0.25\t-1e-05\t0.5\t0.01\t0.04\t20\n"
    )
    manifest = {"format": "cislens importance", "settings": {"insert": [BAD], BAD: BAD}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def predictions(folder: Path) -> None:
    """Bins 1 to 40 of one track, over 128 bp each."""
    predicted_folder(folder, BAD)
    said = json.loads((folder / "manifest.json").read_text())
    said["settings"] |= {"models": [BAD], "species": BAD, "average": "rc", "device": BAD}
    said |= {"bins": 40, "genome": BAD, "windows_padded_with_n": 0, "files": ["a.bw"]}
    (folder / "manifest.json").write_text(json.dumps(said))


def test_predictions_say_the_mean_and_the_top_of_a_track(tmp_path: Path) -> None:
    predictions(tmp_path / "given")
    write_page(tmp_path / "given", tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert "1 track of" in text and "over 40 bins of" in text
    # The mean of 1, 2, ... 40, and 40.
    assert "20.5000 40.0000" in text
    assert f"a.bw {(tmp_path / 'given' / 'a.bw').stat().st_size:,}" in text


def test_a_motif_set_in_has_its_effect_and_interval(tmp_path: Path) -> None:
    insertions(tmp_path / "given")
    write_page(tmp_path / "given", tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert "1 motif set into random sequence." in text
    assert "0.25 \u22121e\u221205 0.5 0.01 0.04 20" in text


def test_the_strongest_region_is_drawn_first(tmp_path: Path) -> None:
    attributions(tmp_path / "given")
    write_page(tmp_path / "given", tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert text.index("strongest 21 bp 8") < text.index("strongest 21 bp 0.5")


def test_variants_are_listed_by_p_and_counted_by_rate(tmp_path: Path) -> None:
    variants(tmp_path / "given")
    write_page(tmp_path / "given", tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert "1 of 3 variants stand out at a false discovery rate of 5 %." in text
    assert text.index("c1:7 A>C") < text.index("c1:6 A>C") < text.index("c1:5 A>C")


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="no results that have a page"):
        write_page(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
