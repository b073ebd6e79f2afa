"""From a recipe to a run folder: recipe.yaml, manifest.json, metrics.parquet, checkpoints/, model/.

A run that was interrupted goes on from its last checkpoint and ends with the same weights.
"""

import copy
import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger

from cislens.errors import CislensError
from cislens.files import atomic_path, write_atomic
from cislens.models.profile import ProfileModel
from cislens.models.saving import save_model
from cislens.objectives.expert_terms import BalancedTerms
from cislens.objectives.profile import ProfileObjective
from cislens.recipes.reading import check_claim, claim_folder
from cislens.recipes.schema import TrainRecipe
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.loader import ProfileLoader
from cislens.signal.store import ProfileStore
from cislens.training.averaging import RunningMean
from cislens.training.checkpoint import BestCheckpoint
from cislens.training.data import SpeciesLabels, SplitPass, StepStream
from cislens.training.experts import expert_use
from cislens.training.manifest import run_manifest
from cislens.training.module import ObjectiveModule
from cislens.training.monitor import Monitor
from cislens.training.start import Start, start_of
from cislens.training.watch import ExpertWatch

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


def fit(recipe: TrainRecipe, folder: Path) -> Run:
    """Train the recipe's model; resume if `folder` holds an unfinished run of the same recipe.

    Raises:
        CislensError: if `folder` holds a run of another recipe, or the recipe does not fit the
            store.
    """
    store = ProfileStore.open(recipe.store)
    check_claim(folder, recipe)
    if finished := Run.open(folder):
        logger.info("training: %s is already finished", folder)
        return finished
    start = start_of(recipe, store)
    objective = _objective(recipe, store, start.model)
    loader, valid = _loaders(recipe, store)
    _say_what_has_no_effect(recipe, objective)
    claim_folder(folder, recipe)
    watch = ExpertWatch(objective)
    monitor = Monitor(folder / "metrics.parquet", loader, watch)
    best = BestCheckpoint(folder / "checkpoints")
    training = recipe.training
    trainer = _trainer(recipe, folder, [RunningMean(training.ema_decay), watch, monitor, best])
    place = (trainer.global_rank, trainer.world_size)
    if training.batch_size < trainer.world_size:
        raise CislensError(
            f"batch_size {training.batch_size} is less than the {trainer.world_size} devices that "
            "share a batch; raise it."
        )
    labels = SpeciesLabels.of(
        store, start.model.species, recipe.objective.shuffle_species, recipe.seed
    )
    stream = StepStream(
        loader, labels, training.steps, training.validate_every, lambda: trainer.global_step,
        *place,
    )  # fmt: skip
    passes = SplitPass(valid, labels, *place)
    seed_everything(recipe.seed, verbose=False)
    origin = {"store": store.digest, "init_from": start.origin}
    module = ObjectiveModule(objective, training, recipe.seed, start.frozen, origin)
    if training.compile:
        compile_model(start.model)
    last = folder / "checkpoints" / "last.ckpt"
    if last.exists():
        logger.info("training: resuming %s", folder)
    with warnings.catch_warnings():
        # What Lightning says of a run that is resumed or partly frozen, and of its dependencies.
        for message in (
            "not empty", "could not find the monitored key", "LeafSpec", "in eval mode",
        ):  # fmt: skip
            warnings.filterwarnings("ignore", message=f".*{message}")
        trainer.fit(module, stream, passes, ckpt_path=last if last.exists() else None)
    if trainer.global_step < training.steps:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        _finish(recipe, store, folder, module, monitor, SplitPass(valid, labels), start)
    trainer.strategy.barrier()
    run = Run.open(folder)
    assert run is not None
    return run


def compile_model(model: ProfileModel, backend: str = "inductor") -> None:
    """Let torch.compile translate encoder and decoder at their first call, in place.

    The module and the names of its weights stay as they are, and so do checkpoints.
    """
    for part in (model.encoder, model.decoder):
        if part is not None:
            part.compile(backend=backend)


def _objective(recipe: TrainRecipe, store: ProfileStore, model: ProfileModel) -> ProfileObjective:
    """The recipe's objective over the store's tracks, weighted as the store says."""
    if recipe.training.checkpointing:
        if not hasattr(model.encoder, "checkpointing"):
            raise CislensError(
                f"training.checkpointing: the encoder {type(model.encoder).__name__} cannot "
                "recompute its activations; leave the key out."
            )
        setattr(model.encoder, "checkpointing", True)  # noqa: B010 - not of every encoder
    tables = {name: store.tracks(name).frame for name in store.species}
    tracks = {name: table["id"].to_list() for name, table in tables.items()}
    weights = {name: table["weight"].to_list() for name, table in tables.items()}
    uneven = {name: given for name, given in weights.items() if set(given) != {1.0}}
    return ProfileObjective(model, recipe.objective, tracks, uneven)


def _say_what_has_no_effect(recipe: TrainRecipe, objective: ProfileObjective) -> None:
    terms = objective.experts
    if (
        recipe.training.batches == "alternate"
        and isinstance(terms, BalancedTerms)
        and len(terms.mass_XSE)
        and terms.weights["mutual_information"]
    ):
        logger.info(
            "training: with batches: alternate every batch is of one species, so "
            "objective.experts.mutual_information has no effect"
        )


def _loaders(recipe: TrainRecipe, store: ProfileStore) -> tuple[ProfileLoader, ProfileLoader]:
    """Of the training and of the validation part."""
    training = recipe.training
    loader = ProfileLoader(
        store, "train", training.batch_size, recipe.seed, training.shift,
        training.reverse_complement, batches=training.batches,
    )  # fmt: skip
    valid = ProfileLoader(store, "valid", training.batch_size, shift=0, reverse_complement=False)
    return loader, valid


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
    start: Start,
) -> None:
    """Keep the weights of the best validation, then write expert use, model and manifest."""
    best = folder / "checkpoints" / "best.ckpt"
    state = torch.load(best, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    # A copy, because copies are not compiled.
    model = copy.deepcopy(module.objective.model).cpu().eval()
    assert isinstance(model, ProfileModel)
    manifest = run_manifest(
        recipe,
        store,
        model,
        monitor,
        chosen_step=int(state["global_step"]),
        ancestor=start.ancestor,
    )
    with atomic_path(folder / "experts.parquet") as aside:
        expert_use(model, valid).write_parquet(aside)
    data = DataCard(store.length, start.tracks)
    save_model(model, folder / "model", manifest.pop("card"), {FILE_NAME: data.to_json()})
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False) + "\n")
