"""Whole runs on two processes against the same runs on one: every objective, uneven shares.

The file is both the test and the program of each process, which `torchrun` would start.
"""

import copy
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from cislens.cli.data import plan_store
from cislens.example import example_path
from cislens.motifs.store import RegionStore
from cislens.nn.gathering import alone
from cislens.objectives.contract import Objective
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import TrainRecipe
from cislens.sequence.store import SequenceStore
from cislens.signal.build import build_planned
from cislens.signal.store import ProfileStore
from cislens.training.courses import course_of
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
ALONE = (*PROFILES, *SEQUENCES, "multimodal")
NAMES = (*ALONE, "mixture")
MIXED_STEP = 1  # whose profiles are of both species


# Of 15 windows each, the validation part of the sequences is one batch: one process has none.
def recipe_of(name: str, profiles: str, sequences: str, regions: str) -> TrainRecipe:
    training = {
        "steps": 3, "batch_size": 15, "validate_every": 2, "ema_decay": 0.5, "learning_rate": 1e-3,
    }  # fmt: skip
    if name in PROFILES:
        recipe = {"store": profiles, **PROFILES[name]}
        training |= {"batch_size": 3}
    elif name in SEQUENCES:
        recipe = {"store": sequences, **SEQUENCES[name]}
    elif name == "multimodal":
        model = {"preset": "genebert-plus-tiny", "encoder": SMALL, **REGIONS}
        training |= {"validate_every": 3}
        recipe = {"store": regions, "model": model, "objective": MULTIMODAL}
    else:
        training |= {"validate_every": 3}
        parts = [
            {"objective": {"name": "profile"}},
            {"objective": MASKED, "store": sequences, "batch_size": 5, "weight": 0.5},
            {"objective": MULTIMODAL, "store": regions, "model": REGIONS},
        ]
        recipe = {
            "store": profiles, "model": PLUS, "objective": {"name": "mixture", "parts": parts},
        }  # fmt: skip
    return TrainRecipe.model_validate({**recipe, "training": training})


def same(value: Any) -> Any:
    return value


def own_ratio(value: Tensor, count: Tensor) -> Tensor:
    return value / count


def own_rows(value_B: Tensor) -> tuple[Tensor, Tensor]:
    return value_B, torch.arange(len(value_B))


# What a process would do by itself: the objective that must notice, and what stands in for what.
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no shares": ("basenji", {"nn.gathering.share_of_rows": lambda rows, device: torch.ones(())}),
    "no gradient of others": ("masked", {"nn.gathering._Sum.backward": lambda _, slope: slope}),
    "batch norm": ("enformer", {"nn.batch_norm.world_size": lambda: 1}),
    "balance": ("space-plus", {"nn.routing.sum_over_devices": same}),
    "z": ("space-plus", {"nn.routing.ratio_over_devices": own_ratio}),
    "mutual information": ("space-plus", {"objectives.expert_terms.sum_over_devices": same}),
    "gates": ("space-paper", {"nn.gate_losses.sum_over_devices": same}),
    "species of a batch": ("space-paper", {"objectives.profile.sum_over_devices": same}),
    "hidden bases": ("masked", {"objectives.bases.ratio_over_devices": own_ratio}),
    "hidden bins": ("center", {"objectives.distillation.latent.ratio_over_devices": own_ratio}),
    "standardization": ("center", {"nn.standardize.gather_rows": own_rows}),
    "center of prototypes": (
        "center",
        {"objectives.distillation.prototypes.mean_over_rows": lambda value: value.mean(0)},
    ),
    "prototypes": ("sinkhorn", {"objectives.distillation.prototypes.sum_over_devices": same}),
    "spread": ("center", {"objectives.distillation.spread.gather_rows": own_rows}),
    "regions": ("multimodal", {"objectives.multimodal.regions.ratio_over_devices": own_ratio}),
    "pairs": (
        "multimodal",
        {
            "nn.pairwise.gather_rows": own_rows,
            "objectives.multimodal.batch.gather_rows": own_rows,
            "objectives.multimodal.matching.gather_rows": own_rows,
            "objectives.multimodal.objective.gather_rows": own_rows,
        },
    ),
}


@contextmanager
def in_double() -> Iterator[None]:
    """Everything in double precision, where single precision is asked for too, and no dropout.

    What is left of a difference is then not rounding.
    """
    before = torch.get_default_dtype()
    built, from_numpy = ObjectiveModule.__init__, torch.from_numpy

    def build(self: ObjectiveModule, *given: Any, **more: Any) -> None:
        built(self, *given, **more)
        self.double()
        for module in self.modules():
            if isinstance(module, nn.Dropout):  # each process draws its own
                module.p = 0.0

    def doubled(array: Any) -> Tensor:
        value = from_numpy(array)
        return value.double() if value.is_floating_point() else value

    torch.set_default_dtype(torch.float64)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "float", Tensor.double)
            patch.setattr(torch, "from_numpy", doubled)
            patch.setattr(ObjectiveModule, "__init__", build)
            patch.setattr("cislens.training.fit.step_flops", lambda *_: 0)
            patch.setattr("cislens.training.multimodal_course._AUDIT_BATCHES", 2)
            yield
    finally:
        torch.set_default_dtype(before)


def train(folder: Path, stores: list[str]) -> None:
    with in_double():
        for name in NAMES:
            fit(recipe_of(name, *stores), folder / name)


def distances(stores: list[str]) -> dict[str, float]:
    """How far a step on two processes is from the same on one, as it is and with each fault."""
    found: dict[str, float] = {}
    with in_double():
        for name in ALONE:
            recipe = recipe_of(name, *stores)
            course = course_of(recipe)
            module = ObjectiveModule(course.objective, recipe.training, recipe.seed)
            place = (dist.get_rank(), dist.get_world_size())
            whole, share = (
                next(iter(course.stream(lambda: MIXED_STEP, *of))) for of in ((0, 1), place)
            )
            with alone():
                expected = step(module.objective, whole)
            found[name] = distance(expected, step(module.objective, share))
            for fault, (noticed_by, stand_ins) in FAULTS.items():
                if noticed_by == name:
                    with pytest.MonkeyPatch.context() as patch:
                        for at, stand_in in stand_ins.items():
                            patch.setattr(f"cislens.{at}", stand_in)
                        found[fault] = distance(expected, step(module.objective, share))
    return found


def step(objective: Objective, batch: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The loss and the gradients of a batch, and the statistics after it."""
    objective = copy.deepcopy(objective).train()
    loss = objective.loss(batch).total
    loss.backward()
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    slopes = [torch.zeros_like(w) if w.grad is None else w.grad for w in trained]
    return [loss.detach(), *slopes], [b.double() for b in objective.buffers() if b.numel()]


def distance(
    one: tuple[list[Tensor], list[Tensor]], two: tuple[list[Tensor], list[Tensor]]
) -> float:
    """Largest relative difference of a loss, a gradient or a statistic."""
    # Gradients that are rounding alone are held against the largest.
    least = 1e-4 * float(max(value.abs().max() for value in one[0]))
    pairs = zip(one[0] + one[1], [mean(value) for value in two[0]] + two[1], strict=True)
    return max(
        float((value - other).abs().max() / value.abs().max().clamp_min(least))
        for value, other in pairs
    )


def mean(value: Tensor) -> Tensor:
    """Of both processes."""
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


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
    """Each term and metric, and each weight at the end, within 1e-9."""
    one, two = (metrics_of(folder / name) for folder in runs)
    assert one.keys() == two.keys()
    for key, expected in one.items():
        assert two[key] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), key
    one_state, two_state = (load_file(run / name / "model" / "model.safetensors") for run in runs)
    assert one_state.keys() == two_state.keys()
    for weight, expected in one_state.items():
        assert torch.allclose(two_state[weight], expected, rtol=1e-9, atol=1e-9), weight


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_a_step_on_two_processes_is_that_on_one(name: str, runs: tuple[Path, Path]) -> None:
    """Loss, gradients and statistics within 1e-9; each planted fault is a thousand times that."""
    found = json.loads((runs[1] / "distances.json").read_text())
    assert found[name] < 1e-9
    for fault, (noticed_by, _) in FAULTS.items():
        if noticed_by == name:
            assert found[fault] > 1e-6, fault


if __name__ == "__main__":
    out, stores = Path(sys.argv[1]), sys.argv[2:]
    train(out, stores)
    found = distances(stores)
    if dist.get_rank() == 0:
        (out / "distances.json").write_text(json.dumps(found))
