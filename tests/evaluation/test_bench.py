"""Planted truths through the whole bench: what is there is found, what is not there is not."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from plants import MOTIF, gc_task, labelled, motif_task

from cislens.errors import CislensError
from cislens.evaluation import bench
from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.bench import run_bench
from cislens.evaluation.results import ResultStore
from cislens.evaluation.tables import costs
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.verdict import arm_scores, verdict_lines, verdicts
from cislens.genome.codes import Codes, encode
from cislens.recipes.schema import BenchSettings
from cislens.representations.baselines import GCContent
from cislens.representations.contract import Features, Kind, Representation

FAST = BenchSettings(seeds=2, cnn=[], kmer=3)


class Scanner:
    """A representation that knows the planted motif: its best match, and noise."""

    kind: Kind = "trained"
    name = "scanner"
    parameters = 10

    def __init__(self, knows: bool = True) -> None:
        self.knows = knows
        self.digest = f"{type(self).__name__}/{knows}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        x = np.stack(sequences)
        windows = np.lib.stride_tricks.sliding_window_view(x, len(MOTIF), axis=1)
        strands = [(windows == site).sum(-1).max(-1) for site in (MOTIF, 3 - MOTIF[::-1])]
        best = np.maximum(*strands) if self.knows else x[:, :3].sum(1)
        noise = (x.astype(int) * np.arange(1, x.shape[1] + 1)).sum(1) % 97 / 97
        return np.stack([best + 0.01 * noise, noise], axis=1).astype(np.float32)

    def twin(self, draw: int) -> "Scanner":
        return Scanner(knows=False)


class Disguised(Scanner):
    """Called trained, and no better than its twin."""

    name = "disguised"

    def twin(self, draw: int) -> Scanner:
        return Scanner(knows=True)


class GCReader(Scanner):
    """A trained representation that has learned nothing but base composition."""

    name = "gc-reader"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        return GCContent().embed(sequences, species, stranded)


def judged(
    tasks: Sequence[Task],
    representations: Sequence[Representation],
    settings: BenchSettings,
    out: Path,
) -> ResultStore:
    return run_bench(tasks, representations, settings, out).whole


def _row(table: pl.DataFrame, **where: object) -> dict[str, object]:
    return table.filter(**where).row(0, named=True)


def test_a_planted_motif_is_found_by_the_cnn_and_not_by_composition(tmp_path: Path) -> None:
    settings = BenchSettings(seeds=2, cnn_steps=150)
    store = judged([motif_task(2500, seed=1)], [Scanner()], settings, tmp_path)
    scores = arm_scores(store, draws=200)
    assert _row(scores, arm="onehot-cnn-tiny")["point"] > 0.95
    gc = _row(scores, arm="gc")
    assert gc["low"] < 0.5 < gc["high"]
    assert gc["null_low"] < gc["point"] < gc["null_high"]
    assert "length" not in scores["arm"]  # it cannot differ between the examples
    table = verdicts(store, draws=200)
    onehot = _row(table, comparison="onehot")
    assert onehot["baseline"] == "onehot-cnn-tiny"  # the stronger on validation
    assert table["comparison"].to_list() == ["onehot", "composition", "random"]
    assert _row(table, comparison="random")["diff_low"] > 0.2
    assert "not pretraining" not in onehot["verdict"]


def test_a_true_gain_is_called_one(tmp_path: Path) -> None:
    store = judged([motif_task(1000)], [Scanner()], FAST, tmp_path)
    [line] = verdict_lines(verdicts(store, draws=200))
    assert line.startswith("motif: scanner auroc 1.000 [1.000, 1.000]")
    assert "vs onehot-linear: gain over one-hot (diff +0.4" in line
    assert "composition-explained" not in line
    assert "not pretraining" not in line


def test_a_shift_in_gc_fires_the_composition_suffix(tmp_path: Path) -> None:
    store = judged([gc_task(1500, 0.05)], [GCReader()], FAST, tmp_path)
    table = verdicts(store, draws=300)
    assert "composition-explained" in _row(table, comparison="onehot")["verdict"]
    assert _row(arm_scores(store, draws=100), arm="gc")["low"] > 0.6


def test_a_random_twin_in_disguise_is_not_pretraining(tmp_path: Path) -> None:
    store = judged([motif_task(1000)], [Disguised()], FAST, tmp_path)
    verdict = _row(verdicts(store, draws=200), comparison="onehot")["verdict"]
    assert verdict.startswith("gain over one-hot")
    assert verdict.endswith("; not pretraining")


def _scores(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.glob("results/*/*/*/scores.parquet"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_killed_bench_resumes_to_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BenchSettings(seeds=2, cnn_steps=6, kmer=2)
    tasks = [gc_task(300, 0.05)]
    whole = judged(tasks, [Scanner()], settings, tmp_path / "whole")
    ran: list[object] = []
    run = bench._run

    def killed(*arguments: object) -> None:
        if len(ran) == 7:
            raise KeyboardInterrupt
        ran.append(arguments[1])
        run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "_run", killed)
    with pytest.raises(KeyboardInterrupt):
        run_bench(tasks, [Scanner()], settings, tmp_path / "killed")
    assert len(_scores(tmp_path / "killed")) == 7
    # A kill between the scores and the record leaves no result.
    last = sorted((tmp_path / "killed").glob("results/*/*/*/record.parquet"))[-1]
    last.unlink()
    before = len(ran)
    monkeypatch.setattr(bench, "_run", lambda *a: (ran.append(a[1]), run(*a)))
    resumed = judged(tasks, [Scanner()], settings, tmp_path / "killed")
    assert len(ran) - before == len(whole.records()) - 6
    assert _scores(tmp_path / "killed") == _scores(tmp_path / "whole")
    assert verdicts(resumed, 50).equals(verdicts(whole, 50))


def test_results_of_other_settings_or_weights_are_not_mixed(tmp_path: Path) -> None:
    task = gc_task(300, 0.05)
    run_bench([task], [Scanner()], FAST, tmp_path)
    with pytest.raises(CislensError, match="other settings; choose another output folder"):
        run_bench([task], [Scanner()], FAST.model_copy(update={"seed": 1}), tmp_path)
    other = Scanner()
    other.digest = "scanner/2"
    with pytest.raises(CislensError, match="other weights"):
        run_bench([task], [other], FAST, tmp_path)


def test_names_must_differ(tmp_path: Path) -> None:
    with pytest.raises(CislensError, match="task 'gc' is given more than once"):
        run_bench([gc_task(300, 0.1), gc_task(300, 0.2)], [], FAST, tmp_path)
    with pytest.raises(CislensError, match="'scanner' is given more than once"):
        run_bench([gc_task(300, 0.1)], [Scanner(), Scanner()], FAST, tmp_path)


def test_every_arm_gets_the_same_training_subset_of_a_seed() -> None:
    ground = Ground(gc_task(300, 0.1), 0.9, seed=0)
    assert (ground.subset(0) == ground.subset(0)).all()
    assert len(ground.subset(0)) == 5 * round(0.9 * 36)
    assert set(ground.subset(0)) != set(ground.subset(1))
    kept = set(ground.train.blocks[ground.subset(0)])
    left = set(ground.train.blocks) - kept
    assert len(left) == 4  # whole blocks are left out


def test_the_ledger_knows_what_each_stage_cost(tmp_path: Path) -> None:
    store = judged([gc_task(300, 0.1)], [Scanner()], FAST, tmp_path)
    ledger = store.ledger().filter(arm="scanner", seed=0)
    assert ledger["stage"].to_list() == ["embed", "tune", "predict"]
    assert ledger["bp"].to_list() == [240 * 200, 0, 60 * 200]
    assert (ledger["wall_s"] > 0).all()
    twins = store.ledger().filter(arm="scanner-random", stage="embed")
    assert twins["seed"].to_list() == [0, 1]  # a new draw for each seed


def test_few_labels_are_nested_balanced_and_redrawn_for_each_seed() -> None:
    task = gc_task(1000, 0.05)
    few, more = (Ground(task, 0.9, seed=0, labels=count) for count in (30, 100))
    for seed in range(3):
        small, large = set(few.subset(seed)), set(more.subset(seed))
        assert len(small) == 30 and len(large) == 100 and small < large
        assert abs(few.train_labels[few.subset(seed)].mean() - few.train_labels.mean()) < 0.05
        assert len(few.valid_subset(seed)) == 10 and len(more.valid_subset(seed)) == 25
    assert set(few.subset(0)) != set(few.subset(1))


def test_few_labels_hold_every_class_however_rare() -> None:
    task = gc_task(1000, 0.05)
    rare = np.arange(1000) % 40 == 0
    task = labelled(task.card, np.stack([encode(s) for s in task.examples["sequence"]]), rare)
    for seed in range(5):
        few = Ground(task, 0.9, seed=0, labels=10)
        assert few.train_labels[few.subset(seed)].sum() == 1
        assert few.valid_labels[few.valid_subset(seed)].sum() == 1


def test_sequences_of_two_lengths_are_judged(tmp_path: Path) -> None:
    task = gc_task(200, 0.05)
    short = np.arange(200) % 2 == 0
    sequences = [encode(s)[: 150 if cut else 200] for s, cut in
                 zip(task.examples["sequence"], short, strict=True)]  # fmt: skip
    task = make_task(task.card, task.examples, sequences)
    results = run_bench([task], [], FAST, tmp_path)
    assert "length" in arm_scores(results.whole, draws=20)["arm"].to_list()


class Network(Scanner):
    """It computes with torch, slowly."""

    name = "network"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        time.sleep(0.05)
        one_hot = torch.eye(5)[torch.from_numpy(np.stack(sequences)).long()][..., :4]
        return (one_hot @ torch.arange(12.0).reshape(4, 3).sin()).amax(1).numpy()

    twin = None  # type: ignore[assignment]


def test_costs_do_not_depend_on_who_embedded_first(tmp_path: Path) -> None:
    settings = FAST.model_copy(update={"heads": ["linear", "neighbors", "mlp"], "trials": 1})
    results = run_bench([motif_task(300)], [Network()], settings, tmp_path)
    mine = costs(results.whole).filter(pl.col("arm").str.starts_with("network"))
    embedding = mine.filter(stage="embed")["wall_s"].to_list()
    predicting = mine.filter(stage="predict")
    assert len(embedding) == 3 and min(embedding) >= 0.1
    assert predicting["wall_s"].to_numpy().min() >= 0.05
    assert predicting["flops"].to_numpy().min() > 0


def test_fewer_labels_are_judged_in_stores_of_their_own(tmp_path: Path) -> None:
    settings = FAST.model_copy(update={"labels": [20, 60, 5000]})
    results = run_bench([motif_task(500)], [Scanner()], settings, tmp_path)
    assert sorted(results.by_labels) == [20, 60, 5000]
    scores = {
        count: _row(arm_scores(store, draws=50), arm="scanner")["point"]
        for count, store in results.by_labels.items()
        if len(store.records())
    }
    assert sorted(scores) == [20, 60]  # there are no 5000 examples
    assert 0.9 < scores[20] <= scores[60] + 0.05
    assert len(results.by_labels[20].records()) == len(results.whole.records())
