"""What a multi-modal model makes of a region in a cell type, and such vectors on disk.

Dimensions: N pair of a region and a cell type, L base pair, D channels.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

import cislens
from cislens.errors import CislensError, nearest
from cislens.files import (
    atomic_path,
    claimed,
    file_digest,
    read_json,
    read_parquet,
    write_atomic,
)
from cislens.genome.codes import one_hot
from cislens.models.genebert.contract import RegionContext
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.mixture import part_of_kind
from cislens.models.saving import load_model
from cislens.motifs.contexts import Neighborhoods
from cislens.motifs.store import RegionStore
from cislens.progress import track
from cislens.representations.contract import Features
from cislens.untrusted import inside, npy_array

FORMAT = "cislens cell embeddings"
_BATCH = 64

Ints = npt.NDArray[np.int64]


class JointEmbedding:
    """Vectors of (sequence, cell type) pairs; on the GPU where there is one.

    The first channels know the sequence alone, the others also what is open around it in the cell
    type. How open the region itself is there is hidden.

    Args:
        name: how progress calls it.

    Raises:
        CislensError: if the model was trained on other motifs or constants than the store's.
    """

    def __init__(self, model: MultimodalModel, store: RegionStore, name: str) -> None:
        store.require_same(model.config.constants, model.config.motifs)
        self.model = model
        self.store = store
        self.name = name
        self._around = Neighborhoods(store)

    @property
    def dim(self) -> int:
        """Channels of a vector."""
        return self.model.encoder.dim + self.model.regions.dim

    @torch.inference_mode()
    def embed(self, row_N: Ints, cell_N: Ints) -> Features:
        """Vectors (N, D) of rows of the store's regions in rows of its cell types."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self.model.to(device).eval()
        found: Features = np.empty((len(row_N), self.dim), np.float32)
        firsts = range(0, len(row_N), _BATCH)
        for first in track(firsts, f"embedding by {self.name}") if len(firsts) > 1 else firsts:
            here = slice(first, first + _BATCH)
            rows, cells = row_N[here], cell_N[here]
            around = self._around.around(rows, cells, model.config.context)
            context = RegionContext.from_numpy(self._around.context(around, cells)).to(device)
            x_B4L = torch.from_numpy(one_hot(self.store.central(rows))).to(device)
            found[here] = model.joint(x_B4L, context).float().cpu().numpy()
        return found


def load_joint(
    folder: str | os.PathLike[str], store: RegionStore, name: str = ""
) -> JointEmbedding:
    """The embedding by the model of a model folder.

    Raises:
        CislensError: as `load_model` and `JointEmbedding`, or if the model is of another kind.
    """
    loaded = load_model(folder)
    model = part_of_kind(loaded, MultimodalModel)
    if model is None:
        raise CislensError(
            f"{folder} holds a {type(loaded).__name__}; only multi-modal models know cell types."
        )
    return JointEmbedding(model, store, name or Path(folder).name)


def write_joint(
    embedding: JointEmbedding, weights: str, cells: Sequence[str], out: Path
) -> dict[str, Any]:
    """Embed every region in each of some cell types into a folder; what is there is kept.

    `cell-<row>.npy` is float32 (regions, D) in the order of `regions.parquet`; `manifest.json`,
    written last, says which cell type it is, and of what model and store.

    Args:
        weights: sha256 of the model's weights.
        cells: names; all of the store's for none.

    Raises:
        CislensError: for a cell type that the store does not have, or a folder of another model
            or store, or of something else.
    """
    store = embedding.store
    names = store.cells["cell_id"].to_list()
    for cell in cells:
        if cell not in names:
            raise CislensError(f"{store.path} has no cell type {cell!r}. {nearest(cell, names)}")
    made = {
        "format": FORMAT, "cislens": cislens.__version__, "weights": weights,
        "store": store.digest, "dim": embedding.dim, "regions": store.regions.height,
    }  # fmt: skip
    begun = out / "embedding.json"
    held = sorted(each.name for each in out.iterdir()) if out.is_dir() else []
    if held and not begun.exists() and held != ["lock"]:
        raise CislensError(f"{out} holds {held[0]!r} and no embeddings; choose another --out.")
    with claimed(out, "embedding into"):
        if begun.exists() and json.loads(begun.read_text()) != made:
            raise CislensError(
                f"{out} holds embeddings of another model or store; choose another --out."
            )
        write_atomic(begun, json.dumps(made))
        with atomic_path(out / "regions.parquet") as aside:
            columns = ["region_id", "chrom", "start", "end", "split"]
            store.regions.select(columns).write_parquet(aside)
        rows = np.arange(store.regions.height)
        asked = {cell: out / f"cell-{names.index(cell)}.npy" for cell in cells or names}
        for cell, path in asked.items():
            if path.exists():
                continue
            values = embedding.embed(rows, np.full(len(rows), names.index(cell)))
            with atomic_path(path) as aside, aside.open("wb") as file:
                np.save(file, values)
        known = {f"cell-{row}.npy": cell for row, cell in enumerate(names)}
        files = {path.name: file_digest(path) for path in sorted(out.glob("cell-*.npy"))}
        result = {**made, "cells": {known[name]: name for name in files}, "files": files}
        write_atomic(out / "manifest.json", json.dumps(result, indent=1))
    return result


def read_joint(folder: str | os.PathLike[str], cell: str) -> tuple[pl.DataFrame, Features]:
    """The regions and their vectors (N, D), memory-mapped, in a cell type.

    Raises:
        CislensError: if the folder was not finished or has no such cell type.
    """
    path = Path(folder) / "manifest.json"
    manifest = read_json(path, "manifest of the embeddings") if path.exists() else {}
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("cells"), dict):
        raise CislensError(f"{folder} holds no finished embeddings of cell types.")
    if cell not in manifest["cells"]:
        raise CislensError(
            f"{folder} has no cell type {cell!r}. {nearest(cell, manifest['cells'])}"
        )
    regions = read_parquet(path.with_name("regions.parquet"), "regions of the embeddings")
    vectors = npy_array(inside(path.parent, manifest["cells"][cell], path), "embeddings")
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != regions.height:
        raise CislensError(
            f"{folder} holds {vectors.dtype} {vectors.shape} for {cell!r}, expected numbers "
            f"({regions.height}, D); embed again."
        )
    return regions, vectors
