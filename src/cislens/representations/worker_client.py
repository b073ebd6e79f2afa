"""Embedding by a model that runs in another Python: starts the worker, checks, makes a store."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from cislens.engines import Worker
from cislens.errors import CislensError, nearest
from cislens.files import atomic_path, claimed, file_digest, require_file
from cislens.genome.codes import Codes, decode
from cislens.representations.chunks import Chunk, Values, write_store
from cislens.representations.contract import Kind
from cislens.representations.planning import StorePlan, check_examples, chunk_rows
from cislens.representations.store import (
    PRECISE,
    EmbeddingStore,
    order_hash,
    partial_folder,
    sequence_digest,
)
from cislens.representations.worker import CONTRACT
from cislens.untrusted import npz_arrays

WORKER = Path(__file__).with_name("worker.py")
_LOG_LINES = 5
_VIEW = "view:"
logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Runner:
    """Another Python and the adapter of a model that lives there.

    Attributes:
        python: the interpreter; it needs numpy, pyarrow and the model's libraries.
        adapter: the user's file; see `cislens.representations.worker`.
        argument: what its `load` is given, e.g. the folder of the weights.
        worker: the script that is run; cislens's own unless another follows its contract.
    """

    python: Path
    adapter: Path
    argument: str | None = None
    worker: Path = WORKER

    def request(self) -> dict[str, Any]:
        """What the manifest of a store says of it."""
        return {"adapter": file_digest(self.adapter), "argument": self.argument}


def run_worker(
    runner: Runner,
    sequences: Sequence[Codes],
    ids: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    species: str | None = None,
    stranded: bool = False,
    task: tuple[str, str] | None = None,
    dtype: str = PRECISE,
    restarts: int = 3,
    remapped: Mapping[str, int] | None = None,
) -> EmbeddingStore:
    """Embed sequences in another Python into a store. The same call again resumes.

    A worker that dies is started again, at most `restarts` times and only if it finished a chunk
    before it died. The views are those that the adapter gives; `species` is recorded only.

    Raises:
        CislensError: if the worker follows another contract, cannot embed an example, keeps dying,
            or gives rows that are missing, in another order or not finite.
    """
    check_examples(ids, sequences)
    path = Path(folder)
    require_file(runner.python, "interpreter")
    require_file(runner.adapter, "adapter")
    if path.exists():
        return _existing(path, runner, sequences, ids, species, stranded, dtype)
    desk = partial_folder(path) / "worker"
    with claimed(desk, "embedding into"):
        rows = chunk_rows(sequences)
        _write_input(desk / "input.parquet", sequences, ids)
        shutil.copyfile(runner.worker, desk / "cislens_worker.py")
        chunks = -(-len(sequences) // rows)
        encoder = _run_to_the_end(runner, desk, rows, not stranded, restarts, chunks)
        device = str(encoder.pop("device", "unknown"))
        read = _Chunks(desk / "chunks", ids, rows)
        plan = StorePlan(
            encoder, ids, sequences, species, stranded, views=read.views(), dtype=dtype,
            task=task, remapped=remapped or {}, device=device,
        )  # fmt: skip
        return write_store(path, plan, read.embedder, seconds=read.seconds)


class _Chunks:
    """What the worker wrote, chunk by chunk."""

    def __init__(self, folder: Path, ids: Sequence[str], rows: int) -> None:
        self.folder = folder
        self.ids = ids
        self.rows = rows

    def embedder(self, worker: Worker) -> Callable[[Chunk], Values]:
        return lambda chunk: self.values(chunk.first, chunk.first + len(chunk.sequences))

    def views(self) -> tuple[str, ...]:
        return tuple(self.values(0, min(self.rows, len(self.ids))))

    def values(self, first: int, last: int) -> Values:
        """The views of rows [first, last).

        Raises:
            CislensError: if they are missing or in another order.
        """
        data = self._read(first // self.rows)
        found, expected = data["ids"].tolist(), list(self.ids[first:last])
        if found != expected:
            missing = len(set(expected) - set(found))
            what = f"{missing} rows are missing" if missing else "the rows are in another order"
            raise self._refused(f"{what} in the chunk of rows from {first}")
        views = {key.removeprefix(_VIEW): data[key] for key in data if key.startswith(_VIEW)}
        if any(values.ndim != 2 or len(values) != len(expected) for values in views.values()):
            raise self._refused(f"features are missing in the chunk of rows from {first}")
        for view, values in views.items():
            bad = ~np.isfinite(values).all(axis=1)
            if bad.any():
                name = expected[int(bad.argmax())]
                raise self._refused(f"a value of {view} of example {name!r} is not finite")
        return views

    def seconds(self, first: int) -> float:
        """How long the worker took for the chunk of rows from `first`."""
        return float(self._read(first // self.rows)["seconds"])

    def _read(self, chunk: int) -> dict[str, Any]:
        try:
            return npz_arrays(self.folder / f"chunk-{chunk:06d}.npz", "chunk")
        except CislensError as error:
            raise self._refused(str(error)) from None

    def _refused(self, what: str) -> CislensError:
        return CislensError(
            f"the worker gave unusable rows: {what}; remove {self.folder.parent} and run it again."
        )


def _run_to_the_end(
    runner: Runner, desk: Path, rows: int, both: bool, restarts: int, chunks: int
) -> dict[str, Any]:
    """Start the worker until it says that it is done; what it says of its encoder."""
    command = [
        str(runner.python), str(desk / "cislens_worker.py"), "--adapter", str(runner.adapter),
        "--input", str(desk / "input.parquet"), "--out", str(desk / "chunks"),
        "--chunk-rows", str(rows),
    ]  # fmt: skip
    command += ["--both-strands"] if both else []
    command += [] if runner.argument is None else ["--argument", runner.argument]
    first: dict[str, Any] | None = None
    for left in reversed(range(restarts + 1)):
        before = _finished(desk)
        said = _run_once(command, desk / "log.txt")
        encoder = _greeting(said, runner, desk)
        if first is not None and encoder != first:
            raise CislensError(
                f"the worker of {runner.adapter} says it is another encoder after a restart: "
                f"{encoder['name']}, before {first['name']}; fix the adapter."
            )
        first = encoder
        if said[-1].get("event") == "done":
            return encoder
        after = _finished(desk)
        logger.warning("the worker died, %d of %d chunks are done", after, chunks)
        if after == before or not left:
            break
    raise CislensError(
        f"the worker of {runner.adapter} died with {after} of {chunks} chunks done, "
        f"{after - before} of them by its last run. {_log(desk)} The same command again resumes."
    )


def _run_once(command: list[str], log: Path) -> list[dict[str, Any]]:
    """All that one run of the worker says, objects of its JSON lines."""
    said = []
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(_parsed(line))
                if said[-1].get("event") == "chunk":
                    logger.info("the worker finished chunk %s", said[-1].get("chunk"))
        finally:
            process.kill()
            process.wait()
    return said or [{}]


def _parsed(line: str) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise CislensError(f"the worker said {line.strip()[:80]!r}, expected one JSON object.")
    return read


def _greeting(said: list[dict[str, Any]], runner: Runner, desk: Path) -> dict[str, Any]:
    """The encoder that the worker's first line names, as the manifest has it."""
    if said[-1].get("event") == "error":
        example = said[-1].get("example_id")
        what = f"cannot embed example {example!r}" if example is not None else "failed"
        raise CislensError(
            f"the worker of {runner.adapter} {what}: {said[-1].get('message')}. {_log(desk)}"
        )
    if said[0].get("event") != "hello":
        raise CislensError(f"the worker of {runner.adapter} did not start. {_log(desk)}")
    contract = said[0].get("contract")
    if contract != CONTRACT:
        raise CislensError(
            f"the worker follows the contract {contract!r}, this cislens speaks {CONTRACT!r}; use "
            "the worker script of this cislens."
        )
    info = said[0]["encoder"]
    if not isinstance(info, dict) or not info.get("name"):
        raise CislensError(f"the info of {runner.adapter} has no name; give it one.")
    encoder = {"kind": "trained", "parameters": 0, **info, **runner.request()}
    if encoder["kind"] not in get_args(Kind):
        raise CislensError(
            f"the info of {runner.adapter} has kind {encoder['kind']!r}. "
            f"{nearest(str(encoder['kind']), get_args(Kind))}"
        )
    encoder["worker_libraries"] = said[0].get("libraries", {})
    described = json.dumps(encoder, sort_keys=True)
    encoder.setdefault("digest", hashlib.sha256(described.encode()).hexdigest())
    return encoder


def _existing(
    path: Path,
    runner: Runner,
    sequences: Sequence[Codes],
    ids: Sequence[str],
    species: str | None,
    stranded: bool,
    dtype: str,
) -> EmbeddingStore:
    store = EmbeddingStore.open(path)
    asked = {
        **runner.request(), "species": species, "stranded": stranded, "stored": dtype,
        "order": order_hash(ids, [sequence_digest(codes) for codes in sequences]),
    }  # fmt: skip
    has = {**store.manifest["encoder"], **store.manifest, **store.manifest["dtype"]}
    if any(has.get(key) != value for key, value in asked.items()):
        raise CislensError(
            f"{path} holds embeddings by {store.manifest['encoder']['name']} of other sequences or "
            "settings; remove it or choose another folder."
        )
    logger.info("%s is already embedded", path)
    return store


def _write_input(path: Path, sequences: Sequence[Codes], ids: Sequence[str]) -> None:
    table = pl.DataFrame({"example_id": list(ids), "sequence": [decode(c) for c in sequences]})
    with atomic_path(path) as aside:
        table.write_parquet(aside)


def _finished(desk: Path) -> int:
    return len(list(desk.joinpath("chunks").glob("chunk-*.npz")))


def _log(desk: Path) -> str:
    log = desk / "log.txt"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"Its last words: {' | '.join(lines[-_LOG_LINES:])}." if lines else "It said nothing."
