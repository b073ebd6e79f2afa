"""Stored embeddings as annotated tables: a row for each sequence, or region in a cell type.

Legend: n sequences, D channels.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from cislens.errors import CislensError
from cislens.files import read_json, undamaged
from cislens.representations.h5ad import Annotated, Block, Matrix
from cislens.representations.joint import read_joint
from cislens.representations.store import EmbeddingStore

_PLACE = re.compile(r"^(.+):(\d+)-(\d+)(?::([+-]))?$")
_SUFFIX = r":(alt|\d+)$"  # of alternate alleles, and of sequences in parts
_BLOCK = 8192  # rows that are held at once, as many as a chunk of a store has


def embedded_sequences(store: EmbeddingStore, about: pl.DataFrame | None = None) -> Annotated:
    """X is the default view (n, D), every other view lies in obsm as `X_<view>`.

    Args:
        about: `example_id` and what else is known of the examples of the task that was embedded;
            alternate alleles (`<id>:alt`) and parts (`<id>:1`) have what their example has.

    Raises:
        CislensError: when it is written, if the stored bytes are not those that were written.
    """
    manifest, default = store.manifest, store.views[-1]
    obs = store.index.select("example_id", pl.col("bp_len").alias("length"), "n_frac")
    if about is None:
        obs = obs.with_columns(_places(obs["example_id"]))
    else:
        obs = obs.with_columns(example=pl.col("example_id").str.replace(_SUFFIX, ""))
        known = pl.col("example_id").is_in(about["example_id"].to_list())
        obs = obs.with_columns(example=pl.when(known).then("example_id").otherwise("example"))
        names = about.rename({"example_id": "example"})
        obs = obs.join(names, on="example", how="left", maintain_order="left")
    encoder, task = manifest["encoder"], manifest["task"] or {}
    return Annotated(
        obs,
        _channels(manifest["views"][default]),
        _view(store, default),
        {},
        {f"X_{view}": _view(store, view) for view in store.views[:-1]},
        {},
        {
            "view": default, "embeddings": store.digest, "encoder": encoder["name"],
            "encoder_digest": encoder["digest"], "species": manifest["species"],
            "stranded": manifest["stranded"], "task": task.get("name"),
            "task_hash": task.get("hash"),
        },
    )  # fmt: skip


def embedded_cells(folder: Path) -> Annotated:
    """A row for each region in each cell type, `region|cell`; cell type by cell type.

    Raises:
        CislensError: as `read_joint`.
    """
    with undamaged("embeddings of cell types", folder):
        return _pairs(folder)


def _pairs(folder: Path) -> Annotated:
    manifest = read_json(folder / "manifest.json", "manifest of the embeddings")
    cells, dim = list(manifest["cells"]), int(manifest["dim"])
    tables = []
    for cell in cells:
        regions, values = read_joint(folder, cell)
        if values.shape[1] != dim:
            raise CislensError(f"{folder} holds {values.shape[1]} channels for {cell!r}, not {dim}")
        name = pl.format("{}|{}", "region_id", pl.lit(cell)).alias("name")
        tables.append(regions.select(name, "region_id", pl.lit(cell).alias("cell"), *_SPAN))

    def blocks() -> Iterator[Block]:
        for cell in cells:
            _, values = read_joint(folder, cell)
            for first in range(0, len(values), _BLOCK):
                yield values[first : first + _BLOCK]

    uns = {"weights": manifest["weights"], "store": manifest["store"]}
    return Annotated(pl.concat(tables), _channels(dim), Matrix(dim, blocks), {}, {}, {}, uns)


_SPAN = ("chrom", "start", "end", "split")


def _view(store: EmbeddingStore, view: str) -> Matrix:
    return Matrix(store.manifest["views"][view], lambda: store.blocks(view, _BLOCK))


def _channels(count: int) -> pl.DataFrame:
    return pl.DataFrame({"channel": [f"channel_{at}" for at in range(count)]})


def _places(ids: pl.Series) -> list[pl.Series]:
    """`chrom, start, end, strand` where all names are intervals (0-based half-open)."""
    found = [_PLACE.match(name) for name in ids]
    if not all(found):
        return []
    parts = [match.groups() for match in found if match]
    chroms, starts, ends, strands = zip(*parts, strict=True) if parts else ((), (), (), ())
    return [
        pl.Series("chrom", chroms, dtype=pl.String),
        pl.Series("start", [int(value) for value in starts], dtype=pl.Int64),
        pl.Series("end", [int(value) for value in ends], dtype=pl.Int64),
        pl.Series("strand", [value or "." for value in strands], dtype=pl.String),
    ]
