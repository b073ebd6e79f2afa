"""From a recipe to a run folder: recipe.yaml, manifest.json, metrics.parquet, checkpoints/, model/.

A run that was interrupted goes on from its last checkpoint and ends with the same weights.
"""

import copy
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from cislens.files import read_json, write_atomic
from cislens.logs import LOG, logged, told
from cislens.recipes.reading import check_claim, claim_folder
from cislens.recipes.schema import TrainRecipe
from cislens.training.averaging import RunningMean
from cislens.training.checkpoint import BestCheckpoint, WholeFiles, newest
from cislens.training.collapse import refuse_collapsed
from cislens.training.course import Course
from cislens.training.courses import course_of
from cislens.training.devices import Devices, StopsAtOnce, held, requeued, require_even
from cislens.training.ending import ended_by_signals
from cislens.training.finite import FiniteGuard
from cislens.training.ledger import step_flops
from cislens.training.loggers import loggers_of
from cislens.training.manifest import Spent, run_manifest
from cislens.training.module import ObjectiveModule
from cislens.training.monitor import Monitor
from cislens.training.performance import Performance
from cislens.training.sharding import Sharded, WholeValidation
from cislens.training.uncertainty import valid_intervals

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    @property
    def experts_path(self) -> Path:
        return self.folder / "experts.parquet"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.parquet"

    @classmethod
    def open(cls, folder: Path) -> "Run | None":
        """The run in `folder`, or None if it is not finished; a damaged one is an error."""
        path = folder / "manifest.json"
        if not path.exists():
            return None
        return cls(folder, read_json(path, "manifest of the run"))


def fit(recipe: TrainRecipe, folder: Path) -> Run:
    """Train the recipe's model; resume if `folder` holds an unfinished run of the same recipe.

    Raises:
        CislensError: if `folder` holds a run of another recipe, the recipe does not fit the
            store, or a loss is not finite.
        CollapseError: if the model collapses, or the run in `folder` did.
    """
    devices = Devices.found()
    require_even(recipe.training, devices.world)
    check_claim(folder, recipe)
    if finished := Run.open(folder):
        logger.info("training: %s is already finished", folder)
        return finished
    refuse_collapsed(folder)
    course = course_of(recipe)
    course.say()
    with held(folder):
        claim_folder(folder, recipe)
        with logged(folder / LOG), told("train"):
            return _train(recipe, folder, course)


def _train(recipe: TrainRecipe, folder: Path, course: Course) -> Run:
    training = recipe.training
    monitor = Monitor(folder / "metrics.parquet", course)
    performance = Performance(folder / "performance.parquet", course)
    best = BestCheckpoint(folder / "checkpoints", course.selection)
    means = [RunningMean(training.ema_decay)] if course.averaged else []
    gathered = [WholeValidation()] if training.strategy == "fsdp" else []
    finite = FiniteGuard(folder, course.loader, course.places)
    guards = (finite, *course.guards(folder))
    trainer = _trainer(
        recipe,
        folder,
        [StopsAtOnce(), *means, *gathered, *course.watches, monitor, performance, *guards, best],
    )
    place = (trainer.global_rank, trainer.world_size)
    seed_everything(recipe.seed, verbose=False)
    # Counted once, by the process that will write it down: all of them start on the same device.
    flops = performance.step_flops = 0
    if trainer.is_global_zero:
        flops = performance.step_flops = step_flops(course, trainer.world_size)
    module = ObjectiveModule(course.objective, training, recipe.seed, course.frozen, course.origin)
    if training.compile:
        compile_modules(course.compiled)
    resume = newest(folder)
    if resume is not None:
        logger.info("training: resuming %s", folder)
    stream = course.stream(lambda: trainer.global_step, *place)
    with ended_by_signals(), warnings.catch_warnings():
        # What Lightning says of a run that is resumed or partly frozen, and of its dependencies.
        for message in (
            "not empty", "could not find the monitored key", "LeafSpec", "in eval mode",
        ):  # fmt: skip
            warnings.filterwarnings("ignore", message=f".*{message}")
        trainer.fit(module, stream, course.passes(*place), ckpt_path=resume, weights_only=True)
    if trainer.global_step < training.steps:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        spent = Spent(flops, monitor, performance, trainer.world_size)
        _finish(recipe, folder, course, module, spent)
    trainer.strategy.barrier()
    run = Run.open(folder)
    assert run is not None
    return run


def compile_modules(modules: Sequence[nn.Module], backend: str = "inductor") -> None:
    """Let torch.compile translate modules at their first call, in place.

    The modules and the names of their weights stay as they are, and so do checkpoints.
    """
    for module in modules:
        module.compile(backend=backend)


def _trainer(recipe: TrainRecipe, folder: Path, callbacks: list[Any]) -> Trainer:
    training = recipe.training
    devices = Devices.found()
    gpu = devices.accelerator == "gpu"
    bf16 = training.precision == "bf16" or (training.precision == "auto" and gpu)
    sharded = training.strategy == "fsdp" and devices.world > 1
    interactive = sys.stderr.isatty()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return Trainer(
        accelerator=devices.accelerator,
        devices=devices.per_node,
        num_nodes=devices.nodes,
        strategy=Sharded() if sharded else _alike(devices),
        plugins=[WholeFiles(), *requeued(training)],
        accumulate_grad_batches=training.accumulate,
        inference_mode=not sharded,
        precision="bf16-mixed" if bf16 else "32-true",
        max_steps=training.steps,
        max_epochs=-1,
        gradient_clip_val=training.clip,
        callbacks=callbacks,
        logger=loggers_of(recipe.training.loggers, folder) or False,
        default_root_dir=folder,
        enable_progress_bar=interactive,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # Torch has it for GPUs only; elsewhere `cislens.nn.batch_norm` does the same.
        sync_batchnorm=gpu,
        log_every_n_steps=training.validate_every,
    )


def _alike(devices: Devices) -> Any:
    """The strategy of processes with the same weights.

    Statistics are of all processes as they are, so none are sent around: a process without a
    validation batch would not answer.
    """
    return DDPStrategy(broadcast_buffers=False) if devices.world > 1 else "auto"


def _finish(
    recipe: TrainRecipe, folder: Path, course: Course, module: ObjectiveModule, spent: Spent
) -> None:
    """Keep the weights that were chosen, then write the model and the manifest."""
    best = folder / "checkpoints" / "best.ckpt"
    state = torch.load(best, map_location="cpu", weights_only=True)
    strategy = module.trainer.strategy
    if isinstance(strategy, Sharded):  # which this process has a share of
        module = ObjectiveModule(course_of(recipe).objective, recipe.training, recipe.seed)
    module.load_state_dict(state["state_dict"])
    # A copy, because copies are not compiled.
    objective = copy.deepcopy(module.objective).eval()
    model: Any = objective.kept
    manifest = run_manifest(recipe, course, model, spent, int(state["global_step"]))
    blocks = course.blocks()
    manifest |= valid_intervals(objective, blocks, manifest["valid"], strategy.root_device)
    model.cpu()
    course.save(folder, model, manifest)
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False) + "\n")
