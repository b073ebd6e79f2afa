"""From a recipe to a run folder: recipe.yaml, manifest.json, metrics.parquet, checkpoints/, model/.

A run that was interrupted goes on from its last checkpoint and ends with the same weights.
"""

import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from cislens.errors import CislensError
from cislens.files import atomic_path, write_atomic
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.models.saving import save_model
from cislens.objectives.profile import ProfileObjective
from cislens.randomness import seed_of
from cislens.recipes.reading import claim_folder
from cislens.recipes.schema import TrainRecipe
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.loader import ProfileLoader
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import track_table
from cislens.training.data import SplitPass, StepStream
from cislens.training.experts import expert_use
from cislens.training.manifest import run_manifest
from cislens.training.module import ObjectiveModule
from cislens.training.monitor import SELECTION, Monitor

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
        try:
            return cls(folder, json.loads(path.read_text()))
        except ValueError as error:
            raise CislensError(f"{path} is not JSON ({error}); restore the run folder.") from None


def model_for(recipe: TrainRecipe, store: ProfileStore) -> ProfileModel:
    """The recipe's model with fresh weights (a function of the seed) and the store's tracks.

    Raises:
        CislensError: on an unknown preset or key, or bins that the store does not have.
    """
    named = recipe.model or {}
    changes = {"preset": named} if isinstance(named, str) else dict(named)
    if "preset" not in changes:
        raise CislensError("model: name a preset, e.g. {preset: space-plus-tiny, depth: 3}.")
    preset = changes.pop("preset")
    tracks = {name: store.tracks(name).frame["id"].to_list() for name in store.species}
    config = preset_config(preset, tracks, store.crop, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        model = build_model(config)
    if model.encoder.bin_size != store.bin_size:
        raise CislensError(
            f"model {preset} has bins of {model.encoder.bin_size} bp and {store.path} bins of "
            f"{store.bin_size} bp; build the store with the model's bin size."
        )
    return model


def fit(recipe: TrainRecipe, folder: Path) -> Run:
    """Train the recipe's model; resume if `folder` holds an unfinished run of the same recipe.

    Raises:
        CislensError: if `folder` holds a run of another recipe, or the recipe does not fit the
            store.
    """
    store = ProfileStore.open(recipe.store)
    claim_folder(folder, recipe)
    if finished := Run.open(folder):
        logger.info("training: %s is already finished", folder)
        return finished
    training = recipe.training
    objective = ProfileObjective(model_for(recipe, store), recipe.objective)
    loader = ProfileLoader(
        store, "train", training.batch_size, recipe.seed, training.shift,
        training.reverse_complement,
    )  # fmt: skip
    valid = ProfileLoader(store, "valid", training.batch_size, shift=0, reverse_complement=False)
    monitor = Monitor(folder / "metrics.parquet", loader)
    best = ModelCheckpoint(
        folder / "checkpoints", filename="best", monitor=SELECTION, save_last=True,
        enable_version_counter=False,
    )  # fmt: skip
    trainer = _trainer(
        recipe, folder, [EMAWeightAveraging(decay=training.ema_decay), monitor, best]
    )
    place = (trainer.global_rank, trainer.world_size)
    stream = StepStream(
        loader, training.steps, training.validate_every, lambda: trainer.global_step, *place
    )
    passes = SplitPass(valid, *place)
    seed_everything(recipe.seed, verbose=False)
    module = ObjectiveModule(objective, training, recipe.seed)
    last = folder / "checkpoints" / "last.ckpt"
    if last.exists():
        logger.info("training: resuming %s", folder)
    with warnings.catch_warnings():
        # What Lightning says of a run that is resumed, and of its own dependencies.
        for message in ("not empty", "could not find the monitored key", "LeafSpec"):
            warnings.filterwarnings("ignore", message=f".*{message}")
        trainer.fit(module, stream, passes, ckpt_path=last if last.exists() else None)
    if trainer.global_step < training.steps:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        _finish(recipe, store, folder, module, monitor, SplitPass(valid))
    trainer.strategy.barrier()
    run = Run.open(folder)
    assert run is not None
    return run


def _trainer(recipe: TrainRecipe, folder: Path, callbacks: list[Any]) -> Trainer:
    training = recipe.training
    gpu = torch.cuda.is_available()
    bf16 = training.precision == "bf16" or (training.precision == "auto" and gpu)
    interactive = sys.stderr.isatty()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return Trainer(
        accelerator="gpu" if gpu else "cpu",
        precision="bf16-mixed" if bf16 else "32-true",
        max_steps=training.steps,
        max_epochs=-1,
        gradient_clip_val=training.clip,
        callbacks=callbacks,
        logger=_loggers(recipe, folder) or False,
        default_root_dir=folder,
        enable_progress_bar=interactive,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        sync_batchnorm=True,
        log_every_n_steps=training.validate_every,
    )


def _loggers(recipe: TrainRecipe, folder: Path) -> list[Logger]:
    from lightning.pytorch import loggers

    makers = {
        "tensorboard": loggers.TensorBoardLogger,
        "wandb": loggers.WandbLogger,
        "mlflow": loggers.MLFlowLogger,
    }
    return [makers[name](save_dir=str(folder / "logs")) for name in recipe.training.loggers]


def _finish(
    recipe: TrainRecipe,
    store: ProfileStore,
    folder: Path,
    module: ObjectiveModule,
    monitor: Monitor,
    valid: SplitPass,
) -> None:
    """Keep the weights of the best validation, then write expert use, model and manifest."""
    best = folder / "checkpoints" / "best.ckpt"
    state = torch.load(best, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    model = module.objective.model.cpu().eval()
    assert isinstance(model, ProfileModel)
    manifest = run_manifest(recipe, store, model, monitor, chosen_step=int(state["global_step"]))
    with atomic_path(folder / "experts.parquet") as aside:
        expert_use(model, valid).write_parquet(aside)
    tracks = track_table(track for name in store.species for track in store.tracks(name).rows())
    data = DataCard(store.length, tracks)
    save_model(model, folder / "model", manifest.pop("card"), {FILE_NAME: data.to_json()})
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
