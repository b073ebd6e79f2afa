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

from cislens.cli.data import plan_store
from cislens.example import example_path
from cislens.motifs.store import RegionStore
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.sequence.store import SequenceStore
from cislens.signal.build import build_planned
from cislens.signal.store import ProfileStore
from cislens.training.fit import fit
from cislens.training.module import ObjectiveModule

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
        "model": {"preset": "space-paper-tiny", **SHAPE, "decoder": {"dropout": 0.0}},
        "objective": {"name": "profile", "experts": {"kind": "published"}},
    },
}
SEQUENCES: dict[str, dict[str, Any]] = {
    "masked": {"model": PLUS, "objective": MASKED},
    "center": {"model": PLUS, "objective": {**DISTILLATION, "target": "center"}},
    "sinkhorn": {"model": PLUS, "objective": {**DISTILLATION, "target": "sinkhorn"}},
}
SPREAD = ("pearson", "koleo", "gc_r2", "composition", "rankme", "feature_std", "knn")
ROUGH = ("center", "sinkhorn")  # whose loss has koleo in it
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


def descent(module: ObjectiveModule) -> torch.optim.Optimizer:
    """Plain gradient descent: AdamW gives a gradient that is nothing but rounding a whole step."""
    return torch.optim.SGD(module.objective.parameters(), lr=0.05)


def train(folder: Path, stores: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectiveModule, "configure_optimizers", descent)
        for name in NAMES:
            fit(recipe_of(name, *stores), folder / name)


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> ProfileStore:
    """Yeast and fly in few windows; groups of tracks that the published decoder knows."""
    folder = tmp_path_factory.mktemp("profiles")
    packaged = example_path("tracks.tsv")
    pl.read_csv(packaged, separator="\t").filter(pl.col("species") != "human").with_columns(
        pl.concat_str(pl.lit(f"{packaged.parent}/"), "file").alias("file"),
        pl.col("group").replace({"nucleosome": "histone", "expression": "CAGE"}),
    ).write_csv(folder / "tracks.tsv", separator="\t")
    (folder / "data.yaml").write_text(
        "genomes:\n"
        "  yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz\n"
        "  fly: example:fly_mini/dm6_chr2L_4_7Mb.fa.gz\n"
        f"tracks: {folder}/tracks.tsv\n"
        "length: 1024\n"
        "stride: 65536\n"
        "split: {block_bp: 131072}\n"
    )
    recipe = read_recipe(folder / "data.yaml", DataRecipe)
    return build_planned(folder / "store", plan_store(recipe))


@pytest.fixture(scope="module")
def runs(
    profiles: ProfileStore,
    sequence_store: SequenceStore,
    region_store: RegionStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Path]]:
    """Folders of the runs on one process and on two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    stores = [str(store.path) for store in (profiles, sequence_store, region_store)]
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
        train(one, stores)
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
    """Each term and metric within 1e-3, each weight at the end within 3e-4.

    What divides by the spread of vectors or of a prediction, which is nearly nothing at the start,
    within 5 in a hundred.
    """
    one, two = (metrics_of(folder / name) for folder in runs)
    assert one.keys() == two.keys()
    for key, expected in one.items():
        rough = any(word in key[2] for word in SPREAD) or (name in ROUGH and "loss" in key[2])
        near = {"rel": 0.05, "abs": 0.02} if rough else {"rel": 1e-3, "abs": 1e-5}
        assert two[key] == pytest.approx(expected, **near, nan_ok=True), key
    one_state, two_state = (load_file(run / name / "model" / "model.safetensors") for run in runs)
    for weight, expected in one_state.items():
        assert torch.allclose(two_state[weight], expected, rtol=3e-4, atol=3e-4), weight


if __name__ == "__main__":
    train(Path(sys.argv[1]), sys.argv[2:])
