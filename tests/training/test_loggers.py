"""What other tools' loggers get is what metrics.parquet has, without a network."""

import csv
import math
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from lightning.pytorch.loggers import CSVLogger

from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.fit import Run, fit

TINY = {"preset": "space-plus-tiny", "dim": 24, "stem_dim": 8, "depth": 1, "heads": 2}


@pytest.fixture
def recipe(small_store: ProfileStore) -> TrainRecipe:
    training = Training(steps=2, batch_size=4, validate_every=1)
    return TrainRecipe(store=small_store.path, model=TINY, training=training)


def with_logger(recipe: TrainRecipe, name: str) -> TrainRecipe:
    if find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed")
    training = recipe.training.model_copy(update={"loggers": [name]})
    return recipe.model_copy(update={"training": training})


def expected(run: Run) -> dict[tuple[str, int], float]:
    rows = pl.read_parquet(run.metrics_path).iter_rows(named=True)
    found = {(f"{row['split']}/{row['metric']}", row["step"]): row["value"] for row in rows}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def require_same(found: dict[tuple[str, int], float], run: Run) -> None:
    for key, value in expected(run).items():
        assert found[key] == pytest.approx(value, rel=1e-6), key
    assert len(expected(run)) > 20


def test_a_logger_gets_every_metric(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the logger that needs no package."""
    monkeypatch.setattr(
        "cislens.training.fit.loggers_of", lambda names, folder: [CSVLogger(folder, "x", "")]
    )
    run = fit(recipe, tmp_path / "run")
    with (run.folder / "x/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(k, int(row["step"])): float(v) for row in rows for k, v in row.items() if v}
    require_same(found, run)


def test_tensorboard(recipe: TrainRecipe, tmp_path: Path) -> None:
    run = fit(with_logger(recipe, "tensorboard"), tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "logs/tensorboard"))
    events.Reload()
    found = {(t, e.step): e.value for t in events.Tags()["scalars"] for e in events.Scalars(t)}
    require_same(found, run)


def test_mlflow(recipe: TrainRecipe, tmp_path: Path) -> None:
    run = fit(with_logger(recipe, "mlflow"), tmp_path / "run")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.folder}/logs/mlflow.db")
    experiment = client.get_experiment_by_name("cislens")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == "run"
    found = {
        (key, each.step): each.value
        for key in logged.data.metrics
        for each in client.get_metric_history(logged.info.run_id, key)
    }
    require_same(found, run)


def test_wandb_writes_offline(
    recipe: TrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = fit(with_logger(recipe, "wandb"), tmp_path / "run")
    import wandb

    wandb.finish()
    (log,) = (run.folder / "logs/wandb").glob("offline-run-*/*.wandb")
    data = log.read_bytes()
    assert all(name.encode() in data for name, _ in expected(run))
