"""The representations that a bench recipe names."""

import logging
from pathlib import Path

from cislens.effects.track_model import TrackModel
from cislens.errors import CislensError
from cislens.evaluation.track_scores import TrackEmbedding, TrackLanguageEmbedding
from cislens.evaluation.training_stores import TrainingStore, open_training_store
from cislens.files import require_file
from cislens.models.mixture import part_of_kind
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_model
from cislens.recipes.schema import BenchRecipe
from cislens.representations.collection import open_embeddings
from cislens.representations.contract import Representation
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.huggingface.families import load_huggingface
from cislens.representations.language import trained_language_model
from cislens.signal.datacard import DataCard
from cislens.training.fit import Run
from cislens.training.store_parts import stores_of

logger = logging.getLogger("cislens")


def load_representations(recipe: BenchRecipe) -> list[Representation]:
    """Trained runs, published models and embedding stores, in the order of the recipe.

    Raises:
        CislensError: if a run is not finished, or was trained on another store than the recipe's.
    """
    for folder in recipe.runs.values():
        _require_same_store(recipe, folder)
    runs = [run_representation(folder, name) for name, folder in recipe.runs.items()]
    models = [
        load_huggingface(model.family, model.folder, name) for name, model in recipe.models.items()
    ]
    stores = [open_embeddings(folder, name) for name, folder in recipe.embeddings.items()]
    return [*runs, *models, *stores]


def run_representation(folder: Path, name: str) -> EncoderEmbedding:
    """All that a run's model can be asked for: features, hidden bases if it has been trained to
    tell them, and tracks if it predicts some.

    Raises:
        MissingFileError, CislensError: as `load_model`, `DataCard.read` and `read_recipe`.
    """
    model = load_model(folder / "model")
    language = trained_language_model(folder / "model", model, name)
    net = part_of_kind(model, ProfileModel)
    if net is None:
        return language or EncoderEmbedding(model.encoder, name)
    tracks = TrackModel(net, DataCard.read(folder / "model"), name)
    return (
        TrackEmbedding(tracks)
        if language is None
        else TrackLanguageEmbedding(tracks, language.head)
    )


def training_stores(recipe: BenchRecipe) -> list[TrainingStore]:
    """The store that the recipe names, and those that its runs were trained on, each once.

    A run whose stores cannot all be found, and a bench without any, are warned of.
    """
    stores: dict[str, TrainingStore] = {}
    unknown = [*recipe.models, *recipe.embeddings]
    if recipe.store is not None:
        named = open_training_store(recipe.store)
        stores[named.digest] = named
        unknown = []
    for name, folder in recipe.runs.items():
        for known in stores_of(_open(folder).manifest):
            if known["digest"] in stores:
                continue
            found = open_training_store(known["path"]) if Path(known["path"]).is_dir() else None
            if found is not None and found.digest == known["digest"]:
                stores[found.digest] = found
            else:
                unknown.append(name)
    if unknown:
        logger.warning(
            "nothing is known of what these were trained on: %s; test examples are not held "
            "against it", ", ".join(dict.fromkeys(unknown)),
        )  # fmt: skip
    return list(stores.values())


def _open(folder: Path) -> Run:
    run = Run.open(require_file(folder, "run folder"))
    if run is None:
        raise CislensError(f"the run {folder} is not finished; train it to its end first.")
    return run


def _require_same_store(recipe: BenchRecipe, folder: Path) -> None:
    run = _open(folder)
    if recipe.store is None:
        return
    store = open_training_store(recipe.store)
    known = stores_of(run.manifest)
    if store.digest not in [each["digest"] for each in known]:
        raise CislensError(
            f"{folder} was trained on another store ({known[0]['path']}) than {store.path}; its "
            "parts say nothing about what this run has seen. Name that store."
        )
