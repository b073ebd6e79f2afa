"""`cislens export`: what cislens wrote as a file that other tools read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cislens.cli.options import AsJson, answer
from cislens.errors import CislensError
from cislens.files import manifest_format, require_file

if TYPE_CHECKING:
    from cislens.representations.h5ad import Annotated as Table

_H5AD = ".h5ad"
_PARQUET = ".parquet"
_CELLS, _TRACKS = "cislens cell embeddings", "cislens predictions"
_VARIANTS, _REGIONS = "cislens-variants", "cislens region store"


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Embeddings, cell embeddings, predicted tracks, a region store or an evaluation "
            "of one (h5ad); scored variants (parquet)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: NAME.h5ad or NAME.parquet.")],
    task: Annotated[
        Path | None,
        typer.Option("--task", help="Of embeddings: the task, for labels and coordinates."),
    ] = None,
    regions: Annotated[
        Path | None, typer.Option("--regions", help="Of predicted tracks: BED to average over.")
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option("--score", help="Of variants: this score alone; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write results as a file for other tools.

    Embeddings and predictions as h5ad for scanpy and its kin, variants as a table of features.
    """
    kind = _kind(require_file(folder, "folder"))
    _require_option("--task", task, kind, "embeddings")
    _require_option("--regions", regions, kind, _TRACKS)
    _require_option("--score", score, kind, _VARIANTS)
    ending = _PARQUET if kind == _VARIANTS else _H5AD
    if out.suffix != ending:
        raise CislensError(f"--out {out}: {folder} is exported as a file that ends in {ending}.")
    if kind == _VARIANTS:
        from cislens.effects.variants.features import write_features

        found = write_features(folder, out, score or ())
        answer({"file": str(out), **found, "features": len(found["features"])}, as_json)
        return
    from cislens.representations.h5ad import write_h5ad

    table = _table(kind, folder, task, regions)
    write_h5ad(table, out)
    answer(_shape(out, table), as_json)


def _shape(out: Path, table: "Table") -> dict[str, Any]:
    found = {"file": str(out), "observations": table.obs.height, "variables": table.var.height}
    more = {"layers": list(table.layers), "obsm": list(table.obsm)}
    return {**found, **{name: names for name, names in more.items() if names}}


def _kind(folder: Path) -> str:
    """What wrote the folder.

    Raises:
        CislensError: if it is nothing that can be exported.
    """
    named = manifest_format(folder)
    if named in (_CELLS, _TRACKS, _VARIANTS, _REGIONS):
        return str(named)
    if (folder / "evaluation.json").exists() and (folder / "cells.parquet").exists():
        return "evaluation"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if isinstance(manifest, dict) and "contract" in manifest:
        return "embeddings"
    raise CislensError(
        f"{folder} holds nothing that can be exported: give what `cislens embed`, `predict`, "
        "`variants`, `data regions`, or `evaluate` on a region store, left when it was finished."
    )


def _require_option(name: str, value: object, kind: str, wanted: str) -> None:
    if value and kind != wanted:
        raise CislensError(f"{name} means nothing here; see `cislens export --help`.")


def _table(kind: str, folder: Path, task: Path | None, regions: Path | None) -> "Table":
    if kind == "embeddings":
        return _embeddings(folder, task)
    if kind == _CELLS:
        from cislens.representations.observations import embedded_cells

        return embedded_cells(folder)
    if kind == _TRACKS:
        from cislens.effects.track_cells import predicted_regions

        if regions is None:
            raise CislensError("predicted tracks are averaged over regions: give --regions BED.")
        return predicted_regions(folder, regions)
    from cislens.evaluation.cells.export import judged_cells, measured_cells
    from cislens.motifs.store import RegionStore

    return measured_cells(RegionStore.open(folder)) if kind == _REGIONS else judged_cells(folder)


def _embeddings(folder: Path, task: Path | None) -> "Table":
    from cislens.representations.observations import embedded_sequences
    from cislens.representations.store import EmbeddingStore

    store = EmbeddingStore.open(folder)
    if task is None:
        return embedded_sequences(store)
    from cislens.evaluation.tasks.observations import example_columns
    from cislens.evaluation.tasks.task import Task

    about = Task.load(task)
    store.require_task(about.card.name, about.task_hash)
    return embedded_sequences(store, example_columns(about))
