"""Tables of what was chosen and what it cost."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from plants import gc_task

from cislens.evaluation.results import Cost, Key, Record, ResultStore
from cislens.evaluation.tables import costs, layer_scores

TASK = gc_task(100, 0.1)
VIEWS = {"embed.mean": 0.6, "L4.center": 0.8, "out.mean": 0.7}


def add(store: ResultStore, arm: str, seed: int, config: dict[str, object], *ledger: Cost) -> None:
    ids = TASK.fold("test").ids
    digest = store.freeze(Key("gc", arm, seed), config)
    record = Record("gc", arm, seed, TASK.task_hash, "trained", None, "d", digest, "auroc", 0.8,
                    5, "s", "1+c")  # fmt: skip
    store.append(record, ids, np.zeros((len(ids), 1), np.float32), list(ledger))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """An arm that chose among three views with seed 0, and one that had no choice."""
    store = ResultStore(tmp_path)
    store.plan(TASK, ["chose", "plain"], 2)
    add(store, "chose", 0, {"view": "L4.center", "views": VIEWS},
        Cost("embed", 2.0, 100, 1000), Cost("tune", 0.5, 5, 0, trials=3),
        Cost("predict", 1.0, 105, 400, flops=8e6))  # fmt: skip
    add(store, "chose", 1, {"view": "L4.center"},
        Cost("tune", 0.25, 5, 0, trials=1), Cost("predict", 1.0, 105, 400))  # fmt: skip
    for seed in (0, 1):
        add(store, "plain", seed, {"view": "out.mean"}, Cost("train", 3.0, 7, 600, 0.0, 1, 50))
    return store


def test_every_layer_that_was_tried_is_a_row_with_its_validation_score(store: ResultStore) -> None:
    table = layer_scores(store)
    assert table.columns == [
        "task", "metric", "arm", "view", "layer", "pooling", "valid_score", "chosen",
    ]  # fmt: skip
    assert table.select("layer", "pooling", "valid_score", "chosen").rows() == [
        ("L4", "center", 0.8, True), ("embed", "mean", 0.6, False), ("out", "mean", 0.7, False),
    ]  # fmt: skip
    assert set(table["arm"]) == {"chose"} and set(table["metric"]) == {"auroc"}


def test_without_a_choice_the_table_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    table = layer_scores(ResultStore(tmp_path))
    assert table.is_empty() and table.schema["chosen"] == pl.Boolean


def test_costs_are_summed_over_the_seeds_by_stage(store: ResultStore) -> None:
    table = costs(store)
    rows = {(row["arm"], row["stage"]): row for row in table.iter_rows(named=True)}
    assert set(rows) == {
        ("chose", "embed"), ("chose", "tune"), ("chose", "predict"), ("plain", "train"),
    }  # fmt: skip
    assert rows["chose", "tune"]["wall_s"] == 0.75 and rows["chose", "tune"]["trials"] == 4
    predict = rows["chose", "predict"]
    assert (predict["bp"], predict["flops"], predict["bp_per_s"]) == (800, 8e6, 400.0)
    assert predict["parameters"] == 105  # not added up
    train = rows["plain", "train"]
    assert (train["wall_s"], train["steps"], train["bp_per_s"]) == (6.0, 100, 200.0)
