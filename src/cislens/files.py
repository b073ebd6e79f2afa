"""Files are written whole or not at all."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cislens.errors import CislensError, MissingFileError
from cislens.parquet_pages import check_pages

if TYPE_CHECKING:
    import polars as pl

_BLOCK = 1 << 20
_NO_ROOM = 1 << 16  # bytes

# What the system says of a write for which there is no room.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def require_file(path: str | os.PathLike[str], what: str) -> Path:
    """The path, if it is there; `what` names its role in the error.

    Raises:
        MissingFileError: if nothing is at `path`.
    """
    path = Path(path)
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name too long, or with a byte that no name has
        there = False
    if not there:
        raise MissingFileError(f"{what} {path} does not exist; check the path.")
    return path


def file_digest(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sync(path: str | os.PathLike[str]) -> None:
    """Flush a file's or a folder's entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_parquet(
    path: str | os.PathLike[str], what: str, columns: list[str] | None = None
) -> "pl.DataFrame":
    """A parquet table, or some of its columns; `what` names its role in the error.

    Raises:
        MissingFileError: if nothing is at `path`.
        CislensError: if it is damaged, or has not all of the columns.
    """
    import polars as pl

    path = require_file(path, what)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        check_pages(path, memory)
        # A column of one value is a few bytes however many rows it claims.
        table = pl.scan_parquet(path, glob=False)
        rows = table.select(pl.len()).collect().item()
        if rows * 8 * len(table.collect_schema()) > memory:
            raise CislensError(f"{what} {path} has {rows:,} rows, more than this machine holds.")
        return pl.read_parquet(path, columns=columns, glob=False)
    except CislensError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise CislensError(f"{what} {path} is no readable parquet file: {error}.") from None


def read_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """A JSON object; `what` names its role in the error.

    Raises:
        MissingFileError: if nothing is at `path`.
        CislensError: if it is damaged, or holds something else than an object.
    """
    path = require_file(path, what)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half a pair of surrogates is no text
    except (ValueError, OSError, RecursionError) as error:
        raise CislensError(f"{what} {path} is not JSON ({error}); restore the file.") from None
    if not isinstance(found, dict):
        raise CislensError(f"{what} {path} is no JSON object; restore the file.")
    return found


@contextmanager
def undamaged(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Around the reading of a folder that cislens wrote, by somebody who believes its manifest.

    Raises:
        CislensError: that `what` at `path` is damaged, in place of what a key that is missing or
            a value of another type comes out as.
    """
    import polars as pl

    try:
        yield
    except CislensError:
        raise
    except (
        LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
        OSError, pl.exceptions.PolarsError,
    ) as error:  # fmt: skip
        why = " ".join(str(error).split())
        raise CislensError(
            f"{what} {path} is damaged: its manifest or a table lacks something or holds something "
            f"else than was written ({type(error).__name__}: {why}); copy or make it again."
        ) from None


def _machine() -> str:
    """Tells machines apart that share a folder, where numbers of processes do not."""
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block succeeds.

    Works for a file and for a folder. If the block raises, what was written aside is removed
    and an earlier `path` is untouched.

    Raises:
        OSError: ENOSPC that names `path`, if the disk is full, whatever the library that wrote
            makes of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    by = f"{_machine()}.{os.getpid()}.{threading.get_ident()}"
    aside = path.with_name(f".{path.name}.{by}.partial")
    _remove(aside)  # of a process that was killed and had the same number
    try:
        yield aside
        for written in aside.rglob("*") if aside.is_dir() else ():
            sync(written)
        sync(aside)
        if aside.is_dir() and path.is_dir():
            shutil.rmtree(path)
        aside.replace(path)
        sync(path.parent)
    except Exception as error:
        if not isinstance(error, CislensError) and of_full_disk(error, path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        _remove(aside)


def of_full_disk(error: Exception, folder: Path) -> bool:
    """Whether a write into a folder failed for lack of room, whatever the library made of it.

    NumPy only says that less was written than asked.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    if any(f"os error {number}" in str(error) for number in FULL):
        return True
    return shutil.disk_usage(folder).free < _NO_ROOM


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def clear_partial(folder: Path) -> None:
    """Remove what processes that were killed left aside in a folder that is held (`claimed`)."""
    for stale in folder.glob(".*.*.*.partial"):
        _remove(stale)


def manifest_format(folder: str | os.PathLike[str]) -> str | None:
    """The `format` that the manifest of a folder names; None where there is no such manifest."""
    try:
        manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    return found if isinstance(found, str) else None


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write text (UTF-8) or bytes so that a reader sees the old content or the new, never half."""
    with atomic_path(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def claimed(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, against other processes.

    Raises:
        CislensError: if another process holds it; `doing` says what that one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Not through a link, which would make or empty a file elsewhere.
        held = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise CislensError(f"{folder / 'lock'} is a link; remove it.") from None
    with os.fdopen(held, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CislensError(
                f"another process is {doing} {folder}; wait for it or stop it."
            ) from None
        yield
