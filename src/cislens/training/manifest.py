"""What a run folder says about itself, so that it can be understood and repeated."""

import math
import platform
from importlib.metadata import version
from typing import Any

import torch

from cislens import __version__
from cislens.models.profile import ProfileModel
from cislens.recipes.schema import TrainRecipe
from cislens.signal.store import ProfileStore
from cislens.training.ancestor import Ancestor
from cislens.training.monitor import SELECTION, Monitor

_LIBRARIES = ("torch", "lightning", "numpy", "polars", "zarr", "figwig", "pysam")


def run_manifest(
    recipe: TrainRecipe,
    store: ProfileStore,
    model: ProfileModel,
    monitor: Monitor,
    chosen_step: int,
    ancestor: Ancestor | None = None,
) -> dict[str, Any]:
    """Versions, data, seeds, devices and the compute ledger; `card` is the model card's text.

    A metric that could not be measured is None.

    Args:
        ancestor: the model that this one was trained from, if any; its digest is recorded.
    """
    training = recipe.training
    parameters = sum(value.numel() for value in model.parameters())
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    bases = training.steps * training.batch_size * store.length
    chosen = {
        row["metric"]: row["value"] if math.isfinite(row["value"]) else None
        for row in monitor.rows
        if row["split"] == "valid" and row["step"] == chosen_step
    }
    manifest: dict[str, Any] = {
        "cislens": __version__,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "device": _device(),
        "threads": torch.get_num_threads(),
        "seed": recipe.seed,
        "store": {"path": str(store.path), "digest": store.digest},
        "model": model.config.model_dump(mode="json"),
        "selection": {"metric": SELECTION, "split": "valid", "step": chosen_step},
        "valid": chosen,
        "ledger": {
            "parameters": parameters,
            "trained_parameters": trained,
            "steps": training.steps,
            "windows": training.steps * training.batch_size,
            "bases": bases,
            "train_seconds": round(monitor.train_seconds, 2),
            "loader_wait_seconds": round(monitor.wait_seconds, 3),
            "loader_wait_share": monitor.wait_seconds / max(monitor.train_seconds, 1e-9),
            "bases_per_second": bases / max(monitor.train_seconds, 1e-9),
        },
    }
    if ancestor is not None:
        manifest["ancestor"] = {
            "path": str(ancestor.folder), "digest": ancestor.digest, "freeze": recipe.freeze
        }  # fmt: skip
    manifest["card"] = _card(recipe, store, manifest)
    return manifest


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def _card(recipe: TrainRecipe, store: ProfileStore, manifest: dict[str, Any]) -> str:
    tracks = "\n".join(
        f"- {name}: {len(store.tracks(name))} tracks, "
        f"{store.windows(name).height} windows of {store.length} bp"
        for name in store.species
    )
    scores = "\n".join(
        f"| {name} | {'not measured' if value is None else f'{value:.4f}'} |"
        for name, value in sorted(manifest["valid"].items())
    )
    if ancestor := manifest.get("ancestor"):
        origin = f"trained further from weights `{ancestor['digest']}`, freeze {recipe.freeze}"
    else:
        origin = f"model `{recipe.model}`"
    return f"""# cislens profile model

Supervised genomic-profile model, trained by cislens {__version__}
({origin}, {manifest["ledger"]["parameters"]:,} parameters,
{recipe.training.steps} steps of {recipe.training.batch_size} windows, seed {recipe.seed}).

Load it with `cislens.load_model(folder)`.

## Data
Profile store `{store.digest}`, bins of {store.bin_size} bp:
{tracks}

## Validation
Weights of step {manifest["selection"]["step"]}, chosen by {SELECTION} on the validation part.
The test part was not read.

| metric | value |
|---|---|
{scores}
"""
