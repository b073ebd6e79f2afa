"""The results store: an append-only folder from which every table and figure is made.

Layout, one folder for each (task, arm, seed), each file written whole or not at all:

    plan.json                                   which arms and seeds each task is to have
    tasks/<task>/                               the task as it was judged
    results/<task>/<arm>/seed<r>/frozen.json    configuration, before any test example is scored
                                 scores.parquet example_id, score (list): test predictions
                                 ledger.parquet what the result cost, by stage
                                 record.parquet one row; its presence makes the result complete
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.statistics import Predictions
from cislens.evaluation.tasks.task import Task
from cislens.files import atomic_path, read_json, read_parquet, write_atomic

_MOST_SEEDS = 10_000
_SCORE_SCHEMA: dict[str, pl.DataType] = {
    "example_id": pl.String(), "score": pl.List(pl.Float32()),
}  # fmt: skip
_SAFE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,199}")


@dataclass(frozen=True)
class Key:
    """What one result belongs to."""

    task: str
    arm: str
    seed: int


@dataclass(frozen=True)
class Record:
    """One (task, arm, seed) as a row.

    Attributes:
        kind: trained, random, onehot or composition.
        twin_of: for a random twin, the arm it is the twin of.
        digest: of the representation or the architecture trained from scratch.
        config_hash: as `freeze` returned it, before the test examples were scored.
        valid_metric, valid_score: by which the configuration was chosen.
        parameters: of the representation and the head together.
        settings_hash: of the bench settings.
        code: version of cislens and digest of its source.
    """

    task: str
    arm: str
    seed: int
    task_hash: str
    kind: str
    twin_of: str | None
    digest: str
    config_hash: str
    valid_metric: str
    valid_score: float
    parameters: int
    settings_hash: str
    code: str

    @property
    def key(self) -> Key:
        return Key(self.task, self.arm, self.seed)


_RECORD_SCHEMA: dict[str, pl.DataType] = {
    field.name: {"seed": pl.Int64(), "parameters": pl.Int64(), "valid_score": pl.Float64()}.get(
        field.name, pl.String()
    )
    for field in fields(Record)
}


@dataclass(frozen=True)
class Cost:
    """One stage of one result: embed, tune, train or predict.

    Attributes:
        parameters: at work in the stage.
        bp: bases that went through the model.
        flops: floating-point operations of the network, a multiply-add as two; counted where
            test examples are predicted, 0 in other stages.
        trials: settings that were tried.
        steps: of the optimizer.
    """

    stage: str
    wall_s: float
    parameters: int
    bp: int
    flops: float = 0.0
    trials: int = 0
    steps: int = 0


class ResultStore:
    """Results of a bench in the folder `path`; it is made if it is not there."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        (self.path / "results").mkdir(parents=True, exist_ok=True)

    def plan(self, task: Task, arms: Iterable[str], seeds: int) -> None:
        """Add a task and its arms to what is to be judged.

        Raises:
            CislensError: if the store has another task of that name, or other seeds.
        """
        name = task.card.name
        plan = self._plan()
        known = plan.setdefault(name, {"task_hash": task.task_hash, "arms": [], "seeds": seeds})
        if known["task_hash"] != task.task_hash or known["seeds"] != seeds:
            raise CislensError(
                f"{self.path} holds task {name} with {known['seeds']} seeds and hash "
                f"{known['task_hash'][:12]}; now it has {seeds} seeds and hash "
                f"{task.task_hash[:12]}. Results of different tasks are not mixed: choose another "
                "output folder."
            )
        known["arms"] += [arm for arm in arms if arm not in known["arms"]]
        bad = [arm for arm in known["arms"] if not _SAFE.fullmatch(arm)]
        if bad:
            raise CislensError(
                f"arm {bad[0]!r}: names take letters, digits and . _ + - only, 200 at most."
            )
        if not (self.path / "tasks" / name).exists():
            task.save(self.path / "tasks" / name)
        write_atomic(self.path / "plan.json", json.dumps(plan, indent=1, sort_keys=True))

    def freeze(self, key: Key, config: dict[str, object]) -> str:
        """Fix a configuration, chosen on validation, before test examples are scored.

        Returns:
            Its hash. Freezing the same configuration again changes nothing.

        Raises:
            CislensError: if another configuration was frozen for this key.
        """
        text = json.dumps(config, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = self._folder(key) / "frozen.json"
        if path.exists():
            frozen = read_json(path, "frozen configuration").get("config_hash", "")
            if frozen != digest:
                raise CislensError(
                    f"{path} fixes another configuration ({frozen[:12]}, now {digest[:12]}); a "
                    "configuration is chosen once. Choose another output folder."
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"config": config, "config_hash": digest}, sort_keys=True))
        return digest

    def append(
        self, record: Record, ids: Iterable[str], scores: npt.NDArray[np.float32], cost: list[Cost]
    ) -> None:
        """Add one result: a (n, T) score for each test example.

        Raises:
            CislensError: if the result exists, has no finite validation score, scores that are
                not finite, or a configuration that was not frozen.
        """
        key, folder = record.key, self._folder(record.key)
        where = f"result {key.task}/{key.arm}/seed{key.seed}"
        if self.done(key):
            raise CislensError(f"{where} exists in {self.path}; results are never overwritten.")
        if not np.isfinite(record.valid_score):
            raise CislensError(f"{where} has no validation score; nothing was chosen, so refused.")
        if not np.isfinite(scores).all():
            raise CislensError(f"{where} has scores that are not finite.")
        frozen = folder / "frozen.json"
        if (
            not frozen.exists()
            or read_json(frozen, "frozen configuration").get("config_hash") != record.config_hash
        ):
            raise CislensError(f"{where}: its configuration was not frozen before scoring.")
        table = pl.DataFrame(
            {"example_id": list(ids), "score": scores.tolist()},
            schema=_SCORE_SCHEMA,
        )
        costs = pl.DataFrame([{**asdict(key), **asdict(row)} for row in cost])
        _write(table, folder / "scores.parquet")
        _write(costs, folder / "ledger.parquet")
        _write(pl.DataFrame([asdict(record)], schema=_RECORD_SCHEMA), folder / "record.parquet")

    def done(self, key: Key) -> bool:
        """Whether the result is complete."""
        return (self._folder(key) / "record.parquet").exists()

    def record(self, key: Key) -> Record:
        """The record of a complete result."""
        path = self._folder(key) / "record.parquet"
        return Record(**_table(path, _RECORD_SCHEMA).row(0, named=True))

    def config(self, key: Key) -> dict[str, object]:
        """The frozen configuration of a result."""
        path = self._folder(key) / "frozen.json"
        config = read_json(path, "frozen configuration").get("config")
        if not isinstance(config, dict):
            raise CislensError(f"{path} holds no configuration; restore it.")
        return config

    def records(self) -> pl.DataFrame:
        """All records, sorted by task, arm and seed."""
        return self._read("record.parquet", _RECORD_SCHEMA)

    def ledger(self) -> pl.DataFrame:
        """task, arm, seed and the fields of `Cost`, for every stage of every complete result."""
        schema: dict[str, pl.DataType] = {
            "task": pl.String(), "arm": pl.String(), "seed": pl.Int64(), "stage": pl.String(),
            "wall_s": pl.Float64(), "parameters": pl.Int64(), "bp": pl.Int64(),
            "flops": pl.Float64(), "trials": pl.Int64(), "steps": pl.Int64(),
        }  # fmt: skip
        return self._read("ledger.parquet", schema)

    def tasks(self) -> list[Task]:
        """The judged tasks, sorted by name."""
        return [Task.load(self.path / "tasks" / name) for name in sorted(self._plan())]

    def test_labels(self, task: Task) -> pl.DataFrame:
        """`Task.truth` of the test split, once nothing is left to choose.

        Raises:
            CislensError: while a planned arm of the task has no result, and so may still be
                tuned.
        """
        plan = self._plan().get(task.card.name)
        if plan is None or not plan["arms"] or plan["task_hash"] != task.task_hash:
            raise CislensError(f"task {task.card.name} is not part of {self.path}.")
        open_ = [
            f"{arm}/seed{seed}"
            for arm in plan["arms"]
            for seed in range(plan["seeds"])
            if not self.done(Key(task.card.name, arm, seed))
        ]
        if open_:
            raise CislensError(
                f"test labels of {task.card.name} stay closed: {len(open_)} planned results are "
                f"not complete, e.g. {open_[0]}; run the bench to its end."
            )
        return task.truth()

    def predictions(self, task: Task) -> Predictions:
        """Test scores of every planned arm, joined with the labels by `example_id`."""
        labels = self.test_labels(task)
        plan = self._plan()[task.card.name]
        scores = [
            [self._scores(Key(task.card.name, arm, seed), labels) for seed in range(plan["seeds"])]
            for arm in plan["arms"]
        ]
        if len({one.shape for seeds in scores for one in seeds}) > 1:
            raise CislensError(f"{self.path}: arms of {task.card.name} have not as many scores.")
        _, block_N = np.unique(labels["block_id"].to_numpy().astype(str), return_inverse=True)
        y_NT = np.stack(labels["y"].to_list()).astype(np.float64)
        group_N = None
        if not labels["match_group"].null_count():
            _, group_N = np.unique(
                labels["match_group"].to_numpy().astype(str), return_inverse=True
            )
        scores_MRNT = np.array(scores, np.float32)
        return Predictions(tuple(plan["arms"]), scores_MRNT, y_NT, block_N, group_N)

    def _scores(self, key: Key, labels: pl.DataFrame) -> npt.NDArray[np.float32]:
        path = self._folder(key) / "scores.parquet"
        table = _table(path, _SCORE_SCHEMA)
        joined = labels.join(table, on="example_id", how="left", maintain_order="left")
        if joined["score"].null_count() or len(table) != len(labels):
            raise CislensError(
                f"{path} scores {len(table)} examples, the task has {len(labels)} in test and "
                f"{joined['score'].null_count()} of them are not scored; run into another folder."
            )
        widths = joined["score"].list.len()
        if widths.n_unique() > 1 or not widths[0] or joined["score"].explode().has_nulls():
            raise CislensError(f"{path} has not one score for each output; restore it.")
        return np.stack(joined["score"].to_list()).astype(np.float32)

    def _plan(self) -> dict[str, dict]:  # type: ignore[type-arg]
        path = self.path / "plan.json"
        plan = read_json(path, "plan of the results") if path.exists() else {}
        for name, given in plan.items():
            if not (_SAFE.fullmatch(name) and _is_planned(given)):
                raise CislensError(f"{path} says {given!r} of {name!r}; restore it.")
        return plan

    def _folder(self, key: Key) -> Path:
        return self.path / "results" / key.task / key.arm / f"seed{key.seed}"

    def _read(self, name: str, schema: dict[str, pl.DataType]) -> pl.DataFrame:
        complete = sorted((self.path / "results").glob("*/*/*/record.parquet"))
        frames = [_table(path.with_name(name), schema) for path in complete]
        return pl.concat([pl.DataFrame(schema=schema), *frames]).sort("task", "arm", "seed")


def _is_planned(given: object) -> bool:
    """Whether that is what a plan says of a task."""
    if not isinstance(given, dict) or not isinstance(given.get("task_hash"), str):
        return False
    arms, seeds = given.get("arms"), given.get("seeds")
    named = isinstance(arms, list) and all(
        isinstance(arm, str) and _SAFE.fullmatch(arm) for arm in arms
    )
    return named and type(seeds) is int and 1 <= seeds <= _MOST_SEEDS


def _table(path: Path, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    found = read_parquet(path, "table of a result")
    if dict(found.schema) != dict(schema) or found.is_empty():
        raise CislensError(f"{path} has not the columns of such a table, or no row; restore it.")
    return found


def _write(frame: pl.DataFrame, path: Path) -> None:
    with atomic_path(path) as aside:
        frame.write_parquet(aside)
