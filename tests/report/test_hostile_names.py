"""Whatever others name, in every page, is text: in its HTML, in its figures and in its tables."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest
from tests.browser import looked_at
from tests.report import test_audit_page, test_cells_page, test_profiles_page, test_run_page
from tests.report.conftest import TASKS, TRAINED, sample_run
from tests.report.test_kinds import BAD, attributions, insertions, predictions, variants
from tests.report.test_page import Page

from cislens.report.audit import render_audit
from cislens.report.cells import render_cells
from cislens.report.kinds import write_page
from cislens.report.page import render
from cislens.report.profiles import render_profiles


def renamed(value: Any, names: dict[str, str]) -> Any:
    """The same with other names in every text of it: of frames, records, lists and mappings."""
    if isinstance(value, str):
        for name, other in names.items():
            value = value.replace(name, other)
        return value
    if isinstance(value, pl.DataFrame):
        text = pl.col(pl.String)
        for name, other in names.items():
            value = value.with_columns(text.str.replace_all(name, other, literal=True))
        return value
    if isinstance(value, dict):
        return {renamed(key, names): renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(renamed(inner, names) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{each.name: renamed(getattr(value, each.name), names)
                      for each in fields(value) if each.init}
        )  # fmt: skip
    return value


@lru_cache
def hostile_bench() -> str:
    """A name of an arm, a task, a metric, a chromosome, a species, tracks, genes, loci, facts."""
    parts = (TRAINED, TASKS[0][0], "Pearson r", "chrIV", "yeast", "ATAC", "SIR2", "CTCF", "demo",
             "pretraining", "gc-only", "embed", "closed", "block 1", "sacCer3")  # fmt: skip
    return render(renamed(sample_run(), {name: f"{BAD}{at}" for at, name in enumerate(parts)}))


def bench(_: Path) -> str:
    return hostile_bench()


def audit(_: Path) -> str:
    whole = test_audit_page.report(*test_audit_page.CHECKS)
    names = ("exact duplicates", "pos", "set & <b>", "read so", "say how", "rows seen")
    return render_audit(renamed(whole, {name: f"{BAD}{at}" for at, name in enumerate(names)}))


def cells(_: Path) -> str:
    return render_cells(renamed(test_cells_page.evaluation(), {"good": BAD, "a & b": BAD}))


def profiles(_: Path) -> str:
    names = {"good": BAD, "cage<1>": BAD + "1", "yeast": BAD + "2", "CAGE & co": BAD + "3"}
    return render_profiles(renamed(test_profiles_page.evaluation(), names))


def run(folder: Path) -> str:
    folder.mkdir()
    recipe = {"store": BAD, "model": BAD, "training": {"steps": 300}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    test_run_page.metrics(f"{BAD}.").write_parquet(folder / "metrics.parquet")
    rule = {"metric": BAD, "side": "below", "warn": 0.2, "stop": 0.1, "meaning": BAD, "worst": 0}
    seen = [{"step": step, "values": {BAD: 0.05}} for step in (200, 300)]
    report = {"rules": [rule], "validations": seen, "step": 300, "checkpoint": BAD}
    (folder / "collapse_report.json").write_text(json.dumps(report))
    return written(folder)


def written(folder: Path) -> str:
    write_page(folder, folder / "page.html")
    return (folder / "page.html").read_text("utf-8")


def of(make: Callable[[Path], None]) -> Callable[[Path], str]:
    def page(folder: Path) -> str:
        make(folder)
        return written(folder)

    page.__name__ = make.__name__
    return page


PAGES = [bench, audit, cells, profiles, run,
         *map(of, (attributions, insertions, predictions, variants))]  # fmt: skip


@pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
def test_names_are_text(make: Callable[[Path], str], tmp_path: Path) -> None:
    page = Page(make(tmp_path / "given"))
    assert page.scripts == [files("cislens.report").joinpath("page.js").read_text("utf-8")]
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert BAD in page.text
    links = [value for _, name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("#", "data:")) for link in links)
    tables = [unquote(link) for link in links if link.startswith("data:text/csv")]
    assert any("'=cmd()" in table for table in tables)
    for table in tables:
        for row in csv.reader(io.StringIO(table.partition(",")[2])):
            assert not [cell for cell in row if cell.startswith("=")]


@pytest.mark.browser
def test_nothing_of_a_name_is_run(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(hostile_bench(), "utf-8")
    with looked_at(chromium, tmp_path / "page.html") as (page, heard):
        called: list[str] = []
        page.on("dialog", lambda dialog: (called.append(dialog.message), dialog.dismiss()))
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        page.locator("input[type=search]").first.fill("cmd")
        page.locator("#verdicts th button").first.click()
        assert page.locator("main img, main iframe, main script").count() == 0
        assert called == []
        assert heard.errors == []
        assert heard.outside() == []
