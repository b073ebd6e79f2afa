"""Whole runs on two processes against the same runs on one: every objective, uneven shares.

The file is both the test and the program of each process, which `torchrun` would start.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from cislens.motifs.store import RegionStore
from cislens.recipes.schema import TrainRecipe
from cislens.sequence.store import SequenceStore
from cislens.signal.store import ProfileStore
from cislens.training.fit import fit

SHAPE = {"dim": 16, "stem_dim": 8, "depth": 1, "heads": 2, "dropout": 0.0}
PLUS = {"preset": "space-plus-tiny", **SHAPE, "species_dropout": 0.0}
REGIONS = {"regions": {"dim": 16, "depth": 1, "heads": 2, "dropout": 0.0}, "joint_dim": 16}
SMALL = {"dim": 16, "depth": 1, "heads": 2}
DISTILLATION = {
    "name": "distillation", "held_out": 11, "on_collapse": "warn", "prototypes": 16, "ramp": 0.0,
    "views": {"length": 128, "count": 2, "local_length": 64, "local_count": 1},
    "masked": 0.5, "latent": 0.5, "pooled": 0.5, "koleo": 0.1, "contrast": 0.1, "noise": 0.0,
}  # fmt: skip
MASKED = {"name": "masked", "view": {"length": 128}, "held_out": 11, "on_collapse": "warn"}
MULTIMODAL = {"name": "multimodal", "context": 4, "next": 0.5}
# The second share of three windows is one window: of two species it has but one.
PROFILES: dict[str, dict[str, Any]] = {
    "enformer": {"model": {"preset": "enformer-tiny", **SHAPE}},
    "basenji": {"model": {"preset": "basenji-tiny", "dropout": 0.0}},
    "space-plus": {
        "model": PLUS,
        "objective": {"name": "profile", "experts": {"kind": "plus", "mutual_information": 0.5}},
    },
    "space-paper": {
        "model": {"preset": "space-paper-tiny", **SHAPE},
        "objective": {"name": "profile", "experts": {"kind": "published"}},
    },
}
SEQUENCES: dict[str, dict[str, Any]] = {
    "masked": {"model": PLUS, "objective": MASKED},
    "center": {"model": PLUS, "objective": {**DISTILLATION, "target": "center"}},
    "sinkhorn": {"model": PLUS, "objective": {**DISTILLATION, "target": "sinkhorn"}},
}
NAMES = (*PROFILES, *SEQUENCES, "multimodal", "mixture")


def recipe_of(name: str, profiles: str, sequences: str, regions: str) -> TrainRecipe:
    training = {
        "steps": 4, "batch_size": 7, "validate_every": 2, "ema_decay": 0.5, "learning_rate": 1e-3,
    }  # fmt: skip
    if name in PROFILES:
        recipe = {"store": profiles, **PROFILES[name]}
        training |= {"batch_size": 3}
    elif name in SEQUENCES:
        recipe = {"store": sequences, **SEQUENCES[name]}
    elif name == "multimodal":
        model = {"preset": "genebert-plus-tiny", "encoder": SMALL, **REGIONS}
        recipe = {"store": regions, "model": model, "objective": MULTIMODAL}
    else:
        parts = [
            {"objective": {"name": "profile"}},
            {"objective": MASKED, "store": sequences, "batch_size": 5, "weight": 0.5},
            {"objective": MULTIMODAL, "store": regions, "model": REGIONS},
        ]
        recipe = {
            "store": profiles, "model": PLUS, "objective": {"name": "mixture", "parts": parts},
        }  # fmt: skip
    return TrainRecipe.model_validate({**recipe, "training": training})


def train(folder: Path, names: list[str], stores: list[str]) -> None:
    for name in names:
        fit(recipe_of(name, *stores), folder / name)


@pytest.fixture(scope="module")
def runs(
    small_store: ProfileStore,
    sequence_store: SequenceStore,
    region_store: RegionStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Path]]:
    """Folders of the runs on one process and on two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    stores = [str(store.path) for store in (small_store, sequence_store, region_store)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, str(two), *stores]
    started = [
        subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            env={**os.environ, **job, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    try:
        train(one, list(NAMES), stores)
        for process in started:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors.decode()[-3000:]
    finally:
        for process in started:
            process.kill()
    yield one, two


def metrics_of(folder: Path) -> dict[tuple[Any, ...], float]:
    rows = pl.read_parquet(folder / "metrics.parquet").iter_rows()
    return {tuple(row[:3]): row[3] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one(name: str, runs: tuple[Path, Path]) -> None:
    """Each term and metric of each validation within 1e-4, each weight at the end within 1e-4."""
    one, two = (metrics_of(folder / name) for folder in runs)
    assert one.keys() == two.keys()
    for key, expected in one.items():
        assert two[key] == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True), key
    one_state, two_state = (load_file(run / name / "model" / "model.safetensors") for run in runs)
    for weight, expected in one_state.items():
        assert torch.allclose(two_state[weight], expected, rtol=1e-3, atol=1e-4), weight


if __name__ == "__main__":
    train(Path(sys.argv[1]), list(NAMES), sys.argv[2:])
