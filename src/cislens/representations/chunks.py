"""Writing an embedding store: in chunks, resumable, the same bytes after any interruption.

The store grows in `<folder>.partial/store`. When all arrays of a chunk of sequences are on disk a
marker in `<folder>.partial/done` says so. The last step writes the manifest and renames the store.
Legend: n sequences, N bins, D channels.
"""

import errno
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.engines import HERE, Engine, Worker
from cislens.errors import CislensError
from cislens.files import atomic_path, claimed, file_digest, read_json, sync, write_atomic
from cislens.genome.codes import Codes, N
from cislens.nn.cores import same_bits
from cislens.representations.contract import Features
from cislens.representations.planning import StorePlan
from cislens.representations.store import (
    INDEX,
    LEDGER,
    MANIFEST,
    EmbeddingStore,
    partial_folder,
)

# Features (n, D) by view; under the name of a layer its bins (n, N, D).
Values = dict[str, Features]
# Sequences of a chunk in, values out; made once for each worker.
Embedder = Callable[[Worker], Callable[["Chunk"], Values]]
logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Chunk:
    """A unit of an engine: the chunk of this number, its first row, and its sequences."""

    number: int
    first: int
    sequences: Sequence[Codes]


@dataclass(frozen=True)
class Chunks:
    """The job of an engine: chunks of an embedding store.

    Attributes:
        partial: folder in which the store grows.
        embedder: what gives the values.
        encoder: its name.
        arrays: where in the store each view lies, see `StorePlan.arrays`.
        rows: sequences of the store.
        by: sequences of a chunk.
        seconds: what the chunk from this row cost, if that is not the time the embedder takes.
    """

    partial: Path
    embedder: Embedder
    encoder: str
    arrays: dict[str, str]
    dtype: str
    rows: int
    by: int
    seconds: Callable[[int], float] | None = None

    def __call__(self, worker: Worker) -> Callable[[Chunk], None]:
        """As `engines.Job`."""
        embed = self.embedder(worker)

        def write(chunk: Chunk) -> None:
            began = time.perf_counter()
            with same_bits():
                values = embed(chunk)
            took = time.perf_counter() - began
            self._keep(chunk, values, self.seconds(chunk.first) if self.seconds else took)

        return write

    def _keep(self, chunk: Chunk, values: Values, took: float) -> None:
        count, files = len(chunk.sequences), {}
        for name, array in self.arrays.items():
            given = np.asarray(values.get(name, ()))
            dims = 3 if array.startswith("tokens/") else 2
            if given.ndim != dims or len(given) != count:
                raise CislensError(
                    f"{self.encoder} gave {given.shape} for {name!r} of {count} sequences, "
                    f"expected {dims} dimensions and a row for each."
                )
            each = given.shape[1] if dims == 3 else 1
            flat = given.reshape(-1, given.shape[-1])
            stored = self._stored(flat, f"{name} of rows from {chunk.first}")
            files.update(self._write(array, stored, chunk.number, each))
        marker = _marker(self.partial, chunk.number)
        write_atomic(marker, json.dumps({"files": files, "seconds": took}))

    def _stored(self, values: Features, what: str) -> npt.NDArray[Any]:
        with np.errstate(over="ignore"):
            stored = values.astype(self.dtype)
        if not np.isfinite(stored).all():
            why = f"lie beyond {self.dtype}" if np.isfinite(values).all() else "are not finite"
            raise CislensError(f"{self.encoder}: values of {what} {why}; nothing is kept of it.")
        return stored

    def _write(
        self, array: str, rows: npt.NDArray[Any], number: int, each: int
    ) -> dict[str, dict[str, Any]]:
        """Write one chunk, `each` rows a sequence, of an array that zarr has laid out."""
        store = self.partial / "store"
        shape = (self.rows * each, rows.shape[1])
        by = (self.by * each, rows.shape[1])
        if not (store / array).exists():
            _create(store / array, shape, by, self.dtype)
        if json.loads((store / array / "zarr.json").read_text())["shape"] != list(shape):
            raise CislensError(
                f"{self.encoder} gave {array} another width in chunk {number} than before."
            )
        whole = np.full(by, np.nan, self.dtype)  # what the last chunk lacks reads as NaN
        whole[: len(rows)] = rows
        name = f"{array}/c/{number}/0"
        write_atomic(store / name, whole.astype(whole.dtype.newbyteorder("<")).tobytes())
        return {name: {"bytes": whole.nbytes, "sha256": file_digest(store / name)}}


def write_store(
    folder: Path,
    plan: StorePlan,
    embedder: Embedder,
    engine: Engine = HERE,
    seconds: Callable[[int], float] | None = None,
) -> EmbeddingStore:
    """Write what an embedder gives for each chunk of rows; resumes.

    Args:
        engine: who embeds; the bytes do not depend on it, but for the times in the ledger.
        seconds: as for `Chunks`.

    Raises:
        CislensError: for values of another shape than planned, that are not finite or do not fit
            the stored type, a store of something else at `folder`, or a full disk.
    """
    if folder.exists():
        return _existing(folder, plan)
    partial = partial_folder(folder)
    with claimed(partial, "embedding into"):
        try:
            _prepare(partial, plan)
            job = Chunks(
                partial.absolute(), embedder, str(plan.encoder["name"]), plan.arrays, plan.dtype,
                len(plan.sequences), plan.chunk_rows, seconds,
            )  # fmt: skip
            units = [
                Chunk(number, first, plan.sequences[first:last])
                for number, (first, last) in enumerate(plan.chunks)
                if not _marker(partial, number).exists()
            ]
            engine.run(job, units, f"embedding by {job.encoder}")
            _finish(partial, plan)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise CislensError(
                f"no space is left for {folder}; make room and run the same command again, it "
                f"resumes from {partial}."
            ) from error
        (partial / "store").rename(folder)
        sync(folder.parent)
        shutil.rmtree(partial)
    return EmbeddingStore.open(folder)


def chunks_done(folder: Path) -> int:
    """Chunks that an unfinished run for a store at this folder has left, whatever its settings."""
    return len(list(partial_folder(folder).glob("done/*.json")))


def _existing(folder: Path, plan: StorePlan) -> EmbeddingStore:
    store = EmbeddingStore.open(folder)
    if store.manifest["plan"] != plan.digest:
        theirs = store.manifest["encoder"]["name"]
        raise CislensError(
            f"{folder} holds embeddings by {theirs} of other sequences or settings; remove it or "
            "choose another folder."
        )
    logger.info("%s is already embedded", folder)
    shutil.rmtree(partial_folder(folder), ignore_errors=True)
    return store


def _prepare(partial: Path, plan: StorePlan) -> None:
    """Keep what an earlier run of this plan left, or start anew."""
    state, done = partial / "plan.json", partial / "done"
    if state.exists():
        if read_json(state, "plan of the embeddings").get("digest") == plan.digest:
            for stale in partial.joinpath("store").rglob(".*.partial"):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            for chunk in range(len(plan.chunks)):
                _forget_damaged(partial, chunk)
            kept = len(list(done.glob("*.json")))
            logger.info("resuming %s: %d of %d chunks are done", partial, kept, len(plan.chunks))
            return
        logger.warning("%s was left by other sequences or settings; starting anew", partial)
    for name in ("done", "store"):
        shutil.rmtree(partial / name, ignore_errors=True)
        (partial / name).mkdir()
    write_atomic(state, json.dumps({"digest": plan.digest}))


def _forget_damaged(partial: Path, chunk: int) -> None:
    """A chunk whose bytes are not what its marker says is embedded again."""
    marker = _marker(partial, chunk)
    if not marker.exists():
        return
    for name, about in read_json(marker, "marker of a chunk")["files"].items():
        file = partial / "store" / name
        if not file.exists() or file_digest(file) != about["sha256"]:
            logger.warning("%s is damaged; its chunk is embedded again", file)
            marker.unlink()
            return


def _marker(partial: Path, chunk: int) -> Path:
    return partial / "done" / f"{chunk}.json"


def _create(path: Path, shape: tuple[int, ...], by: tuple[int, ...], dtype: str) -> None:
    """Lay an array out, unless another worker was faster: its chunks may be there already."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as beside:
        aside = Path(beside) / path.name
        zarr.create_array(
            aside, shape=shape, chunks=by, dtype=dtype, compressors=None, filters=None,
            fill_value=np.nan,
        )  # fmt: skip
        for written in (*aside.rglob("*"), aside):
            sync(written)
        try:
            aside.rename(path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
    sync(path.parent)


def _finish(partial: Path, plan: StorePlan) -> None:
    """Write index, ledger and manifest: the store is whole when the manifest exists."""
    store = partial / "store"
    files: dict[str, dict[str, Any]] = {}
    seconds = 0.0
    for chunk in range(len(plan.chunks)):
        marker = read_json(_marker(partial, chunk), "marker of a chunk")
        files.update(marker["files"])
        seconds += marker["seconds"]
    tokens = _write_spans(store, plan)
    with atomic_path(store / INDEX) as aside:
        _index(plan).write_parquet(aside)
    for file in sorted(store.rglob("*")):
        name = str(file.relative_to(store))
        if file.is_file() and name not in files and name not in (LEDGER, MANIFEST):
            files[name] = {"bytes": file.stat().st_size, "sha256": file_digest(file)}
    bases = sum(len(codes) for codes in plan.sequences)
    ledger = {"wall_s": seconds, "bp": bases, "bp_per_s": bases / max(seconds, 1e-9)}
    write_atomic(store / LEDGER, json.dumps(ledger) + "\n")
    manifest = {
        **plan.manifest(),
        "views": {view: _width(store / plan.arrays[view]) for view in plan.views},
        "tokens": tokens,
        "plan": plan.digest,
        "files": dict(sorted(files.items())),
    }
    write_atomic(store / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _index(plan: StorePlan) -> pl.DataFrame:
    length = [len(codes) for codes in plan.sequences]
    return pl.DataFrame(
        {
            "example_id": list(plan.ids),
            "row": pl.Series(range(len(length)), dtype=pl.Int64),
            "seq_digest": plan.digests,
            "bp_len": pl.Series(length, dtype=pl.Int64),
            "n_frac": [_share_of_n(codes) for codes in plan.sequences],
            "status": ["ok"] * len(length),
        }
    )


def _share_of_n(codes: Codes) -> float:
    return float((codes == N).mean()) if len(codes) else 0.0


def _write_spans(store: Path, plan: StorePlan) -> dict[str, Any]:
    """Where the bins of the stored layer lie, beside them; what the manifest says of them."""
    import zarr

    if plan.bins is None:
        return {}
    layer, size = plan.bins
    count = len(plan.sequences)
    flat = json.loads((store / plan.arrays[layer] / "zarr.json").read_text())["shape"]
    bins, length = flat[0] // count, len(plan.sequences[0])
    start = np.arange(bins) * size
    span = np.stack([start, np.minimum(start + size, length)], axis=1)
    called = np.zeros((count, bins * size), dtype=bool)
    called[:, :length] = np.stack(plan.sequences) != N
    beside = {
        "offsets": np.arange(count + 1) * bins,
        "span": np.tile(span, (count, 1)),
        "valid": called.reshape(count * bins, size).any(axis=1),
    }
    folder = store / f"tokens/{layer}.zarr"
    if not (folder / "zarr.json").exists():
        zarr.create_group(folder)
    for name, values in beside.items():
        with atomic_path(folder / name) as aside:
            zarr.create_array(aside, data=values, chunks=values.shape, compressors=None)
    return {layer: {"bins": bins, "dim": flat[1], "bin_size": size}}


def _width(array: Path) -> int:
    width: int = json.loads((array / "zarr.json").read_text())["shape"][1]
    return width
