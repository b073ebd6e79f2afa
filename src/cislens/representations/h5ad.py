"""Tables with annotated rows and columns as AnnData's h5ad files, which scanpy and others read.

The tables are written block by block, so that a file may be larger than memory. The same input
and the same version of anndata give the same bytes. Needs the extra `scverse`.

Legend: n observations (rows), D variables (columns).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens import __version__
from cislens.errors import CislensError
from cislens.extras import extra
from cislens.files import atomic_path

Block = npt.NDArray[Any]


@dataclass(frozen=True)
class Matrix:
    """A dense table that is made when it is written.

    Attributes:
        columns: D.
        blocks: gives (rows, D) arrays, together all n rows in order.
    """

    columns: int
    blocks: Callable[[], Iterator[Block]]


# scipy's compressed rows are written as they are.
Table = Matrix | Any


@dataclass(frozen=True)
class Annotated:
    """What a file will hold.

    Attributes:
        obs, var: a row per row, and per column, of X; the first column has their names, which
            must differ.
        x: the table itself.
        layers: further tables (n, D) by name.
        obsm: further tables of the same rows by name.
        varm: further tables of the columns by name, (D, any).
        uns: what else is said of all; text, numbers, and mappings of them.
    """

    obs: pl.DataFrame
    var: pl.DataFrame
    x: Table
    layers: Mapping[str, Table]
    obsm: Mapping[str, Table]
    varm: Mapping[str, Table]
    uns: Mapping[str, Any]


def write_h5ad(data: Annotated, out: str | os.PathLike[str]) -> None:
    """Write an h5ad file, whole or not at all.

    Raises:
        CislensError: if two rows or two columns have one name, the tables do not fit them, or
            the extra `scverse` is missing.
    """
    anndata, h5py = extra("anndata", "scverse"), extra("h5py", "scverse")
    obs, var = _frame(data.obs, "rows"), _frame(data.var, "columns")
    uns = {"cislens": __version__, **_plain(data.uns)}
    with atomic_path(out) as aside:
        anndata.AnnData(obs=obs, var=var, uns=uns).write_h5ad(aside)
        with h5py.File(aside, "r+") as file:
            if "X" in file:
                del file["X"]
            _write(anndata, file, "X", data.x, len(obs), len(var))
            for group, tables in (("layers", data.layers), ("obsm", data.obsm)):
                for name, table in tables.items():
                    columns = len(var) if group == "layers" else None
                    _write(anndata, file[group], name, table, len(obs), columns)
            for name, table in data.varm.items():
                _write(anndata, file["varm"], name, table, len(var), None)


def _write(anndata: Any, group: Any, name: str, table: Table, n: int, columns: int | None) -> None:
    if not isinstance(table, Matrix):
        _require(name, table.shape, (n, columns or table.shape[1]))
        anndata.io.write_elem(group, name, table)
        return
    _require(name, (n, table.columns), (n, columns or table.columns))
    made, first = None, 0
    for block in table.blocks():
        if made is None:
            made = group.create_dataset(name, shape=(n, table.columns), dtype=block.dtype)
        _require(name, (first + len(block), block.shape[1]), (None, table.columns))
        made[first : first + len(block)] = block
        first += len(block)
    _require(name, (first, table.columns), (n, table.columns))
    if made is None:
        made = group.create_dataset(name, shape=(n, table.columns), dtype=np.float32)
    # What AnnData's own writer says of a dense table.
    made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"


def _require(name: str, found: tuple[int, int], wanted: tuple[int | None, int]) -> None:
    if any(b is not None and a != b for a, b in zip(found, wanted, strict=True)):
        raise CislensError(f"the table {name!r} has the shape {found}, expected is {wanted}.")


def _frame(table: pl.DataFrame, what: str) -> Any:
    """A pandas frame; its index is the first column. Text that is missing becomes empty."""
    pandas = extra("pandas", "scverse")
    names, *columns = table.get_columns()
    repeated = names.filter(names.is_duplicated())
    if len(repeated):
        raise CislensError(f"two {what} are called {repeated[0]!r}; names must differ.")
    # In the files `/` separates a group from what is in it.
    found = {column.name.replace("/", "_"): _values(column) for column in columns}
    return pandas.DataFrame(found, index=pandas.Index(names.cast(pl.String).to_list(), dtype=str))


def _values(column: pl.Series) -> Any:
    if column.dtype == pl.String:
        return column.fill_null("").to_list()
    return column.to_numpy()


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None, which such files cannot hold."""
    return {
        key.replace("/", "_"): _plain(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
