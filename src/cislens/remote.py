"""Folders beyond this machine: object storage (`s3://...`) and what else fsspec can address.

An object is put there whole and appears whole; there are no locks and nothing can be renamed. So
what is written there is the same bytes whoever writes it, and what says that all is there is
written last.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PosixPath
from typing import Any

from cislens.errors import CislensError, MissingFileError
from cislens.files import of_full_disk

# pathlib keeps one of the slashes.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])")


class Address(PosixPath):
    """A path that starts with a protocol; written with both its slashes."""

    def __str__(self) -> str:
        return _SCHEME.sub(r"\1://", super().__str__(), count=1)

    def __fspath__(self) -> str:
        return str(self)

    def absolute(self) -> "Address":
        return self

    def resolve(self, strict: bool = False) -> "Address":
        return self


def place(path: str | os.PathLike[str]) -> Path:
    """The path; an `Address` if it is none of this machine. `file://` is of this machine."""
    text = os.fspath(path)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(text)
    return Path("/", text[scheme.end() :]) if scheme[1] == "file" else Address(text)


def local(path: str | os.PathLike[str], what: str) -> Path:
    """The path, of this machine.

    Raises:
        CislensError: if it is an address; `what` is what cannot be there.
    """
    found = place(path)
    if isinstance(found, Address):
        raise CislensError(
            f"{found}: {what} is kept in a folder of this machine, not at an address; name a "
            "folder. Only profile stores can be anywhere."
        )
    return found


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this machine for what is on its way to an address, or from there.

    Raises:
        CislensError: if what is written within the block finds no room.
    """
    place = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory(prefix="cislens-") as folder:
            yield Path(folder)
    except Exception as error:
        if isinstance(error, CislensError) or not of_full_disk(error, place):
            raise
        raise CislensError(
            f"no space is left in {place}, where shards and tables lie on their way to or from an "
            "address; let TMPDIR name a folder with more room and run the same command again."
        ) from error


class Remote:
    """The objects under an address; names are relative to it. Can be sent to other processes.

    Credentials and the endpoint are those of the environment, as the protocol's own tools read
    them (for S3: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL...). What fails for a moment is
    tried again by the file system.

    Raises:
        CislensError: by every method, in one line: no credentials, no such bucket, no connection.
    """

    def __init__(self, address: Address) -> None:
        self.address = address

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address,)

    def read(self, name: str) -> bytes:
        """One object.

        Raises:
            MissingFileError: if it is not there.
        """
        with self._told("read", name):
            found: bytes = self._files.cat_file(self._at(name))
        return found

    def ranges(self, names: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[Any]:
        """Bytes [start, end) of objects, asked for at the same time.

        Raises:
            CislensError: also if an object is shorter than that.
        """
        with self._told("read", names[0] if names else ""):
            found: list[Any] = self._files.cat_ranges(
                [self._at(name) for name in names], list(starts), list(ends)
            )
            for data in found:
                if isinstance(data, BaseException):  # as which fsspec gives what went wrong
                    raise data
        for name, data, start, end in zip(names, found, starts, ends, strict=True):
            if len(data) != end - start:
                raise CislensError(
                    f"{self.address / name} is truncated: it gave {len(data):,} of {end - start:,} "
                    f"bytes from {start:,} on; copy or build the store again."
                )
        return found

    def write(self, name: str, data: bytes) -> None:
        """Put one object."""
        with self._told("write", name):
            self._files.pipe_file(self._at(name), data)

    def upload(self, file: Path, name: str) -> None:
        """Put a file's content."""
        with self._told("write", name):
            self._files.put_file(str(file), self._at(name))

    def sizes(self, under: str = "") -> dict[str, int]:
        """Bytes of every object by its name, as they are now."""
        with self._told("list", under):
            self._files.invalidate_cache()
            found = self._files.find(self._at(under), detail=True)
        first = len(self._root) + 1
        return {at[first:]: int(entry["size"]) for at, entry in found.items()}

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects."""
        with self._told("remove", names[0] if names else ""):
            if names:
                self._files.rm([self._at(name) for name in names])

    @cached_property
    def _files(self) -> Any:
        import fsspec

        with self._told("reach", ""):
            try:
                return fsspec.filesystem(str(self.address).split("://")[0])
            except ImportError as error:
                raise CislensError(
                    f"{self.address}: {error}; `pip install 'cislens[scale]'` brings s3://."
                ) from None

    @cached_property
    def _root(self) -> str:
        return str(self._files._strip_protocol(str(self.address))).rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _told(self, verb: str, name: str) -> Iterator[None]:
        """Every library of a protocol has errors of its own."""
        where = self.address / name if name else self.address
        try:
            yield
        except CislensError:
            raise
        except FileNotFoundError as error:
            raise MissingFileError(
                f"cannot {verb} {where}: there is no such object or bucket ({error})."
            ) from None
        except Exception as error:
            raise CislensError(
                f"cannot {verb} {where}: {type(error).__name__}: {error}. Check the address, the "
                "credentials of the environment and the network."
            ) from error
