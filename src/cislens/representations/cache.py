"""Features kept between runs: only what is not there yet is embedded.

One folder for each combination of what decides a feature: representation digest, species,
strand policy and view. In it are files that are only ever added, each a set of sequences with
their features, so that threads and processes may embed at the same time.
"""

import hashlib
import io
import json
import logging
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.files import read_json, write_atomic
from cislens.genome.codes import Codes
from cislens.representations.contract import (
    Binned,
    CausalLikelihood,
    Features,
    Kind,
    MaskedLikelihood,
    Representation,
    TrackEffects,
    Tunable,
    Twinned,
    Viewed,
)
from cislens.representations.store import sequence_digest

FORMAT = "cislens-cache/2"
# What a cached representation passes on unchanged, where its own has it.
_PASSED_ON: dict[type, tuple[str, ...]] = {
    Binned: ("bin_size", "embed_bins"),
    MaskedLikelihood: ("base_log_probabilities",),
    CausalLikelihood: ("log_likelihood",),
    TrackEffects: ("effect_tracks", "track_effects"),
    Tunable: ("lora_targets", "network", "collate"),
}
DEFAULT = "default"  # the view of what has only one
logger = logging.getLogger("cislens")


@dataclass
class Saved:
    """Seconds that it took to embed what was looked up instead."""

    seconds: float = 0.0


class _Thread(threading.local):
    """What the caches of one thread know of it."""

    aside = False
    saved = 0.0


_thread = _Thread()


@contextmanager
def saved() -> Iterator[Saved]:
    """What the block's look-ups, in this thread, had cost: known when it ends.

    Who embeds first pays; a cost that is not to depend on the order adds this.
    """
    found, before = Saved(), _thread.saved
    yield found
    found.seconds = _thread.saved - before


@contextmanager
def aside() -> Iterator[None]:
    """Within the block, in this thread, nothing is looked up and nothing is kept."""
    _thread.aside = True
    try:
        yield
    finally:
        _thread.aside = False


def cached(representation: Representation, folder: str | os.PathLike[str]) -> Representation:
    """The representation with its features kept in `folder`.

    It has views, a twin, bins, likelihoods, tracks and a network if `representation` has them;
    twins are cached too, bins are not.
    """
    members: dict[str, Any] = {
        name: _passed_on(name)
        for contract, names in _PASSED_ON.items()
        if isinstance(representation, contract)
        for name in names
    }
    bases: list[type] = [CachedEmbedding]
    if isinstance(representation, Viewed):
        bases.insert(0, _CachedViews)
    if isinstance(representation, Twinned):
        bases.insert(0, _CachedTwin)
    made: Representation = type("Cached", tuple(bases), members)(representation, Path(folder))
    return made


class CachedEmbedding:
    """A representation whose default view is looked up before it is embedded."""

    def __init__(self, inner: Representation, folder: Path) -> None:
        self.inner = inner
        self.folder = folder
        self.name: str = inner.name
        self.kind: Kind = inner.kind
        self.parameters: int = inner.parameters
        self.digest: str = inner.digest
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.Lock()

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """As the representation itself; features come from the cache where they are there."""
        view = self.inner.views[-1] if isinstance(self.inner, Viewed) else DEFAULT
        return self._looked_up(sequences, species, stranded, (view,))[view]

    def _looked_up(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        if _thread.aside:
            return self._embedded([*sequences], species, stranded, {view: [""] for view in views})
        keys = [sequence_digest(codes) for codes in sequences]
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        shelves = {view: self._shelf(view, species, stranded) for view in views}
        absent = {view: shelf.missing(first) for view, shelf in shelves.items()}
        wanted = sorted({first[key] for keys in absent.values() for key in keys})
        embedded = {keys[row] for row in wanted}
        known = [key for key in first if key not in embedded]
        _thread.saved += max(shelf.seconds(known) for shelf in shelves.values())
        if wanted:
            began = time.perf_counter()
            new = self._embedded([sequences[row] for row in wanted], species, stranded, absent)
            seconds = time.perf_counter() - began
            for view, features in new.items():
                shelves[view].add([keys[row] for row in wanted], features, seconds)
        return {view: shelf.features(keys) for view, shelf in shelves.items()}

    def _embedded(
        self,
        sequences: list[Codes],
        species: str | None,
        stranded: bool,
        absent: dict[str, list[str]],
    ) -> dict[str, Features]:
        views = [view for view, keys in absent.items() if keys]
        if isinstance(self.inner, Viewed):
            return self.inner.embed_views(sequences, species, stranded, views)
        return {DEFAULT: self.inner.embed(sequences, species, stranded)}

    def _shelf(self, view: str, species: str | None, stranded: bool) -> "_Shelf":
        about = {
            "format": FORMAT,
            "representation": self.digest,
            "species": species,
            "stranded": stranded,
            "view": view,
        }
        key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
        with self._lock:
            if key not in self._shelves:
                self._shelves[key] = _Shelf(self.folder / key, {**about, "name": self.name})
            return self._shelves[key]


class _CachedViews(CachedEmbedding):
    @property
    def views(self) -> tuple[str, ...]:
        assert isinstance(self.inner, Viewed)
        return self.inner.views

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        return self._looked_up(sequences, species, stranded, views)


class _CachedTwin(CachedEmbedding):
    def twin(self, draw: int) -> Representation:
        assert isinstance(self.inner, Twinned)
        return cached(self.inner.twin(draw), self.folder)


class _Shelf:
    """The kept features of one view: files of digests and features, only ever added to."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self._about = about
        self._place: dict[str, tuple[str, int]] = {}  # digest -> file, row
        self._seconds: dict[str, float] = {}  # file -> what each of its rows cost
        self._lock = threading.Lock()

    def missing(self, keys: dict[str, int]) -> list[str]:
        """Those of the digests that are in no file, after a look for new files."""
        with self._lock:
            for file in sorted(self.folder.glob("*.npz")):
                if file.name not in self._seconds:
                    self._learn(file)
            return [key for key in keys if key not in self._place]

    def add(self, keys: list[str], features: Features, seconds: float) -> None:
        """Keep rows and what they cost; the same rows written twice have the same file."""
        digests = np.frombuffer(b"".join(map(bytes.fromhex, keys)), np.uint8).reshape(-1, 16)
        buffer = io.BytesIO()
        np.savez(buffer, digests=digests, features=features, seconds=np.float64(seconds))
        name = hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest()
        write_atomic(self.folder / "about.json", json.dumps(self._about, indent=1) + "\n")
        write_atomic(self.folder / f"{name}.npz", buffer.getvalue())
        with self._lock:
            self._learn(self.folder / f"{name}.npz")

    def seconds(self, keys: list[str]) -> float:
        """What digests that are all there had cost."""
        return sum(self._seconds[self._place[key][0]] for key in keys)

    def features(self, keys: list[str]) -> Features:
        """Features (n, D) of digests that are all there."""
        places = [self._place[key] for key in keys]
        rows: dict[str, list[int]] = {}
        for row, (file, _) in enumerate(places):
            rows.setdefault(file, []).append(row)
        found: Features | None = None
        for file, here in rows.items():
            with np.load(self.folder / file) as data:
                features = data["features"]
            if found is None:
                found = np.empty((len(keys), features.shape[1]), np.float32)
            found[here] = features[[places[row][1] for row in here]]
        assert found is not None
        return found

    def _learn(self, file: Path) -> None:
        digests, seconds = _read_digests(file)
        self._seconds[file.name] = seconds / max(1, len(digests))
        together = digests.tobytes().hex()
        for row, start in enumerate(range(0, len(together), 32)):
            self._place[together[start : start + 32]] = (file.name, row)


def _read_digests(file: Path) -> tuple[npt.NDArray[np.uint8], float]:
    """The digests of a file and what it cost; a damaged one is removed and has none."""
    try:
        with np.load(file) as data:
            digests: npt.NDArray[np.uint8] = data["digests"]
            seconds = float(data["seconds"])
            whole = len(data["features"]) == len(digests)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        whole = False
    if not whole:
        logger.warning("%s was damaged and is removed; its features are made again", file)
        file.unlink(missing_ok=True)
        return np.empty((0, 16), np.uint8), 0.0
    return digests, seconds


def _passed_on(name: str) -> property:
    return property(lambda self: getattr(self.inner, name))


def kept_features(
    folder: str | os.PathLike[str],
    sequences: Sequence[Codes],
    *,
    name: str,
    species: str | None,
    stranded: bool,
    view: str,
) -> tuple[npt.NDArray[np.int64], Features]:
    """What a cache holds of some sequences, without the representation that made it.

    Of a name with several digests, as twins have, the first in the order of digests is read.

    Returns:
        Rows of the sequences that are there (m,), in order, and their features (m, D).
    """
    wanted = {"name": name, "species": species, "stranded": stranded, "view": view}
    shelves = []
    for path in sorted(Path(folder).glob("*/about.json")):
        about = read_json(path, "description of cached features")
        if about.get("format") == FORMAT and wanted.items() <= about.items():
            shelves.append((str(about.get("representation")), path.parent, about))
    keys = [sequence_digest(codes) for codes in sequences]
    for _, place, about in sorted(shelves, key=lambda shelf: shelf[0]):
        shelf = _Shelf(place, about)
        absent = set(shelf.missing(dict.fromkeys(keys, 0)))
        rows = np.array([row for row, key in enumerate(keys) if key not in absent], np.int64)
        if len(rows):
            return rows, shelf.features([keys[row] for row in rows])
    return np.empty(0, np.int64), np.empty((0, 0), np.float32)
