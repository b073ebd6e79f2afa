"""Embedding stores of one encoder, side by side in a folder: one for each task."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import require_file
from cislens.genome.codes import Codes
from cislens.representations.contract import Features, Kind
from cislens.representations.store import MANIFEST, StoredBins, StoredEmbedding

Stored = StoredEmbedding | StoredBins


def open_embeddings(
    folder: str | os.PathLike[str], name: str | None = None
) -> "Stored | StoredCollection":
    """The representation of an embedding store, or of a folder of stores of one encoder.

    It keeps bins if every store does.

    Raises:
        CislensError: if the folder is neither, or as `EmbeddingStore.open`.
    """
    path = require_file(folder, "embedding store")
    inside = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST}"))
    if (path / MANIFEST).exists() or not inside:
        return _open(path, name)
    stores = [_open(store, name) for store in inside]
    binned = all(isinstance(store, StoredBins) for store in stores)
    return CollectedBins(path, stores) if binned else StoredCollection(path, stores)


def _open(folder: Path, name: str | None) -> Stored:
    stored = StoredEmbedding(folder, name)
    return stored if stored.store.bins is None else StoredBins(folder, name)


class StoredCollection:
    """Stored features of several tasks as one representation.

    Sequences are read from the store that has all of them for the species and strand policy.

    Raises:
        CislensError: if the stores are not of one encoder with the same views.
    """

    def __init__(self, folder: Path, stores: Sequence[Stored]) -> None:
        self.folder = folder
        self.stores = stores
        first = stores[0]
        for other in stores[1:]:
            ours, theirs = (s.store.manifest["encoder"]["digest"] for s in (first, other))
            if ours != theirs or first.views != other.views:
                raise CislensError(
                    f"{first.store.path} and {other.store.path} are embeddings by different "
                    "encoders or of different views; keep each encoder in a folder of its own."
                )
        self.name: str = first.name
        self.kind: Kind = first.kind
        self.parameters: int = first.parameters
        self.views = first.views
        # Of the encoder, not of the files: a store for another task changes no feature of this one.
        precisions = sorted({store.store.manifest["dtype"]["stored"] for store in stores})
        known = (first.store.manifest["encoder"]["digest"], *first.views, *precisions)
        self.digest = hashlib.sha256("\n".join(known).encode()).hexdigest()

    def require(self, sequences: Sequence[Codes], species: str | None, stranded: bool) -> None:
        """Refuse sequences that no store has all of; raises as `embed`."""
        self._store_of(sequences, species, stranded)

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """Features (n, D) of the default view.

        Raises:
            CislensError: if no store has all of the sequences, or as `StoredEmbedding.embed`.
        """
        return self._store_of(sequences, species, stranded).embed(sequences, species, stranded)

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        """Features (n, D) of some of `views`; raises as `embed`, or for an unknown view."""
        found = self._store_of(sequences, species, stranded)
        return found.embed_views(sequences, species, stranded, views)

    def require_precise(self) -> None:
        """Refuse stores whose numbers are too coarse for the difference of two alleles.

        Raises:
            CislensError: if one is not of fp32.
        """
        for store in self.stores:
            store.require_precise()

    def _store_of(self, sequences: Sequence[Codes], species: str | None, stranded: bool) -> Stored:
        for store in self.stores:
            if store.has(sequences, species, stranded):
                return store
        tasks = [store.store.manifest["task"] for store in self.stores]
        made = ", ".join(f"{task['name']} ({task['hash'][:12]})" for task in tasks if task)
        raise CislensError(
            f"no store in {self.folder} has all of the {len(sequences)} sequences for species "
            f"{species!r}, stranded {stranded}; there are embeddings of {made or 'no task'}: embed "
            "this task into that folder too."
        )


class CollectedBins(StoredCollection):
    """Stored features of several tasks, all with bins."""

    @property
    def bin_size(self) -> int:
        """Base pairs of a bin."""
        first = self.stores[0]
        assert isinstance(first, StoredBins)
        return first.bin_size

    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """(n, N, D); raises as `embed`."""
        found = self._store_of(sequences, species, stranded)
        assert isinstance(found, StoredBins)
        return found.embed_bins(sequences, species, stranded)
