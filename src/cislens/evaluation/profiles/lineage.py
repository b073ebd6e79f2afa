"""What a model has learned from: the stores of its run and of every model it started from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.signal.store import ProfileStore
from cislens.training.fit import Run


@dataclass(frozen=True)
class Lineage:
    """Stores that a model and the models before it were trained on.

    Attributes:
        stores: each once, the model's own first.
        whole: whether these are all of them.
    """

    stores: tuple[ProfileStore, ...]
    whole: bool


def lineage_of(run: Run | None, store: ProfileStore) -> Lineage:
    """Follow a run's `ancestor` links to the first model, as far as digests confirm each.

    Args:
        store: taken for any store of its digest, wherever the runs say that one was.
    """
    stores: dict[str, ProfileStore] = {}
    whole, link = True, None
    while True:
        known = _store_of(run, store)
        if known is None:
            whole = False
        else:
            stores.setdefault(known.digest, known)
        link = run.manifest.get("ancestor") if run is not None else None
        if link is None:
            return Lineage(tuple(stores.values()), whole)
        run = _linked(link)


def _store_of(run: Run | None, store: ProfileStore) -> ProfileStore | None:
    """The store that a run names, if it is still there and the same."""
    known = run.manifest.get("store") if run is not None else None
    if known is None:
        return None
    if known["digest"] == store.digest:
        return store
    if not Path(known["path"]).is_dir():
        return None
    try:
        theirs = ProfileStore.open(known["path"])
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
