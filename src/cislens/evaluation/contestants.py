"""The representations that a bench recipe names."""

import logging
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.models.saving import load_model
from cislens.recipes.schema import BenchRecipe
from cislens.representations.collection import open_embeddings
from cislens.representations.contract import Representation
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.huggingface.families import load_huggingface
from cislens.signal.store import ProfileStore
from cislens.training.fit import Run

logger = logging.getLogger("cislens")


def load_representations(recipe: BenchRecipe) -> list[Representation]:
    """Trained runs, published models and embedding stores, in the order of the recipe.

    Raises:
        CislensError: if a run is not finished, or was trained on another store than the recipe's.
    """
    for folder in recipe.runs.values():
        _require_same_store(recipe, folder)
    runs = [
        EncoderEmbedding(load_model(folder / "model").encoder, name)
        for name, folder in recipe.runs.items()
    ]
    models = [
        load_huggingface(model.family, model.folder, name) for name, model in recipe.models.items()
    ]
    stores = [open_embeddings(folder, name) for name, folder in recipe.embeddings.items()]
    return [*runs, *models, *stores]


def training_store(recipe: BenchRecipe) -> ProfileStore | None:
    """The store that the recipe names, or that its first run was trained on; None, with a
    warning, if there is none to be found. Of runs of several stores one is warned of, too."""
    if recipe.store is not None:
        return ProfileStore.open(recipe.store)
    trained = {name: _open(folder).manifest["store"] for name, folder in recipe.runs.items()}
    for known in trained.values():
        if Path(known["path"]).is_dir():
            store = ProfileStore.open(known["path"])
            if store.digest == known["digest"]:
                others = [name for name, each in trained.items() if each["digest"] != store.digest]
                if others:
                    logger.warning(
                        "%s: trained on another store than %s; test examples are not held against "
                        "what they have seen", ", ".join(others), store.path,
                    )  # fmt: skip
                return store
    if recipe.runs or recipe.models or recipe.embeddings:
        logger.warning("no store is named: nothing is known of what the models were trained on")
    return None


def _open(folder: Path) -> Run:
    run = Run.open(require_file(folder, "run folder"))
    if run is None:
        raise CislensError(f"the run {folder} is not finished; train it to its end first.")
    return run


def _require_same_store(recipe: BenchRecipe, folder: Path) -> None:
    run = _open(folder)
    if recipe.store is None:
        return
    store = ProfileStore.open(recipe.store)
    if run.manifest["store"]["digest"] != store.digest:
        raise CislensError(
            f"{folder} was trained on another store ({run.manifest['store']['path']}) than "
            f"{store.path}; its parts say nothing about what this run has seen. Name that store."
        )
