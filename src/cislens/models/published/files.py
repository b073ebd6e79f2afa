"""Files of tensors as they are published: safetensors, whole or in shards, and torch files."""

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cislens.errors import CislensError, MissingFileError
from cislens.files import file_digest, require_file
from cislens.untrusted import inner_name

SAFETENSORS = ".safetensors"
TORCH = (".bin", ".pt", ".pth", ".ckpt")
_INDEX = "model.safetensors.index.json"
_TORCH_INDEX = "pytorch_model.bin.index.json"
# Names under which training programs nest the weights.
_NESTED = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under their published names, and where they came from.

    Attributes:
        path: the file or folder that was named.
        files: the files that were read.
        sha256: of the file's bytes; of several files, of their digests one after the other.
    """

    path: Path
    files: tuple[Path, ...]
    sha256: str
    tensors: dict[str, Tensor]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """All tensors of a file, or of the one model in a folder. No code in them is run.

    Raises:
        MissingFileError: if there is nothing to read.
        CislensError: if a file is damaged, or holds other things than tensors.
    """
    path = require_file(path, "checkpoint")
    files = _files(path)
    tensors: dict[str, Tensor] = {}
    for file in files:
        for key, value in _read(file).items():
            if key in tensors:
                raise CislensError(f"{file} holds {key}, which another file of {path} holds too.")
            tensors[key] = value
    digests = [file_digest(file) for file in files]
    whole = digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return Checkpoint(path, files, whole, tensors)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], suffix: str = SAFETENSORS) -> None:
    """Write a file of the kind of `suffix`. One tensor may stand under several names."""
    if suffix in TORCH:
        torch.save(dict(tensors), path)
        return
    # safetensors keeps no two names for one place in memory.
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for key, value in tensors.items():
        apart[key] = value.clone() if value.data_ptr() in seen else value.contiguous()
        seen.add(value.data_ptr())
    save_file(apart, path, metadata={"format": "pt"})


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        if path.suffix not in (SAFETENSORS, *TORCH):
            raise CislensError(
                f"{path} is no file of tensors by its name; give a folder, or a file that ends in "
                f"{SAFETENSORS} or {', '.join(TORCH)}."
            )
        return (path,)
    if (path / _INDEX).is_file():
        return _shards(path, _INDEX)
    found = sorted(path.glob(f"*{SAFETENSORS}"))
    # A position table beside the weights is no part of them.
    found = [file for file in found if file.name != "gamma_table.safetensors"]
    if not found and (path / _TORCH_INDEX).is_file():
        return _shards(path, _TORCH_INDEX)
    found = found or sorted(file for kind in TORCH for file in path.glob(f"*{kind}"))
    named = [file for file in found if file.stem in ("model", "pytorch_model")]
    if not found:
        raise MissingFileError(f"{path} holds no model.safetensors or pytorch_model.bin.")
    if len(found) > 1 and len(named) != 1:
        names = ", ".join(file.name for file in found[:5])
        raise CislensError(f"{path} holds several files of weights ({names}); name one of them.")
    return (named[0],) if named else (found[0],)


def _shards(path: Path, index_name: str) -> tuple[Path, ...]:
    index = path / index_name
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = tuple(path / inner_name(name, index) for name in sorted(names))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, CislensError):
            raise
        raise CislensError(f"{index} is damaged ({error!r}); restore the folder.") from None
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"{path} lacks {file.name}, which {index_name} names.")
    return files


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == SAFETENSORS:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CislensError(f"{path} is not a whole safetensors file ({error}).") from None
    _require_unpacked(path)
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CislensError(
            f"{path} is no torch file of plain tensors, or is cut short{_why(error)}; it is not "
            "read, since code in it would run. Save its state dict alone, where you trust it."
        ) from None
    except Exception as error:
        # Bytes that are cut short fail at whatever step they end in. An error that names a file
        # is of the file system, such as a missing permission.
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise CislensError(
            f"{path} is not a whole torch file{_why(error)}; get it again."
        ) from None
    return _state_dict(stored, path)


def _require_unpacked(path: Path) -> None:
    """Torch packs nothing: what is packed may be far larger than it looks."""
    if not zipfile.is_zipfile(path):
        return
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:  # torch says why
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CislensError(
                    f"{path} is no torch file of plain tensors: {entry.filename!r} in it is "
                    "compressed; it is not read."
                )


def _why(error: Exception) -> str:
    """The first line of what went wrong, in parentheses; nothing for an error without text."""
    # What torch says before this is advice to run the code in the file.
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    line = text.split("\n")[0].split(" was not an allowed")[0][:200]
    return f" ({line})" if line else ""


def _state_dict(stored: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(stored, dict):
        nested = [stored[name] for name in _NESTED if isinstance(stored.get(name), dict)]
        state = nested[0] if nested else stored
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return {str(key): value for key, value in state.items()}
    raise CislensError(f"{path} holds no state dict, that is tensors by name.")
