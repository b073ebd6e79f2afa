import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from plants import gc_task

from cislens.errors import CislensError, MissingFileError
from cislens.evaluation.results import Cost, Key, Record, ResultStore
from cislens.evaluation.tasks.task import Task

TASK = gc_task(200, 0.1)
TEST = TASK.fold("test")
SCORES = np.linspace(0, 1, len(TEST), dtype=np.float32)[:, None]


def _record(arm: str = "a", seed: int = 0, config_hash: str = "") -> Record:
    return Record(
        TASK.card.name, arm, seed, TASK.task_hash, "onehot", None, "d", config_hash, "auroc",
        0.7, 3, "s", "1+c",
    )  # fmt: skip


def _complete(store: ResultStore, record: Record, ids: tuple[str, ...] = TEST.ids) -> None:
    digest = store.freeze(record.key, {"alpha": 1.0})
    store.append(replace(record, config_hash=digest), ids, SCORES, [Cost("tune", 1.0, 3, 9)])


def test_predictions_are_joined_by_example_not_by_order(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.plan(TASK, ["a", "b"], 1)
    _complete(store, _record("a"))
    record = _record("b")
    digest = store.freeze(record.key, {})
    store.append(replace(record, config_hash=digest), TEST.ids[::-1], SCORES[::-1], [])
    predictions = store.predictions(TASK)
    assert (predictions.scores_MRNT[0] == predictions.scores_MRNT[1]).all()
    assert predictions.scores_MRNT.shape == (2, 1, 40, 1)


def test_records_and_ledger_are_tidy(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    assert len(store.records()) == len(store.ledger()) == 0
    store.plan(TASK, ["a"], 2)
    _complete(store, _record("a", 0))
    _complete(store, _record("a", 1))
    assert store.records()["seed"].to_list() == [0, 1]
    assert store.ledger().row(0, named=True)["wall_s"] == 1.0
    assert store.record(Key("gc", "a", 1)).valid_score == 0.7
    assert store.config(Key("gc", "a", 1)) == {"alpha": 1.0}


def test_test_labels_stay_closed_until_every_planned_arm_is_complete(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.plan(TASK, ["a", "b"], 1)
    _complete(store, _record("a"))
    with pytest.raises(CislensError, match=r"stay closed: 1 planned results .* b/seed0"):
        store.test_labels(TASK)
    store.freeze(_record("b").key, {})
    with pytest.raises(CislensError, match="stay closed"):
        store.predictions(TASK)
    assert TASK.fold("test").labels is None


def test_a_result_needs_a_frozen_configuration_and_a_validation_score(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with pytest.raises(CislensError, match="not frozen before scoring"):
        store.append(_record(), TEST.ids, SCORES, [])
    digest = store.freeze(_record().key, {"alpha": 1})
    with pytest.raises(CislensError, match="not frozen before scoring"):
        store.append(_record(config_hash="other"), TEST.ids, SCORES, [])
    with pytest.raises(CislensError, match="no validation score"):
        bad = replace(_record(config_hash=digest), valid_score=float("nan"))
        store.append(bad, TEST.ids, SCORES, [])
    with pytest.raises(CislensError, match="scores that are not finite"):
        store.append(_record(config_hash=digest), TEST.ids, SCORES + np.inf, [])


def test_a_configuration_is_chosen_once_and_a_result_written_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    _complete(store, _record())
    with pytest.raises(CislensError, match="never overwritten"):
        _complete(store, _record())
    with pytest.raises(CislensError, match="chosen once"):
        store.freeze(_record().key, {"alpha": 2.0})


def test_another_task_of_the_same_name_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.plan(TASK, ["a"], 1)
    with pytest.raises(CislensError, match="choose another output folder"):
        store.plan(gc_task(200, 0.2), ["a"], 1)
    with pytest.raises(CislensError, match="letters, digits"):
        store.plan(TASK, ["../a"], 1)


def test_missing_or_foreign_examples_are_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.plan(TASK, ["a"], 1)
    ids = ("foreign", *TEST.ids[1:])
    _complete(store, _record(), ids)
    with pytest.raises(CislensError, match="1 of them are not scored"):
        store.predictions(TASK)


def test_a_task_is_the_same_after_saving(tmp_path: Path) -> None:
    folder = TASK.save(tmp_path / "task")
    again = Task.load(folder)
    assert again.task_hash == TASK.task_hash
    assert again.card == TASK.card
    assert again.examples.equals(TASK.examples)


def test_a_changed_or_broken_task_is_refused(tmp_path: Path) -> None:
    folder = TASK.save(tmp_path / "task")
    examples = TASK.examples.with_columns(
        pl.when(pl.col("example_id") == "e00003")
        .then(pl.lit([1.0], dtype=pl.List(pl.Float32)))
        .otherwise(pl.lit([0.0], dtype=pl.List(pl.Float32)))
        .alias("y")
    ).with_columns(y=pl.Series(TASK.examples["y"].to_list()[::-1], dtype=pl.List(pl.Float32)))
    examples.write_parquet(folder / "examples.parquet")
    with pytest.raises(CislensError, match="changed after it was written"):
        Task.load(folder)
    (folder / "examples.parquet").write_bytes(b"PAR1")
    with pytest.raises(CislensError, match="no readable parquet"):
        Task.load(folder)
    (folder / "examples.parquet").unlink()
    with pytest.raises(MissingFileError, match="examples of the task"):
        Task.load(folder)


def test_an_unknown_key_of_a_card_names_the_nearest(tmp_path: Path) -> None:
    folder = TASK.save(tmp_path / "task")
    card = folder / "card.yaml"
    card.write_text(card.read_text() + "licens: MIT\n")
    with pytest.raises(CislensError, match=r"unknown key 'licens'\. Did you mean 'licence'"):
        Task.load(folder)


def test_leaks_between_splits_are_refused() -> None:
    def change(**columns: pl.Expr) -> None:
        Task(TASK.card, TASK.examples.with_columns(**columns))

    first, last = TASK.examples[0], TASK.examples[-1]
    at_end = pl.col("example_id") == last["example_id"][0]

    def keep(name: str) -> pl.Expr:
        return pl.when(at_end).then(pl.lit(first[name][0])).otherwise(pl.col(name))

    with pytest.raises(CislensError, match="1 clusters lie in more than one split"):
        change(cluster_id=keep("cluster_id"))
    with pytest.raises(CislensError, match=r"1 sequences .* more than one split"):
        change(seq_hash=keep("seq_hash"))
    with pytest.raises(CislensError, match="occurs more than once"):
        change(example_id=keep("example_id"))
    with pytest.raises(CislensError, match="valid split has 0 examples"):
        change(split=pl.col("split").replace("valid", "train"))
    with pytest.raises(CislensError, match="labels of a binary task"):
        change(y=pl.lit([0.5], dtype=pl.List(pl.Float32)))


def test_the_task_hash_does_not_depend_on_the_order_of_building() -> None:
    card = TASK.card.model_dump()
    assert Task(type(TASK.card).model_validate(card), TASK.examples).task_hash == TASK.task_hash
    assert json.loads(json.dumps(TASK.task_hash)) == gc_task(200, 0.1).task_hash
