"""What a run says about its machine, and that interruptions do not change what it sums."""

import json
import math
from pathlib import Path

import polars as pl
import pytest

from cislens.logs import LOG
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.fit import fit
from cislens.training.performance import SCHEMA


@pytest.fixture
def recipe(small_store: ProfileStore) -> TrainRecipe:
    return TrainRecipe(
        store=small_store.path,
        model={"preset": "enformer-tiny", "dim": 24, "stem_dim": 8, "depth": 1, "heads": 2},
        training=Training(steps=6, batch_size=4, validate_every=4),
    )


def test_every_validation_measures_the_steps_before_it(recipe: TrainRecipe, tmp_path: Path) -> None:
    run = fit(recipe, tmp_path / "run")
    table = pl.read_parquet(run.folder / "performance.parquet")
    assert dict(table.schema) == SCHEMA
    for step in (4, 6):
        found = dict(table.filter(step=step).select("metric", "value").iter_rows())
        assert all(math.isfinite(value) for value in found.values())
        assert 0 <= found["loader_wait_share"] <= 1
        # Processor seconds are counted in ticks, and the loader's thread computes too.
        assert 0 < found["device_utilization"] < 1.5
        assert found["windows_per_second"] * found["seconds_per_step"] == pytest.approx(4)
        assert found["bases_per_second"] == pytest.approx(
            found["windows_per_second"] * 1024, rel=1e-6
        )
        per_step = found["flops_per_second"] * found["seconds_per_step"]
        assert per_step == pytest.approx(run.manifest["ledger"]["step_flops"])
        assert found["memory_bytes"] > 1 << 27
    assert found["seconds_left"] == 0
    ledger = run.manifest["ledger"]
    steps = table.filter(metric="seconds_per_step")
    seconds = sum(value * (4 if step == 4 else 2) for step, _, value in steps.iter_rows())
    assert ledger["train_seconds"] == pytest.approx(seconds, abs=0.02)
    assert ledger["high_water"]["memory_bytes"] >= found["memory_bytes"] * 0.999


def test_the_run_folder_has_a_log_for_programs(recipe: TrainRecipe, tmp_path: Path) -> None:
    run = fit(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]
    events = [(line["event"], line.get("step")) for line in lines if "event" in line]
    for step in (4, 6):
        assert ("validation", step) in events
        assert ("performance", step) in events
    validation = next(line for line in lines if line.get("event") == "validation")
    assert validation["steps"] == 6
    assert math.isfinite(validation["poisson_nll"])
