"""What files of others claim, checked before it is believed: names, sizes, kinds of arrays.

A model, a task, a store or a recipe may come from anyone. Nothing in it is run, no name in it
leads out of its folder, and nothing is allocated because a header says so.
"""

import gzip
import json
import math
import os
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.files import require_file

_BLOCK = 1 << 20
# A table of text that is read whole has at most this many bytes when it is unpacked.
MOST_TEXT = 1 << 32
# Deflate makes a byte of at most this many.
_MOST_DEFLATED = 1032
# Codecs of zarr that neither unpack nor run anything.
_PLAIN_CODECS = {"bytes", "crc32c", "sharding_indexed"}


def inner_name(name: object, source: str | os.PathLike[str]) -> str:
    """The relative name that a file gives of another one in its own folder.

    Args:
        source: the file that holds the name.

    Raises:
        CislensError: naming `source` and the name, if it leads out of the folder.
    """
    text = str(name)
    parts = PurePosixPath(text).parts
    if (
        not isinstance(name, str)
        or not parts
        or ".." in parts
        or text.startswith("/")
        or not text.isprintable()
    ):
        raise CislensError(
            f"{source} names {name!r}, expected the name of a file in its folder; do not use it."
        )
    return text


def inside(folder: Path, name: object, source: str | os.PathLike[str]) -> Path:
    """The path of what a file calls `name`, which must lie in `folder`.

    Links are followed, so a link that leads out of the folder is refused as `..` is; the folder
    itself may be a link.

    Raises:
        CislensError: as `inner_name`.
    """
    text = inner_name(name, source)
    path = folder / text
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CislensError(
            f"{source} names {text!r}, a link that leads out of {folder}; put "
            "the file itself there."
        )
    return path


def plain_bytes(path: Path, what: str = "text") -> bytes:
    """The bytes of a file, unpacked if it is gzip.

    Raises:
        CislensError: if it is damaged, or has more than 4 GiB when it is unpacked.
    """
    found: list[bytes] = []
    size = 0
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            handle: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            while block := handle.read(_BLOCK):
                size += len(block)
                if size > MOST_TEXT:
                    raise CislensError(
                        f"{path} has more than {MOST_TEXT:,} bytes of {what}, which are read at "
                        "once; divide the file."
                    )
                found.append(block)
        except (EOFError, OSError, zlib.error) as error:
            if not packed:
                raise
            raise CislensError(f"{path} is truncated or damaged gzip: {error}.") from None
    return b"".join(found)


def npz_arrays(
    path: str | os.PathLike[str], what: str, advice: str = "get it again"
) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file in numpy's npz format, none of Python objects.

    Args:
        advice: what to do about a damaged one.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is damaged, holds something else, or says that it holds more than it
            can.
    """
    path = require_file(path, what)
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_entry(archive, entry, path)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _DAMAGED as error:
        raise CislensError(
            f"{what} {path} is damaged, or no .npz file of numbers ({error}); {advice}."
        ) from None


def npy_array(path: str | os.PathLike[str], what: str) -> npt.NDArray[Any]:
    """An array of a file in numpy's npy format, memory-mapped.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: if it is damaged, has another size than its header says, or holds Python
            objects.
    """
    path = require_file(path, what)
    try:
        with path.open("rb") as handle:
            _check_header(handle, path.name, path.stat().st_size)
        found: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except _DAMAGED as error:
        raise CislensError(
            f"{what} {path} is damaged, or no .npy file of numbers ({error}); get it again."
        ) from None
    return found


# What damage to an archive of arrays comes out as, besides KeyError for an array that it lacks.
_DAMAGED = (
    OSError, ValueError, KeyError, EOFError, AttributeError, OverflowError, RuntimeError,
    SyntaxError, TypeError, UserWarning, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """That the entry can be as large as it says, and its array is as large as the entry."""
    if entry.file_size > _MOST_DEFLATED * (entry.compress_size + 1) or entry.file_size > memory():
        raise ValueError(f"{entry.filename!r} would have {entry.file_size:,} bytes")
    with archive.open(entry) as handle:
        _check_header(handle, entry.filename, entry.file_size)


def _check_header(handle: Any, name: str, size: int) -> None:
    """That an array in numpy's format has as many bytes as its header says."""
    version = np.lib.format.read_magic(handle)
    read: Any = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a header that Python 2 wrote
        shape, _, dtype = read(handle)
    expected = handle.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or expected != size:
        raise ValueError(
            f"{name!r} is {dtype} {shape}, which needs {expected:,} bytes, and has {size:,}"
        )


def zarr_array(folder: Path, shape: Sequence[int], dtype: str) -> Any:
    """An uncompressed zarr v3 array of a known shape and type, none of its values read.

    Raises:
        CislensError: if it is of another shape, type or kind, or its files are too small for it.
    """
    import zarr

    path = require_file(folder / "zarr.json", "array")
    try:
        stored = json.loads(path.read_bytes())
        codecs = set(_codecs(stored["codecs"]))
        found = (stored["zarr_format"], stored["node_type"], stored["shape"], stored["data_type"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CislensError(f"{path} is not the metadata of an array ({error!r}).") from None
    if found != (3, "array", list(shape), dtype) or not codecs <= _PLAIN_CODECS:
        raise CislensError(
            f"{folder} is {found[3]} {found[2]} by {', '.join(sorted(codecs))}, expected {dtype} "
            f"{list(shape)}, not compressed; copy or write it again."
        )
    there = sum(file.stat().st_size for file in (folder / "c").rglob("*") if file.is_file())
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if there < needed:
        raise CislensError(
            f"{folder} is truncated: its chunks have {there:,} bytes, expected at least "
            f"{needed:,}; copy or write it again."
        )
    return zarr.open_array(folder, mode="r", zarr_format=3)


def _codecs(listed: Any) -> list[str]:
    """Names of codecs, also of those within shards."""
    names = []
    for codec in listed:
        names.append(str(codec["name"]))
        inner = codec.get("configuration") or {}
        names += _codecs([*inner.get("codecs", ()), *inner.get("index_codecs", ())])
    return names


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
