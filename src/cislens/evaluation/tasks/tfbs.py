"""Binding sites of transcription factors: summits of ChIP peaks against matched background."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.background import BLOCK, built_card, with_background
from cislens.evaluation.tasks.builders import peaks
from cislens.evaluation.tasks.card import Metric, Target
from cislens.evaluation.tasks.genomic import on_genome, opened, signed_off
from cislens.evaluation.tasks.placing import place
from cislens.evaluation.tasks.task import Task, make_task
from cislens.genome.intervals import centered, read_intervals
from cislens.genome.reference import Genome
from cislens.recipes.task_sections import TfbsTask
from cislens.signal.store import ProfileStore


def build_tfbs(name: str, section: TfbsTask, store: ProfileStore | None, seed: int) -> Task:
    """A binary task of one peak file, or a multilabel task of several; see `TfbsTask`."""
    genome, regions = opened(name, section, store)
    several = section.peaks if isinstance(section.peaks, dict) else {"peaks": section.peaks}
    tables = {key: on_genome(_peaks(path, section), genome, path) for key, path in several.items()}
    rows = {key: table.height for key, table in tables.items()}
    if len(tables) == 1:
        task = peaks(
            genome, next(iter(tables.values())), name=name, species=section.species,
            width=section.width, regions=regions, limit=section.limit, seed=seed,
        )  # fmt: skip
    else:
        task = binding(
            genome, tables, name=name, species=section.species, width=section.width,
            regions=regions, limit=section.limit, seed=seed,
        )  # fmt: skip
    return signed_off(task, section, {"genome": section.genome, **several}, rows)


def binding(
    genome: Genome,
    tables: Mapping[str, pl.DataFrame],
    *,
    name: str,
    species: str,
    width: int = 200,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """A multilabel task: which factors have a summit in the window, and background with none.

    Windows lie around the summits of all peaks; of those that overlap the first is kept.
    """
    centers = {
        key: centered(table, width, genome.chrom_sizes).with_columns(
            center=pl.col("start") + width // 2
        )
        for key, table in tables.items()
    }
    everywhere = pl.concat([table.select("chrom", "start", "end") for table in centers.values()])
    everywhere = everywhere.unique().sort("chrom", "start")
    annotated = pl.concat([table.select("chrom", "start", "end") for table in tables.values()])
    rows, report = with_background(genome, everywhere, annotated, limit, seed)
    y = np.stack([_summits_inside(rows, table) for table in centers.values()], axis=1)
    rows = rows.with_columns(y=pl.Series(y.tolist(), dtype=pl.List(pl.Float32)))
    # Rare combinations are one stratum: those with the factor that is rarest in them.
    rarest = np.where(y.any(axis=1), np.argmin(np.where(y > 0, y.sum(axis=0), np.inf), axis=1), -1)
    placed = place(rows, genome, seed, regions, rarest.astype(np.int64))
    card = built_card(
        placed, report, regions, name=name, species=species, window=width, kind="multilabel",
        metric=Metric(primary="auroc", secondary=["auprc"]), block=BLOCK,
        target=Target(names=list(tables)), assembly=genome.name,
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _summits_inside(rows: pl.DataFrame, table: pl.DataFrame) -> npt.NDArray[np.float64]:
    found = np.zeros(rows.height)
    chrom = rows["chrom"].to_numpy()
    starts, ends = rows["start"].to_numpy(), rows["end"].to_numpy()
    for (name,), part in table.group_by("chrom"):
        mine = np.flatnonzero(chrom == name)
        summits = np.sort(part["center"].to_numpy())
        inside = np.searchsorted(summits, ends[mine]) - np.searchsorted(summits, starts[mine])
        found[mine] = inside > 0
    return found


def _peaks(path: Path, section: TfbsTask) -> pl.DataFrame:
    """Peaks, those of one name if the section asks for them, with their summits."""
    table = read_intervals(path)
    if section.named is not None:
        column = section.column
        if column not in table.columns:
            raise CislensError(
                f"{path} has no column {column!r} of names. {nearest(column, table.columns)}"
            )
        names = table[column].unique().to_list()
        if section.named not in names:
            raise CislensError(
                f"{path} has no peak named {section.named!r}. {nearest(section.named, names)}"
            )
        table = table.filter(pl.col(column) == section.named)
    if section.summit is not None:
        if section.summit not in table.columns:
            raise CislensError(
                f"{path} has no column {section.summit!r} of summit offsets. "
                f"{nearest(section.summit, table.columns)}"
            )
        offset = pl.col(section.summit).cast(pl.Int64, strict=False)
        table = table.with_columns(summit=pl.col("start") + offset)
    return table
