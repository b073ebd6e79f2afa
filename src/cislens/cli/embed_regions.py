"""`cislens embed --regions`: the regions of a store in its cell types."""

from pathlib import Path
from typing import Any

from cislens.files import file_digest, require_file


def embed_regions(
    model: Path, regions: Path, cells: list[str], out: Path, dry_run: bool
) -> dict[str, Any]:
    """Embed into `out`, or say how much that would be."""
    from cislens.motifs.store import RegionStore
    from cislens.representations.joint import load_joint, write_joint

    require_file(model, "run or model folder")
    folder = model / "model" if (model / "model" / "config.json").exists() else model
    store = RegionStore.open(regions)
    embedding = load_joint(folder, store, model.resolve().name)
    if dry_run:
        count = len(cells) or store.cells.height
        return {
            "regions": store.regions.height,
            "cells": cells or store.cells["cell_id"].to_list(),
            "dim": embedding.dim,
            "bytes": 4 * count * store.regions.height * embedding.dim,
        }
    made = write_joint(embedding, file_digest(folder / "model.safetensors"), cells, out)
    return {"embeddings": str(out), **{key: made[key] for key in ("cells", "regions", "dim")}}
