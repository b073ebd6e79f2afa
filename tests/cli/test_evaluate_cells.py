"""`cislens evaluate` on a region store, with a small untrained model."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.evaluation.cells import features, run
from cislens.motifs.store import RegionStore
from cislens.representations.baselines import KmerCounts


@pytest.fixture(scope="module")
def planted():
    path = Path(__file__).parents[1] / "evaluation" / "cells" / "planted.py"
    spec = importlib.util.spec_from_file_location("planted_cells", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def job(tmp_path_factory, planted):
    """Store and model folder."""
    folder = tmp_path_factory.mktemp("cells")
    store = planted.build(folder, trained=3, size=60_000)
    return store.path, planted.run_of(folder, planted.model_of(store))


def invoke(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def refused(*arguments):
    with pytest.raises(CislensError) as caught:
        invoke(*arguments)
    return str(caught.value)


def exported_as_judged(out, store, path):
    """`cislens export` of an evaluation: an AUROC of its table is had again from the layers."""
    anndata = pytest.importorskip("anndata", reason="anndata of the extra `scverse` is missing")
    CliRunner().invoke(app, ["export", str(out), "--out", str(path)], catch_exceptions=False)
    table, regions = anndata.read_h5ad(path), RegionStore.open(store)
    assert list(table.obs_names) == regions.cells["cell_id"].to_list()
    assert list(table.var_names) == regions.regions["region_id"].to_list()
    judged = pl.read_parquet(out / "cells.parquet").filter(
        part="new cell types", metric="auroc", arm="m"
    )
    cells = np.flatnonzero(table.obs["split"] == "test")
    trained = np.flatnonzero(table.var["split"] == "train")
    found = []
    for cell in cells:
        at = [region for region in trained if table.layers["asked"][cell, region]]
        truth = table.layers["open"][cell, at].toarray()[0]
        found.append(roc_auc_score(truth, table.layers["m"][cell, at].toarray()[0]))
    assert np.mean(found) == pytest.approx(judged["value"].item(), abs=1e-6)
    assert (table.layers["m"] != table.X).nnz == 0


def test_tables_page_and_the_same_again(job, tmp_path, monkeypatch, model_folder):
    monkeypatch.setattr(features, "KmerCounts", lambda longest: KmerCounts(3))
    store, model = job
    out = tmp_path / "out"
    command = (f"m={model}", "--store", store, "--out", out, "--draws", 100)
    plan = json.loads(invoke(*command, "--dry-run", "--json").stdout)
    assert not out.exists() and plan["arms"] == {"m": {"seeds": 1}}
    assert list(plan["pairs"])[:2] == ["train", "valid"]
    found = json.loads(invoke(*command, "--json").stdout)
    assert found["report"] == str(out / "report.html") and found["notes"]
    scores = pl.DataFrame(found["cells"])
    parts = ["new regions", "new cell types", "new regions and cell types"]
    assert scores["part"].unique(maintain_order=True).to_list() == parts
    assert len(scores) == 3 * 2 * 10
    assert len(found["differences"]) == 3 * 2 * 4
    assert (scores["low"] <= scores["high"]).all()

    def never(*_):
        raise AssertionError("computed again")

    before = (out / "cells.parquet").stat().st_mtime_ns
    monkeypatch.setattr(run, "score_all", never)
    assert json.loads(invoke(*command, "--json").stdout) == found
    assert (out / "cells.parquet").stat().st_mtime_ns == before
    assert "New cell types" in invoke(*command).stdout
    exported_as_judged(out, store, tmp_path / "judged.h5ad")
    assert "another recipe" in refused(*command, "--seed", 1)
    other = tmp_path / "other"
    assert "ProfileModel" in refused(model_folder, "--store", store, "--out", other)
    assert not other.exists()


def test_options_of_profile_stores_are_refused(job, tmp_path):
    store, model = job
    for option in (("--split", "test"), ("--average", "rc")):
        message = refused(f"m={model}", "--store", store, "--out", tmp_path / "out", *option)
        assert "Leave out --split and --average" in message
    message = refused(f"neighbors={model}", "--store", store, "--out", tmp_path / "out")
    assert "name of a baseline" in message
    assert not (tmp_path / "out").exists()
