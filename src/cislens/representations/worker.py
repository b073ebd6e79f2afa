"""cislens_worker: embeds sequences with a model that cannot live in cislens's own Python.

This file stands alone. It runs under any Python from 3.8 on that has numpy, pyarrow and the
model's own libraries, and imports nothing of cislens:

    python cislens_worker.py --adapter my_model.py --input x.parquet --out folder

The adapter is the user's file. It has `load(argument)`, which gives an object with

    info    a dict: `name`; where known `parameters`, `revision`, `digest` (of the weights) and
            `batch`, how many sequences `encode` is given at once (32)
    encode  list of n sequences -> array (n, D), or a dict of such arrays by view, the default last

The input has the columns `example_id` and `sequence`. What the worker says on its standard output
is one JSON object a line: first `hello` with the contract and the adapter's info, then `chunk` for
each finished file of rows, at the end `done`, or `error` with the example that failed. Whatever the
model prints goes to standard error. Each chunk is written whole or not at all, and a later run with
the same input, adapter and argument leaves out the chunks that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

CONTRACT = "cislens-worker/1"
_OTHER_STRAND = str.maketrans("ACGT", "TGCA")
_DEFAULT_BATCH = 32


class ExampleError(Exception):
    """An example that the model could not embed."""

    def __init__(self, example: str, why: str) -> None:
        super().__init__(why)
        self.example = example
        self.why = why


class Speaker:
    """One JSON object a line on what was standard output; prints of the model go elsewhere."""

    def __init__(self) -> None:
        self._lines = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, event: str, **facts: Any) -> None:
        self._lines.write(json.dumps({"event": event, **facts}) + "\n")
        self._lines.flush()


def main() -> int:
    options = parse()
    speaker = Speaker()
    try:
        model = load_adapter(options.adapter).load(options.argument)
        speaker.say(
            "hello",
            contract=CONTRACT,
            encoder=dict(model.info),
            libraries={"python": platform.python_version(), "numpy": np.__version__},
        )
        embed_all(options, model, speaker)
    except ExampleError as failed:
        speaker.say("error", example_id=failed.example, message=failed.why)
        return 1
    except Exception as error:
        traceback.print_exc()
        speaker.say("error", example_id=None, message=describe(error))
        return 1
    speaker.say("done")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cislens_worker", description=__doc__.split("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--argument", default=None)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chunk-rows", type=int, default=256)
    parser.add_argument("--both-strands", action="store_true")
    return parser.parse_args()


def load_adapter(path: Path) -> Any:
    """The user's file as a module; files beside it can be imported by it."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("cislens_adapter", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def embed_all(options: argparse.Namespace, model: Any, speaker: Speaker) -> None:
    """Write every chunk that is not there yet."""
    claim(options, dict(model.info))
    table = importlib.import_module("pyarrow.parquet").read_table(options.input)
    ids, sequences = (table[name].to_pylist() for name in ("example_id", "sequence"))
    step = options.chunk_rows
    for chunk, first in enumerate(range(0, len(ids), step)):
        path = options.out / f"chunk-{chunk:06d}.npz"
        if not path.exists():
            some = slice(first, first + step)
            began = time.perf_counter()
            views = embed(model, ids[some], sequences[some], options.both_strands)
            seconds = np.float64(time.perf_counter() - began)
            write_chunk(path, {"ids": np.array(ids[some]), "seconds": seconds}, views)
        speaker.say("chunk", chunk=chunk, rows=len(ids[first : first + step]))


def claim(options: argparse.Namespace, info: dict[str, Any]) -> None:
    """Remove the chunks of another input, adapter, argument or model."""
    key = hashlib.sha256(options.input.read_bytes())
    key.update(options.adapter.read_bytes())
    asked = [options.argument, options.chunk_rows, options.both_strands, info]
    key.update(json.dumps(asked, sort_keys=True).encode())
    options.out.mkdir(parents=True, exist_ok=True)
    state = options.out / "state"
    if not state.exists() or state.read_text() != key.hexdigest():
        for stale in options.out.glob("chunk-*.npz"):
            stale.unlink()
        state.write_text(key.hexdigest())
    for stale in options.out.glob("*.partial"):
        stale.unlink()


def embed(
    model: Any, ids: list[str], sequences: list[str], both_strands: bool
) -> dict[str, np.ndarray]:
    """Views (n, D) of sequences, batch by batch; the mean of both strands if that is asked."""
    batch = int(model.info.get("batch", _DEFAULT_BATCH))
    parts: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(ids), batch):
        some = slice(first, first + batch)
        found = encode(model, ids[some], sequences[some])
        if both_strands:
            other = encode(model, ids[some], [flip(each) for each in sequences[some]])
            found = {view: (found[view] + other[view]) / np.float32(2) for view in found}
        for view, values in found.items():
            parts.setdefault(view, []).append(values)
    return {view: np.concatenate(values) for view, values in parts.items()}


def encode(model: Any, ids: list[str], sequences: list[str]) -> dict[str, np.ndarray]:
    """One call of the model, checked; if it fails, the examples are tried one by one."""
    try:
        return checked(model.encode(sequences), ids)
    except ExampleError:
        raise
    except Exception as error:
        for i in range(len(ids)):
            try:
                checked(model.encode(sequences[i : i + 1]), ids[i : i + 1])
            except ExampleError:
                raise
            except Exception as alone:
                traceback.print_exc()
                raise ExampleError(ids[i], describe(alone)) from None
        traceback.print_exc()
        together = f"{describe(error)} (with {len(ids)} sequences at once; alone each passes)"
        raise ExampleError(ids[0], together) from None


def checked(given: Any, ids: list[str]) -> dict[str, np.ndarray]:
    views = given if isinstance(given, dict) else {"features": given}
    found = {}
    for view, values in views.items():
        array = np.asarray(values, dtype=np.float32)
        if array.ndim != 2 or len(array) != len(ids):
            raise ValueError(f"encode gave {array.shape} for {len(ids)} sequences, expected (n, D)")
        bad = ~np.isfinite(array).all(axis=1)
        if bad.any():
            raise ExampleError(ids[int(bad.argmax())], f"a value of {view} is not finite")
        found[str(view)] = array
    return found


def write_chunk(path: Path, about: dict[str, Any], views: dict[str, np.ndarray]) -> None:
    """Write aside, to the disk, then rename."""
    aside = path.with_suffix(".partial")
    named: dict[str, Any] = {f"view:{view}": values for view, values in views.items()}
    with aside.open("wb") as handle:
        np.savez(handle, **about, **named)
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)


def flip(sequence: str) -> str:
    """The other strand, 5' to 3'; N stays N."""
    return sequence.upper().translate(_OTHER_STRAND)[::-1]


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
