"""Folders of results have a page each; what others name in them stays text."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.report.test_page import Page

from cislens.effects.attribution.files import write_array
from cislens.errors import CislensError
from cislens.report.kinds import write_page

BAD = "<script>alert('x')</script>=1"


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


@pytest.mark.parametrize("make", [attributions, variants])
def test_hostile_names_stay_text(make, tmp_path: Path) -> None:
    make(tmp_path / "given")
    write_page(tmp_path / "given", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert page.tags.count("script") == 1
    assert "<script>alert('x')</script>=1" in page.text
    assert not any(name.startswith("on") for _, name, _ in page.attributes)


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
