"""Arrays of rows on disk: zarr v3, one row a chunk, uncompressed, many rows a shard.

zarr writes the metadata and any zarr v3 reader can read the arrays. The shards themselves are
written and read here: uncompressed chunks in row order make a shard's head a plain array, so
that a batch is gathered from a memory map without a call per chunk. docs/formats.md has the
bytes and the measurement behind leaving compression out.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.files import atomic_path
from cislens.signal.checks import RowChecks, Rows, Written, row_checksums

_ABSENT = np.iinfo(np.uint64).max
_INDEX_ENTRY = 16
_CHECKSUM = 4


@dataclass(frozen=True)
class ArrayLayout:
    """An array of `rows` rows of `row_shape`, `shard_rows` rows to a shard."""

    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    shard_rows: int

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)

    def span(self, shard: int) -> tuple[int, int]:
        """First row of a shard and the row after its last."""
        return shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows)

    def shard_bytes(self, shard: int) -> int:
        """Size of a shard's file: its rows, an index entry for each possible row, a checksum."""
        first, last = self.span(shard)
        return (last - first) * self.row_bytes + self.shard_rows * _INDEX_ENTRY + _CHECKSUM

    @property
    def total_bytes(self) -> int:
        """Size of all shard files."""
        return sum(self.shard_bytes(shard) for shard in range(self.shards))

    def shard_file(self, folder: Path, shard: int) -> Path:
        return folder.joinpath("c", str(shard), *("0" for _ in self.row_shape))


def create_array(folder: Path, layout: ArrayLayout) -> None:
    """Write the array's zarr metadata; its shards follow by `write_shard`."""
    import zarr

    zarr.create_array(
        folder,
        shape=(layout.rows, *layout.row_shape),
        dtype=layout.dtype,
        chunks=(1, *layout.row_shape),
        shards=(layout.shard_rows, *layout.row_shape),
        compressors=None,
        filters=None,
        fill_value=0,
    )


def write_shard(folder: Path, layout: ArrayLayout, shard: int, rows: npt.NDArray[Any]) -> Written:
    """Write one whole shard, synced to disk before its name appears; returns its digests."""
    import google_crc32c

    first, last = layout.span(shard)
    assert rows.shape == (last - first, *layout.row_shape), "a shard is written whole"
    data = np.ascontiguousarray(rows, dtype=np.dtype(layout.dtype).newbyteorder("<"))
    index = np.full((layout.shard_rows, 2), _ABSENT, dtype="<u8")
    index[: len(data), 0] = np.arange(len(data), dtype=np.uint64) * np.uint64(layout.row_bytes)
    index[: len(data), 1] = layout.row_bytes
    entries = index.tobytes()
    tail = entries + int(google_crc32c.value(entries)).to_bytes(_CHECKSUM, "little")
    digest = hashlib.sha256(data.data.cast("B"))
    digest.update(tail)
    with atomic_path(layout.shard_file(folder, shard)) as aside, aside.open("wb") as handle:
        handle.write(data.data.cast("B"))
        handle.write(tail)
    size = layout.shard_bytes(shard)
    return {"bytes": size, "sha256": digest.hexdigest(), "crc32c": row_checksums(data)}


_MEMORY = -1  # stands for the loaded rows where others name a shard


class RowArray:
    """Rows of a sharded array, from memory maps or, after `load`, from memory.

    With `checks`, rows that leave a file are compared with their checksums.

    Raises:
        CislensError: if a shard is absent or its size is not what the layout says; by every
            reading method, if a row that it reads is damaged.
    """

    def __init__(self, folder: Path, layout: ArrayLayout, checks: RowChecks | None = None) -> None:
        self.folder = folder
        self.layout = layout
        self.checks = checks
        self._shards: dict[int, npt.NDArray[Any]] = {}
        self._loaded: npt.NDArray[Any] | None = None
        self._views: dict[int, npt.NDArray[Any]] = {}
        self._check_sizes()

    def _check_sizes(self) -> None:
        for shard in range(self.layout.shards):
            file = self.layout.shard_file(self.folder, shard)
            _check_size(file, self.layout.shard_bytes(shard))

    def near(self, rows: npt.NDArray[np.int64]) -> "RowArray":
        """What gives these rows piece by piece without waiting for each: of files, the array."""
        return self

    @property
    def loaded(self) -> bool:
        """Whether rows come from memory."""
        return self._loaded is not None

    def load(self) -> None:
        """Read every row into memory; later reads come from there."""
        if self._loaded is None:
            self._loaded = np.empty((self.layout.rows, *self.layout.row_shape), self.layout.dtype)
            for shard in range(self.layout.shards):
                first, last = self.layout.span(shard)
                self._loaded[first:last] = self._shard(shard)
                self._require(np.arange(first, last), self._loaded[first:last])
            self._shards.clear()
            self._views.clear()

    def gather(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
        """Rows (n, *row_shape) in the order asked for, copied."""
        index = np.asarray(rows, dtype=np.int64)
        if self._loaded is not None:
            return self._loaded[index]
        found = np.empty((index.size, *self.layout.row_shape), self.layout.dtype)
        for shard, here, local in self._by_shard(index):
            found[here] = self._shard(shard)[local]
        self._require(index, found)
        return found

    def damaged(self) -> str:
        """Names of the rows that are not what was written, after reading all of them."""
        if self.checks is None:
            return ""
        found: list[int] = []
        for shard in range(self.layout.shards):
            found += self.checks.damaged(np.arange(*self.layout.span(shard)), self._shard(shard))
        return self.checks.names(found)

    def cut(
        self, rows: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], length: int
    ) -> npt.NDArray[Any]:
        """Of one-dimensional rows, `length` values each from its `begins` on, copied once."""
        if self._loaded is not None:
            return self._windows(_MEMORY, self._loaded, length)[rows, begins]
        found = np.empty((rows.size, length), self.layout.dtype)
        for shard, here, local in self._by_shard(rows):
            data = self._shard(shard)
            if self.checks is not None:
                self._require(rows[here], [data[row] for row in local])
            windows = self._windows(shard, data, length)
            found[here] = windows[local, begins[here]]
        return found

    def _require(self, index: npt.NDArray[np.int64], rows: Rows) -> None:
        if self.checks is not None:
            self.checks.require(self.folder, index, rows)

    def _by_shard(
        self, index: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Each shard that holds some of the rows, their places in `index`, rows within it."""
        shards = index // self.layout.shard_rows
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            yield shard, here, index[here] - shard * self.layout.shard_rows

    def _windows(self, source: int, rows: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        """Every stretch of `length` values as a view; making it costs more than using it."""
        known = self._views.get(source)
        if known is None or known.shape[2] != length:
            known = np.lib.stride_tricks.sliding_window_view(rows, length, axis=1)
            self._views[source] = known
        return known

    def _shard(self, shard: int) -> npt.NDArray[Any]:
        if shard not in self._shards:
            first, last = self.layout.span(shard)
            self._shards[shard] = np.memmap(
                self.layout.shard_file(self.folder, shard),
                dtype=np.dtype(self.layout.dtype).newbyteorder("<"),
                mode="r",
                shape=(last - first, *self.layout.row_shape),
            ).view(np.ndarray)
        return self._shards[shard]


def _check_size(path: Path, expected: int) -> None:
    found = path.stat().st_size if path.exists() else 0
    if found != expected:
        raise CislensError(
            f"{path} has {found:,} bytes, expected {expected:,}: the store is truncated or "
            "damaged; copy or build it again."
        )
