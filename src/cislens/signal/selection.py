"""Parts of a profile store: some of its tracks, some of its windows.

Dimensions: N row of the part, T track of the part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.signal.query import chosen_tracks, matching_rows
from cislens.signal.shards import ArrayLayout, RowArray
from cislens.signal.tracks import TrackTable

Index = npt.NDArray[np.int64]

# What is read of the whole at once while a part is loaded.
_PIECE_BYTES = 1 << 26


class ArrayPart:
    """Some rows of an array, in their order, and of each row all columns or some.

    Only these rows are read. A row is read whole and its columns cut out of it, as they lie
    beside each other in every bin.
    """

    def __init__(
        self, whole: "RowArray | ArrayPart", rows_N: Index, columns_T: Index | None = None
    ) -> None:
        *others, columns = whole.layout.row_shape
        self.whole = whole
        self.layout: ArrayLayout = replace(
            whole.layout,
            rows=rows_N.size,
            row_shape=(*others, columns if columns_T is None else columns_T.size),
        )
        self._rows_N = rows_N
        self._columns_T = columns_T
        self._loaded: npt.NDArray[Any] | None = None

    @property
    def loaded(self) -> bool:
        """Whether rows come from memory."""
        return self._loaded is not None

    def load(self) -> None:
        """Read the part's rows into memory; later reads come from there."""
        if self._loaded is not None:
            return
        found = np.empty((self.layout.rows, *self.layout.row_shape), self.layout.dtype)
        step = max(1, _PIECE_BYTES // self.whole.layout.row_bytes)
        for first in range(0, self.layout.rows, step):
            here = np.arange(first, min(first + step, self.layout.rows))
            found[here] = self.gather(here)
        self._loaded = found

    def gather(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
        """Rows (n, *row_shape) of the part in the order asked for, copied."""
        index = np.asarray(rows, dtype=np.int64)
        if self._loaded is not None:
            return self._loaded[index]
        found = self.whole.gather(self._rows_N[index])
        if self._columns_T is None:
            return found
        return np.take(found, self._columns_T, axis=-1, mode="clip")

    def near(self, rows: Index) -> "ArrayPart":
        """As `RowArray.near`."""
        if self._loaded is not None:
            return self
        return ArrayPart(self.whole.near(self._rows_N[rows]), self._rows_N, self._columns_T)

    def cut(self, rows: Index, begins: Index, length: int) -> npt.NDArray[Any]:
        """Of one-dimensional rows, `length` values each from its `begins` on."""
        assert self._columns_T is None, "rows of which all columns are there"
        if self._loaded is None:
            return self.whole.cut(self._rows_N[rows], begins, length)
        windows = np.lib.stride_tricks.sliding_window_view(self._loaded, length, axis=1)
        found: npt.NDArray[Any] = windows[rows, begins]
        return found


def whole_of(array: RowArray | ArrayPart) -> RowArray:
    """The array that some rows are of."""
    return whole_of(array.whole) if isinstance(array, ArrayPart) else array


def tracks_of(
    tables: Mapping[str, TrackTable], tracks: str | Sequence[str], store: Path
) -> dict[str, Index]:
    """Positions in its table of every species' chosen tracks, in table order.

    Species of which no track is chosen are left out.

    Args:
        tracks: a query (`cislens.signal.query`), or ids.

    Raises:
        CislensError: for a query that cannot be read or that no track matches, an id that no
            species has, or a track without the other strand that the store has of it.
    """
    frame = pl.concat([table.frame for table in tables.values()])
    if isinstance(tracks, str):
        chosen = matching_rows(frame, tracks)
    else:
        require_known(tracks, frame["id"].to_list(), "track", store)
        chosen = np.flatnonzero(frame["id"].is_in(list(tracks)).to_numpy())
    found, first = {}, 0
    for name, table in tables.items():
        here = chosen[(chosen >= first) & (chosen < first + len(table))] - first
        first += len(table)
        if here.size:
            _require_both_strands(table, here, store)
            found[name] = here
    return found


def rows_on(windows: pl.DataFrame, chroms: Sequence[str]) -> Index:
    """Rows of the windows that lie on some chromosomes."""
    return np.flatnonzero(windows["chrom"].is_in(list(chroms)).to_numpy())


def require_known(asked: Sequence[str], known: Sequence[str], what: str, store: Path) -> None:
    """Refuse names that a store does not have, and none at all.

    Raises:
        CislensError: naming the first, and those that are near.
    """
    if not asked:
        raise CislensError(f"profile store {store}: no {what} is asked for; name one.")
    for name in asked:
        if name not in known:
            raise CislensError(
                f"profile store {store} has no {what} {name!r}. {nearest(name, known)}"
            )


def _require_both_strands(table: TrackTable, chosen: Index, store: Path) -> None:
    """A window that is read from the other side needs its tracks from there."""
    before, after = table.rows(), chosen_tracks(table, chosen).rows()
    for place, track in zip(chosen, after, strict=True):
        pair = before[place].strand_pair
        if pair != track.strand_pair:
            raise CislensError(
                f"profile store {store}: track {track.id!r} is asked for without its other "
                f"strand {pair!r}, which takes its place where a window is reverse complemented; "
                "ask for both or none."
            )
