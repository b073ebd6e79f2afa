"""Scores of variants as a table of features, a row per variant in the order of the input.

The layout is that of TraitGym's `features/*.parquet` (Benegas et al. 2025): numbers alone, no
coordinates, row by row the variants of the table that was scored; a table of one number has one
column, `score`. What could not be scored has null, so that rows stay where they are.

Dimensions: n variant, T track.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from cislens.effects.variants.measures import DISTANCES, LLR, names_by_track
from cislens.errors import CislensError, nearest
from cislens.files import atomic_path, read_json, require_file, undamaged

SCORE = "score"
_PLACE = ("source_row", "allele")


def write_features(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], scores: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the scores of a variants folder as features.

    Args:
        scores: names of scores; all that the folder has unless given. A score of tracks gives a
            column per track: its id, or `SCORE.ID` where there are several scores.

    Returns:
        `rows`, `missing` (rows without scores) and `features`, the names of the columns.

    Raises:
        CislensError: if the folder is not finished, has no such score, or was asked for
            variants near some genes alone, so that rows of the input are not in it.
    """
    folder = Path(folder)
    with undamaged("folder of variants", folder):
        return _written(folder, Path(out), scores)


def _written(folder: Path, out: Path, scores: Sequence[str]) -> dict[str, Any]:
    summary = read_json(
        require_file(folder / "summary.json", "summary of the scored variants"), "summary"
    )
    if summary["elsewhere"]:
        raise CislensError(
            f"{folder} leaves out {summary['elsewhere']} variants that are not near the genes "
            "asked for; score without --gene, so that every row of the input has its place."
        )
    table = pl.scan_parquet(folder / "variants.parquet", glob=False)
    wanted = _wanted(folder, table.collect_schema().names(), scores)
    tracks = _track_ids(folder)
    features = [column for name in wanted for column in _columns(name, tracks, len(wanted) == 1)]
    lost = _left_out(folder)
    rows = pl.concat([table.select(*_PLACE, *features), lost.lazy()], how="diagonal")
    with atomic_path(out) as aside:
        rows.sort(*_PLACE).drop(_PLACE).sink_parquet(aside)
    names = [column.meta.output_name() for column in features]
    return {"rows": summary["variants"] + lost.height, "missing": lost.height, "features": names}


def _wanted(folder: Path, columns: Sequence[str], scores: Sequence[str]) -> list[str]:
    known = (*names_by_track(center=True, tss=True), *(f"embedding_{d}" for d in DISTANCES), LLR)
    there = [name for name in known if name in columns]
    for name in scores:
        if name not in there:
            raise CislensError(f"{folder} has no score {name!r}. {nearest(name, there)}")
    return [name for name in there if not scores or name in scores]


def _track_ids(folder: Path) -> list[str]:
    path = folder / "tracks.tsv"
    if not path.exists():
        return []
    table = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    return table["id"].to_list()


def _columns(name: str, tracks: Sequence[str], alone: bool) -> list[pl.Expr]:
    if name not in names_by_track(center=True, tss=True):
        return [pl.col(name).alias(SCORE if alone else name)]
    return [
        pl.col(name).arr.get(at).alias(track if alone else f"{name}.{track}")
        for at, track in enumerate(tracks)
    ]


def _left_out(folder: Path) -> pl.DataFrame:
    """Places in the input of what was not scored."""
    path = require_file(folder / "left_out.tsv", "table of the variants that were left out")
    table = pl.read_csv(path, separator="\t", columns=list(_PLACE), infer_schema=False)
    whole = pl.scan_parquet(folder / "variants.parquet", glob=False).collect_schema()
    return table.select(pl.col(name).cast(whole[name]) for name in _PLACE)
