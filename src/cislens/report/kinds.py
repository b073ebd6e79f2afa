"""Which page a folder of results has, by what it holds."""

from collections.abc import Callable
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import manifest_format, read_json, read_parquet, require_file, write_atomic

_FORMATS = ("cislens predictions", "cislens-variants", "cislens attributions", "cislens importance")


def write_page(folder: Path, page: Path, *, umap: bool = False) -> None:
    """Write the page of a folder of results: of a bench, a run, or what another verb wrote.

    Args:
        umap: of a bench, maps of embeddings by UMAP beside PCA.

    Raises:
        MissingFileError: if there is no such folder.
        CislensError: if it holds no results, or a file in it is damaged.
    """
    text = _renderer(require_file(folder, "folder of results"), umap)(folder)
    write_atomic(page, text)


def _renderer(folder: Path, umap: bool) -> Callable[[Path], str]:
    if (folder / "metrics.parquet").exists():
        from cislens.report.run import render_run

        return render_run
    if (folder / "evaluation.json").exists():
        return _evaluation
    found = manifest_format(folder)
    if found == _FORMATS[0]:
        from cislens.report.predictions import render_predictions

        return render_predictions
    if found == _FORMATS[1]:
        from cislens.report.variants import render_variants

        return render_variants
    if found in _FORMATS[2:]:
        from cislens.report.attributions import render_attributions

        return render_attributions
    if (folder / "verdicts.parquet").exists() or (folder / "recipe.yaml").exists():
        return lambda path: _bench(path, umap)
    if (folder / "bench" / "verdicts.parquet").exists():
        return lambda path: _bench(path / "bench", umap)
    raise CislensError(
        f"{folder} holds no results that have a page; expected a folder of cislens bench, train, "
        "demo, evaluate, predict, variants or attribute. An audit writes its own: cislens audit "
        "... --out PAGE."
    )


def _bench(folder: Path, umap: bool) -> str:
    from cislens.report.collect import collect
    from cislens.report.page import render

    return render(collect(folder, umap=umap))


def _evaluation(folder: Path) -> str:
    said = read_json(folder / "evaluation.json", "evaluation")
    differences = read_parquet(folder / "differences.parquet", "table of the evaluation")
    if (folder / "cells.parquet").exists():
        from cislens.evaluation.cells.run import CellEvaluation
        from cislens.report.cells import render_cells

        scores = read_parquet(folder / "cells.parquet", "table of the evaluation")
        return render_cells(CellEvaluation(scores, differences, said["facts"], said["notes"]))
    from cislens.evaluation.profiles.run import Evaluation
    from cislens.report.profiles import render_profiles

    scores = read_parquet(folder / "profiles.parquet", "table of the evaluation")
    return render_profiles(Evaluation(scores, differences, said["facts"], said["notes"]))
