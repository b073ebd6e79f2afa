"""Rows of stores on object storage, read by ranges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.remote import Remote
from cislens.signal.checks import RowChecks
from cislens.signal.shards import ArrayLayout, RowArray

# Neighboring rows are asked for together up to this size; more at the same time is faster.
_RANGE_BYTES = 8 << 20

Wanted = Sequence[int] | npt.NDArray[np.integer[Any]]


class RemoteRows(RowArray):
    """Rows of a sharded array beyond this machine, read by ranges at the same time."""

    def __init__(
        self, remote: Remote, name: str, layout: ArrayLayout, checks: RowChecks | None
    ) -> None:
        self.remote, self.name = remote, name
        super().__init__(remote.address / name, layout, checks)

    def _check_sizes(self) -> None:
        """The manifest's check compares them with what is there."""

    def gather(self, rows: Wanted) -> npt.NDArray[Any]:
        """As `RowArray.gather`; each row is read once."""
        if self.loaded:
            return super().gather(rows)
        wanted, places = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        return self._read(wanted)[places]

    def cut(
        self, rows: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], length: int
    ) -> npt.NDArray[Any]:
        """As `RowArray.cut`."""
        return (
            super().cut(rows, begins, length)
            if self.loaded
            else self.near(rows).cut(rows, begins, length)
        )

    def near(self, rows: npt.NDArray[np.int64]) -> RowArray:
        """The rows alone, in memory."""
        if self.loaded:
            return self
        wanted = np.unique(rows)
        return _Fetched(self.folder, self.layout, wanted, self._read(wanted))

    def _shard(self, shard: int) -> npt.NDArray[Any]:
        return self._read(np.arange(*self.layout.span(shard)))

    def _read(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Rows in rising order."""
        size, rows_a_range = self.layout.row_bytes, max(1, _RANGE_BYTES // self.layout.row_bytes)
        shard = wanted // self.layout.shard_rows
        breaks = (np.diff(wanted) != 1) | (np.diff(shard) != 0)
        runs = np.split(np.arange(wanted.size), np.flatnonzero(breaks) + 1) if wanted.size else []
        pieces = [
            run[i : i + rows_a_range] for run in runs for i in range(0, len(run), rows_a_range)
        ]
        firsts = [int(wanted[piece[0]]) for piece in pieces]
        starts = [first % self.layout.shard_rows * size for first in firsts]
        ends = [start + len(piece) * size for start, piece in zip(starts, pieces, strict=True)]
        names = [
            str(self.layout.shard_file(Path(self.name), first // self.layout.shard_rows))
            for first in firsts
        ]
        found = np.empty((wanted.size, *self.layout.row_shape), self.layout.dtype)
        for piece, data in zip(pieces, self.remote.ranges(names, starts, ends), strict=True):
            rows = np.frombuffer(data, np.dtype(self.layout.dtype).newbyteorder("<"))
            found[piece] = rows.reshape(len(piece), *self.layout.row_shape)
        self._require(wanted, found)
        return found


class _Fetched(RowArray):
    """Some rows of an array, in memory, under their own numbers."""

    def __init__(
        self, folder: Path, layout: ArrayLayout, rows: npt.NDArray[np.int64], data: Any
    ) -> None:
        super().__init__(folder, layout)
        self.rows, self._loaded = rows, data

    def _check_sizes(self) -> None:
        """There are no files."""

    def gather(self, rows: Wanted) -> npt.NDArray[Any]:
        return super().gather(np.searchsorted(self.rows, rows))

    def cut(
        self, rows: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], length: int
    ) -> npt.NDArray[Any]:
        return super().cut(np.searchsorted(self.rows, rows), begins, length)
