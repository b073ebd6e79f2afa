"""A checksum of every row of an array, so that a damaged row is noticed before it is used.

`<array>.crc32c` beside an array's folder holds the CRC-32C of each row's bytes (the polynomial of
zarr's and Basenji's checksums), uint32, little-endian, in row order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.files import write_atomic

SUFFIX = ".crc32c"
_NAMED = 3  # damaged rows, in an error


class Known(TypedDict):
    """What a manifest says of a file."""

    bytes: int
    sha256: str


class Written(Known):
    """What is known of a shard that was written: of its file, and of each of its rows."""

    crc32c: list[int]


Rows = Sequence[npt.NDArray[Any]] | npt.NDArray[Any]


def row_checksums(rows: Rows) -> list[int]:
    """CRC-32C of the bytes of each row, which are contiguous."""
    import google_crc32c

    return [google_crc32c.value(row) for row in rows]


@dataclass(frozen=True)
class RowChecks:
    """What the rows of an array must be.

    Attributes:
        crc32c: of each row.
        named: what a row is called in an error, e.g. its window.
    """

    crc32c: npt.NDArray[np.uint32]
    named: Callable[[int], str]

    def damaged(self, index: npt.NDArray[np.int64], rows: Rows) -> list[int]:
        """Those of `index` whose bytes in `rows` are not what was written."""
        differ = np.array(row_checksums(rows), np.uint32) != self.crc32c[index]
        return [int(row) for row in index[differ]]

    def require(self, array: Path, index: npt.NDArray[np.int64], rows: Rows) -> None:
        """Refuse damaged rows.

        Raises:
            CislensError: naming the array and the first of them.
        """
        if found := self.damaged(index, rows):
            raise CislensError(
                f"{array} is damaged: the checksum of {self.names(found)} is not the one that was "
                "written. Copy or build the store again; `cislens data verify` finds every "
                "damaged file."
            )

    def names(self, rows: list[int]) -> str:
        """The rows as an error names them, the first few of many."""
        first = ", ".join(self.named(row) for row in rows[:_NAMED])
        return first if len(rows) <= _NAMED else f"{first} and {len(rows) - _NAMED} more"


def checks_file(array: Path) -> Path:
    """Where the checksums of an array's rows are."""
    return array.with_name(f"{array.name}{SUFFIX}")


def read_checks(array: Path, rows: int, named: Callable[[int], str]) -> RowChecks | None:
    """The checksums of an array; None for one that was built before there were any.

    Raises:
        CislensError: if there are more or fewer than rows.
    """
    file = checks_file(array)
    if not file.exists():
        return None
    found = np.fromfile(file, "<u4")
    if found.size != rows:
        raise CislensError(
            f"{file} has {found.size:,} checksums, its array {rows:,} rows; copy or build the "
            "store again."
        )
    return RowChecks(found, named)


def write_checks(store: Path, written: Mapping[str, Written]) -> dict[str, Known]:
    """Write the checksums of all arrays of a store; returns what the manifest says of shards.

    Args:
        written: shard file, relative to the store, -> what is known of it.
    """
    arrays: dict[str, dict[int, list[int]]] = {}
    for file, entry in written.items():
        array, chunk = file.split("/c/")
        arrays.setdefault(array, {})[int(chunk.split("/")[0])] = entry["crc32c"]
    for array, shards in arrays.items():
        rows = [checksum for shard in sorted(shards) for checksum in shards[shard]]
        write_atomic(checks_file(store / array), np.array(rows, "<u4").tobytes())
    return {
        file: {"bytes": entry["bytes"], "sha256": entry["sha256"]}
        for file, entry in written.items()
    }
