"""The page of several benches: from their folders to the table and the verdicts."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.evaluation.bench import run_bench
from cislens.evaluation.tasks.task import Task
from cislens.genome.codes import Codes
from cislens.recipes.schema import BenchSettings
from cislens.report.leaderboard import leaderboard
from cislens.report.page import render
from cislens.representations.contract import Features, Kind

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from plants import MOTIF, motif_task


class Scanner:
    """Knows the planted motif: how many of its bases match at the best place."""

    kind: Kind = "trained"
    parameters = 0

    def __init__(self, name: str) -> None:
        self.name, self.digest = name, f"scanner/{name}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        windows = np.lib.stride_tricks.sliding_window_view(np.stack(sequences), len(MOTIF), axis=1)
        strands = [(windows == site).sum(-1).max(-1) for site in (MOTIF, 3 - MOTIF[::-1])]
        return np.maximum(*strands)[:, None].astype(np.float32)


TASK = motif_task(300, length=60)
SETTINGS = BenchSettings(seeds=2, cnn=[], kmer=2)


def bench(folder: Path, name: str, leakage: str = "pass", task: Task = TASK) -> Path:
    run_bench([task], [Scanner(name)], SETTINGS, folder / "results")
    audit = {"task_hash": task.task_hash, "verdict": leakage, "leakage": leakage, "checks": []}
    (folder / "audits.json").write_text(json.dumps({"motif": audit}))
    return folder


def test_arms_of_all_benches_are_ranked_on_what_they_share(tmp_path: Path) -> None:
    run = leaderboard([bench(tmp_path / "a", "x"), bench(tmp_path / "b", "yy")])
    assert run.ranks is not None
    assert {"x", "yy", "gc", "kmer-1to2", "onehot-linear"} <= set(run.ranks["arm"])
    assert run.ranks["arm"].n_unique() == len(run.ranks)
    assert set(run.verdicts["arm"]) == {"x", "yy"}
    gains = run.verdicts.filter(comparison="onehot")["verdict"]
    assert all(text.startswith("gain over one-hot") for text in gains)
    assert run.manifest["task hashes"] == {"motif": TASK.task_hash}
    page = render(run)
    assert "Leaderboard" in page and "yy" in page
    assert page == render(run)


def test_leakage_found_by_any_bench_withholds_the_gain_of_all(tmp_path: Path) -> None:
    run = leaderboard([bench(tmp_path / "a", "x", "fail"), bench(tmp_path / "b", "yy")])
    verdicts = run.verdicts.filter(comparison="onehot")["verdict"]
    assert len(verdicts) == 2
    assert all("gain withheld" in text and text.endswith("leakage") for text in verdicts)


def test_folders_that_are_no_benches_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    good = bench(tmp_path / "a", "x")
    with pytest.raises(MissingFileError, match=r"bench folder .* does not exist"):
        leaderboard([good, tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"empty/results/plan\.json"):
        leaderboard([good, tmp_path / "empty"])
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(CislensError, match="two bench folders are named 'a'"):
        leaderboard([good, bench(tmp_path / "deeper" / "a", "yy")])
    other = bench(tmp_path / "b", "yy", task=motif_task(300, length=60, seed=1))
    with pytest.raises(CislensError, match="no task was judged by all of a, b"):
        leaderboard([good, other])
