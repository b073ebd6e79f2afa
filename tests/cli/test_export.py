"""`cislens export` by kind of folder, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.motifs.store import RegionStore
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts
from cislens.representations.writing import write_embeddings

anndata = pytest.importorskip("anndata", reason="anndata of the extra `scverse` is missing")

Refused = Callable[..., str]


def call(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, ("export", *arguments, "--json"))])
    assert result.exit_code == 0, result.exception
    found: dict = json.loads(result.stdout)
    return found


def refused(*arguments: object) -> str:
    with pytest.raises(CislensError) as caught:
        CliRunner().invoke(app, [*map(str, ("export", *arguments))], catch_exceptions=False)
    return str(caught.value)


def task_of(folder: Path) -> Task:
    draw = generator("export")
    sequences = [draw.integers(0, 4, 50).astype(np.uint8) for _ in range(12)]
    rows = pl.DataFrame(
        {
            "example_id": [f"e{at:02d}" for at in range(12)],
            "y": [[float(at % 2)] for at in range(12)],
            "split": (["train"] * 2 + ["valid"] * 2 + ["test"] * 2) * 2,
            "cluster_id": [f"c{at}" for at in range(12)],
            "block_id": [f"b{at}" for at in range(12)],
        }
    )
    card = TaskCard(
        name="planted", kind="binary", species="yeast", window=50, strand="unstranded",
        target=Target(names=["bound"]), metric=Metric(primary="auroc"), split="predefined",
        block="locus",
    )  # fmt: skip
    task = make_task(card, rows, sequences)
    task.save(folder)
    return task


def test_embeddings_of_a_task_have_its_labels(tmp_path: Path) -> None:
    task = task_of(tmp_path / "task")
    folds = [task.fold(part) for part in ("test", "train", "valid")]
    ids = [name for fold in folds for name in fold.ids]
    write_embeddings(
        tmp_path / "store", KmerCounts(2), [s for fold in folds for s in fold.sequences], ids,
        species="yeast", stranded=False, task=("planted", task.task_hash),
    )  # fmt: skip
    out = tmp_path / "x.h5ad"
    found = call(tmp_path / "store", "--task", tmp_path / "task", "--out", out)
    assert (found["observations"], found["variables"]) == (
        12,
        12,
    )  # k-mers of either strand count as one
    table = anndata.read_h5ad(out)
    assert list(table.obs_names) == ids
    assert [int(name[1:]) % 2 for name in ids] == list(table.obs["label"])
    assert list(table.obs["split"]) == ["test"] * 4 + ["train"] * 4 + ["valid"] * 4
    other = task_of(tmp_path / "other").card.model_copy(update={"name": "another"})
    Task(other, task.examples).save(tmp_path / "another")
    message = refused(tmp_path / "store", "--task", tmp_path / "another", "--out", out)
    assert "needed are those of task another" in message


def test_a_region_store_is_cells_by_regions(region_store: RegionStore, tmp_path: Path) -> None:
    found = call(region_store.path, "--out", tmp_path / "x.h5ad")
    assert found["layers"] == ["open"]
    table = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert list(table.obs_names) == region_store.cells["cell_id"].to_list()
    assert list(table.var_names) == region_store.regions["region_id"].to_list()
    assert np.array_equal(table.X.toarray(), region_store.access.T)
    assert np.array_equal(table.layers["open"].toarray() > 0, region_store.is_open.T)
    assert table.varm["motifs"].shape == (table.n_vars, len(region_store.motif_ids))


def test_mistakes_say_what_to_do(tmp_path: Path, region_store: RegionStore) -> None:
    out = tmp_path / "x.h5ad"
    assert "nothing that can be exported" in refused(tmp_path, "--out", out)
    assert "does not exist" in refused(tmp_path / "none", "--out", out)
    assert "ends in .h5ad" in refused(region_store.path, "--out", tmp_path / "x.parquet")
    assert "--score means nothing here" in refused(
        region_store.path, "--score", "llr", "--out", out
    )
    assert not out.exists()
