"""What a model has learned from: the stores of its run and of every model it started from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cislens.errors import CislensError
from cislens.evaluation.training_stores import TrainingStore, open_training_store
from cislens.files import file_digest
from cislens.signal.store import ProfileStore
from cislens.training.fit import Run
from cislens.training.store_parts import stores_of


@dataclass(frozen=True)
class Lineage:
    """Stores that a model and the models before it were trained on.

    Attributes:
        stores: each once, the model's own first.
        whole: whether these are all of them.
    """

    stores: tuple[TrainingStore, ...]
    whole: bool


def lineage_of(run: Run | None, store: ProfileStore) -> Lineage:
    """Follow a run's `ancestor` links to the first model, as far as digests confirm each.

    Args:
        store: taken for any store of its digest, wherever the runs say that one was.
    """
    stores: dict[str, TrainingStore] = {}
    whole, link = True, None
    while True:
        named = stores_of(run.manifest) if run is not None else []
        found = [each for each in (_opened(known, store) for known in named) if each is not None]
        whole = whole and bool(named) and len(found) == len(named)
        for each in found:
            stores.setdefault(each.digest, each)
        link = run.manifest.get("ancestor") if run is not None else None
        if link is None:
            return Lineage(tuple(stores.values()), whole)
        run = _linked(link)


def _opened(known: Mapping[str, str], store: ProfileStore) -> TrainingStore | None:
    """The store that a run names, if it is still there and the same."""
    if known["digest"] == store.digest:
        return store
    if not Path(known["path"]).is_dir():
        return None
    try:
        theirs = open_training_store(known["path"])
    except CislensError:  # damaged since, or something else in its place
        return None
    return theirs if theirs.digest == known["digest"] else None


def _linked(link: Mapping[str, Any]) -> Run | None:
    """The run of an ancestor's model folder, unless its weights are gone or others by now.

    Weights follow from those before them, so that a chain of confirmed digests has no loop.
    """
    folder = Path(link["path"])
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_digest(weights) != link["digest"]:
        return None
    try:
        run = Run.open(folder.parent)
    except CislensError:
        return None
    return run if run is not None and run.model_folder == folder else None
