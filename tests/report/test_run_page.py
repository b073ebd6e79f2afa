"""The page of a training run: its monitors with their limits, and why it was stopped."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.files import write_atomic
from cislens.report.monitors import monitor_panels, term_panels
from cislens.report.run import render_run
from cislens.training.collapse import MARKOV

METRICS = {
    "masked/nats_unique": (1.45, 1.34), "masked/accuracy": (0.25, 0.36),
    "rankme_share": (0.9, 0.04), "feature_std": (0.08, 0.5), "composition_share": (0.1, 0.3),
    "teacher/marginal": (0.8, 0.7), "teacher/sharpness": (0.9, 0.4), "knn/auroc": (0.5, 0.7),
    "knn/gc_auroc": (0.55, 0.55), "gc_r2": (0.9, 0.8), "agreement": (1.0, 0.9),
    "distance": (0.0, 0.1),
}  # fmt: skip


def metrics(part: str = "") -> pl.DataFrame:
    """A run of 300 steps that goes from the first of each pair to the second."""
    rows = [(0, "valid", MARKOV, 1.36)]
    for step in (0, 100, 200, 300):
        for name, (first, last) in METRICS.items():
            value = float(np.interp(step, (0, 300), (first, last)))
            rows.append((step, "valid", f"{part}{name}", value))
        if step:
            for split in ("train", "valid"):
                rows += [(step, split, f"{part}{name}", 1.0) for name in ("latent", "masked")]
                rows.append((step, split, "loss", 2.0))
    return pl.DataFrame(rows, schema=["step", "split", "metric", "value"], orient="row")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(
        "store: nowhere\nmodel: findna-plus-tiny\nobjective: {name: distillation}\n"
        "training: {steps: 1000}\n"
    )
    metrics().write_parquet(tmp_path / "metrics.parquet")
    return tmp_path


def test_each_monitor_is_drawn_with_its_limits() -> None:
    alts = {panel.title: panel.picture.alt for panel in monitor_panels(metrics())}
    assert len(alts) == 11
    assert "warned at 0.200; stopped at 0.100" in alts["Effective rank"]
    # It began at 0.08, below both limits.
    assert "warned at 0.060; stopped at 0.040" in alts["Spread"]
    assert "order-2 Markov at 1.360; stopped at 1.400" in alts["Nats per hidden base"]
    assert "vectors valid ends at 0.700" in alts["Nearest neighbors"]
    assert "GC alone valid ends at 0.550" in alts["Nearest neighbors"]
    assert "stopped" not in alts["GC content"]


def test_a_part_of_a_mixture_has_panels_of_its_own() -> None:
    both = pl.concat([metrics("dna."), metrics("other.")])
    both = both.filter(pl.col("metric").str.ends_with("rankme_share"))
    titles = [panel.title for panel in monitor_panels(both)]
    assert titles == ["dna: Effective rank", "other: Effective rank"]
    assert [panel.title for panel in term_panels(metrics("dna."))] == [
        "dna: Term masked", "dna: Term latent",
    ]  # fmt: skip


def test_a_run_without_monitors_has_none() -> None:
    assert monitor_panels(None) == []
    assert monitor_panels(metrics().filter(metric="loss")) == []


def test_the_page_of_an_unfinished_run(folder: Path) -> None:
    page = render_run(folder)
    assert "The run is not finished; it was last validated at step 300." in page
    assert "The run was not stopped for a collapse." in page
    assert page.count("<figure") == 14


def test_the_page_of_a_collapsed_run_says_why(folder: Path) -> None:
    rule = {"metric": "rankme_share", "side": "below", "warn": 0.2, "stop": 0.1,
            "meaning": "the vectors of windows use few directions", "worst": 0.0}  # fmt: skip
    seen = [{"step": 200, "values": {"rankme_share": 0.07}},
            {"step": 300, "values": {"rankme_share": None}}]  # fmt: skip
    report = {"rules": [rule], "validations": seen, "step": 300,
              "checkpoint": "checkpoints/good.ckpt"}  # fmt: skip
    write_atomic(folder / "collapse_report.json", json.dumps(report))
    page = render_run(folder)
    assert "the model has collapsed. At step 300, rankme_share is not finite, below 0.1" in page
    assert "The last checkpoint from before it is checkpoints/good.ckpt" in page
    assert "<td>0.070</td>" in page


def test_cislens_report_takes_a_run(folder: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    page = Path(json.loads(done.output)["report"])
    assert page == folder / "report.html"
    assert "Effective rank" in page.read_text()
