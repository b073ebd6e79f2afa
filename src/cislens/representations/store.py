"""Embeddings on disk, so that whoever judges them needs no model: contract `cislens-embeddings/1`.

docs/formats.md has the files. Legend: n sequences, N bins, D channels.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.files import file_digest, read_json, read_parquet, require_file, undamaged
from cislens.genome.codes import Codes
from cislens.representations.contract import Features, Kind
from cislens.untrusted import inside, zarr_array

CONTRACT = "cislens-embeddings/1"
MANIFEST = "manifest.json"
INDEX = "index.parquet"
LEDGER = "ledger.json"
# Differences of half-precision embeddings are mostly rounding: they correlate only .82 with those
# of fp32.
PRECISE = "float32"


_REQUIRED = (
    "encoder", "species", "stranded", "task", "rows", "order", "views", "tokens", "dtype", "files",
)  # fmt: skip
_COLUMNS = ("example_id", "row", "seq_digest", "bp_len", "n_frac", "status")


def sequence_digest(codes: Codes) -> str:
    """128 bits, in hex, of a sequence as it is written; its reverse complement has others."""
    return hashlib.blake2b(codes.tobytes(), digest_size=16).hexdigest()


def order_hash(ids: Iterable[str], digests: Iterable[str]) -> str:
    """sha256 over ids and sequences in their order."""
    digest = hashlib.sha256()
    for example, sequence in zip(ids, digests, strict=True):
        digest.update(f"{example}\t{sequence}\n".encode())
    return digest.hexdigest()


class EmbeddingStore:
    """A finished store; `EmbeddingStore.open(folder)`.

    Attributes:
        index: `example_id, row, seq_digest, bp_len, n_frac, status`, one row per sequence.
        manifest: what was embedded by what; see docs/formats.md.
        digest: sha256 of the manifest, which holds the digest of every other file but the ledger.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.index = read_parquet(path / INDEX, "index of the embeddings")
        _check_index(path, manifest, self.index)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "EmbeddingStore":
        """Open a store after checking its contract, its index and the size of every file.

        Raises:
            CislensError: if the folder is no whole store, of another contract, or rows of the
                index are missing, not embedded or in another order than was recorded.
        """
        path = Path(folder)
        if not path.exists() and partial_folder(path).exists():
            raise CislensError(
                f"the embeddings {path} are not finished; run the same command again, it resumes "
                f"from {partial_folder(path)}."
            )
        with undamaged("embedding store", require_file(path, "embedding store")):
            manifest, digest = _read_manifest(path)
            _check_files(path, manifest)
            return cls(path, manifest, digest)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; the last is the default one."""
        return tuple(self.manifest["views"])

    @property
    def bins(self) -> str | None:
        """The layer whose bins are stored, if any is."""
        return next(iter(self.manifest["tokens"]), None)

    @property
    def ledger(self) -> dict[str, float]:
        """What the embedding cost: `wall_s`, `bp`, `bp_per_s`."""
        return read_json(self.path / LEDGER, "ledger of the embeddings")

    def read(self, view: str) -> npt.NDArray[Any]:
        """Features (n, D) of all rows in the stored type.

        Raises:
            CislensError: if there is no such view, its bytes are not those that were written, or
                a value is not finite.
        """
        (values,) = self.blocks(view, max(1, len(self)))
        return values

    def blocks(self, view: str, rows: int) -> Iterator[npt.NDArray[Any]]:
        """The same features, so many rows (rows, D) at a time; raises as `read`."""
        if view not in self.views:
            raise CislensError(
                f"embeddings {self.path} have no view {view!r}. {nearest(view, self.views)}"
            )
        shape = (len(self), self.manifest["views"][view])
        return self._blocks(f"pooled/{view}.zarr", shape, rows)

    def read_bins(self) -> npt.NDArray[Any]:
        """Features (n, N, D) of every bin of the stored layer.

        Raises:
            CislensError: as `read`, or if no bins are stored.
        """
        if self.bins is None:
            raise CislensError(
                f"embeddings {self.path} hold no bins, only pooled views; embed with bins."
            )
        about = self.manifest["tokens"][self.bins]
        count = len(self) * about["bins"]
        name = f"tokens/{self.bins}.zarr/flat"
        (flat,) = self._blocks(name, (count, about["dim"]), max(1, count))
        return flat.reshape(len(self), about["bins"], about["dim"])

    def require_task(self, name: str, task_hash: str) -> None:
        """Refuse the embeddings of another task than the one of this name and hash.

        Raises:
            CislensError: naming both.
        """
        found = self.manifest["task"]
        if found is None or found["hash"] != task_hash:
            theirs = "no task" if found is None else f"task {found['name']} {found['hash'][:12]}"
            raise CislensError(
                f"embeddings {self.path} were made for {theirs}, needed are those of task {name} "
                f"{task_hash[:12]}; embed that task, or name its store."
            )

    def _blocks(self, name: str, shape: tuple[int, int], rows: int) -> Iterator[npt.NDArray[Any]]:
        for file, about in self.manifest["files"].items():
            if file.startswith(f"{name}/") and file_digest(self.path / file) != about["sha256"]:
                raise self._damaged(f"the bytes of {file} are not those that were written")
        array = zarr_array(
            inside(self.path, name, self.path / MANIFEST), shape, self.manifest["dtype"]["stored"]
        )
        for first in range(0, max(1, shape[0]), rows):
            values = np.asarray(array[first : first + rows])
            bad = ~np.isfinite(values).all(axis=1)
            if bad.any():
                raise self._damaged(
                    f"{name} has values that are not finite in {int(bad.sum())} rows, first in row "
                    f"{first + int(bad.argmax())}"
                )
            yield values

    def _damaged(self, what: str) -> CislensError:
        return damaged(self.path, what)


class StoredEmbedding:
    """Stored features as a representation: any of the stored sequences, in any order.

    Args:
        folder: an embedding store.
        name: how tables call it; that of the encoder unless given.

    Raises:
        CislensError: as `EmbeddingStore.open`.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str | None = None) -> None:
        self.store = EmbeddingStore.open(folder)
        encoder = self.store.manifest["encoder"]
        self.name: str = name or encoder["name"]
        self.kind: Kind = encoder["kind"]
        self.parameters: int = encoder["parameters"]
        self.digest = self.store.digest
        self.views = self.store.views
        self._rows = {key: row for row, key in enumerate(self.store.index["seq_digest"])}
        self._read: dict[str, npt.NDArray[Any]] = {}

    def has(self, sequences: Sequence[Codes], species: str | None, stranded: bool) -> bool:
        """Whether all of the sequences are there, for this species and strand policy."""
        manifest = self.store.manifest
        same = manifest["species"] == species and manifest["stranded"] == stranded
        return same and all(sequence_digest(codes) in self._rows for codes in sequences)

    def require(self, sequences: Sequence[Codes], species: str | None, stranded: bool) -> None:
        """Refuse sequences that are not all there; raises as `embed`."""
        self._find(sequences, species, stranded)

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """Features (n, D) of the default view.

        Raises:
            CislensError: if a sequence is not in the store, or it was made for another species
                or strand policy.
        """
        view = self.views[-1]
        return self.embed_views(sequences, species, stranded, (view,))[view]

    def embed_views(
        self,
        sequences: Sequence[Codes],
        species: str | None,
        stranded: bool,
        views: Sequence[str],
    ) -> dict[str, Features]:
        """Features (n, D) of some of `views`; raises as `embed`, or for an unknown view."""
        rows = self._find(sequences, species, stranded)
        for view in views:
            if view not in self._read:
                self._read[view] = self.store.read(view)
        return {view: self._read[view][rows].astype(np.float32, copy=False) for view in views}

    def require_precise(self) -> None:
        """Refuse a store whose numbers are too coarse for the difference of two alleles.

        Raises:
            CislensError: if it is not of fp32.
        """
        stored = self.store.manifest["dtype"]["stored"]
        if stored != PRECISE:
            raise CislensError(
                f"embeddings {self.store.path} are stored as {stored}, too coarse for the effects "
                "of variants: fp16 deltas correlate only .82 with fp32; embed with --dtype float32."
            )

    def _find(self, sequences: Sequence[Codes], species: str | None, stranded: bool) -> list[int]:
        manifest = self.store.manifest
        for what, asked in (("species", species), ("stranded", stranded)):
            if manifest[what] != asked:
                raise CislensError(
                    f"embeddings {self.store.path} were made with {what} {manifest[what]!r}, "
                    f"asked for is {asked!r}; embed again with that."
                )
        found = [self._rows.get(sequence_digest(codes), -1) for codes in sequences]
        missing = found.count(-1)
        if missing:
            task = manifest["task"]
            made = f"task {task['name']} ({task['hash'][:12]})" if task else "no named task"
            raise CislensError(
                f"{missing} of {len(found)} sequences are not in the embeddings {self.store.path}, "
                f"which were made for {made}, first the one in row {found.index(-1)}: these are "
                "embeddings of another task; embed this one."
            )
        return found


class StoredBins(StoredEmbedding):
    """Stored features of a store that also holds bins."""

    @property
    def bin_size(self) -> int:
        """Base pairs of a bin."""
        assert self.store.bins is not None
        size: int = self.store.manifest["tokens"][self.store.bins]["bin_size"]
        return size

    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        """(n, N, D); raises as `embed`."""
        rows = self._find(sequences, species, stranded)
        if "" not in self._read:
            self._read[""] = self.store.read_bins()
        return self._read[""][rows].astype(np.float32, copy=False)


def partial_folder(folder: Path) -> Path:
    """Where an unfinished store is kept."""
    return folder.with_name(f"{folder.name}.partial")


def damaged(path: Path, what: str) -> CislensError:
    """The error of a store that is not as it was written."""
    return CislensError(f"embeddings {path} are damaged: {what}; copy or embed them again.")


def _read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    file = path / MANIFEST
    if not file.is_file():
        raise CislensError(
            f"{path} has no {MANIFEST}: it is no embedding store, or one that was not finished; "
            "write it with `cislens embed`."
        )
    data = file.read_bytes()
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        raise damaged(path, f"{MANIFEST} is not JSON") from None
    contract = manifest.get("contract") if isinstance(manifest, dict) else None
    if contract != CONTRACT:
        raise CislensError(
            f"{file} follows the contract {contract!r}, this cislens reads {CONTRACT!r}; embed "
            "again, or update cislens."
        )
    missing = [key for key in _REQUIRED if key not in manifest]
    if missing:
        raise damaged(path, f"{MANIFEST} lacks {', '.join(missing)}")
    return manifest, hashlib.sha256(data).hexdigest()


def _check_files(path: Path, manifest: dict[str, Any]) -> None:
    for name, about in manifest["files"].items():
        file = inside(path, name, path / MANIFEST)
        found = file.stat().st_size if file.exists() else None
        if found != about["bytes"]:
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise damaged(path, f"{name} {state}, expected {about['bytes']:,} bytes")
    recorded = manifest["files"].get(INDEX, {}).get("sha256")
    if file_digest(require_file(path / INDEX, "index of the embeddings")) != recorded:
        raise damaged(path, f"the bytes of {INDEX} are not those that were written")


def _check_index(path: Path, manifest: dict[str, Any], index: pl.DataFrame) -> None:
    absent = [name for name in _COLUMNS if name not in index.columns]
    if absent:
        raise damaged(path, f"{INDEX} lacks the column(s) {', '.join(absent)}")
    if len(index) != manifest["rows"]:
        raise damaged(
            path, f"{INDEX} has {len(index)} rows, {manifest['rows']} sequences were embedded"
        )
    failed = index.filter(pl.col("status") != "ok")
    if len(failed):
        raise damaged(
            path,
            f"{len(failed)} sequences were not embedded, first {failed['example_id'][0]!r} "
            f"({failed['status'][0]})",
        )
    rows = index["row"].to_numpy()
    ordered = bool((rows == np.arange(len(index))).all())
    if not ordered or order_hash(index["example_id"], index["seq_digest"]) != manifest["order"]:
        raise damaged(path, f"the rows of {INDEX} are in another order than was embedded")
