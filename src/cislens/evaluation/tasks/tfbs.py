"""Binding sites of transcription factors: summits of ChIP peaks against matched background."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.accessible import ACCESS, open_windows, with_open_background
from cislens.evaluation.tasks.background import BLOCK, PLACE, built_card, with_background
from cislens.evaluation.tasks.builders import peaks
from cislens.evaluation.tasks.card import Metric, Target
from cislens.evaluation.tasks.genomic import on_genome, opened, signed_off
from cislens.evaluation.tasks.placing import place
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.training_stores import TrainingStore
from cislens.genome.intervals import Spans, centered, read_intervals
from cislens.genome.reference import Genome
from cislens.recipes.task_sections import TfbsTask
from cislens.signal.bigwig import read_windows


def build_tfbs(name: str, section: TfbsTask, store: TrainingStore | None, seed: int) -> Task:
    """A binary task of one peak file, or a multilabel task of several; see `TfbsTask`."""
    genome, regions = opened(name, section, store)
    if section.negatives == "accessible":
        return _against_open(name, section, genome, regions, seed)
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


def _against_open(
    name: str, section: TfbsTask, genome: Genome, regions: pl.DataFrame | None, seed: int
) -> Task:
    """A binary task of sites against open windows of the same cell without one."""
    assert isinstance(section.peaks, Path)
    files = {"genome": section.genome, "peaks": section.peaks}
    bound = on_genome(_peaks(section.peaks, section), genome, section.peaks)
    avoid = [bound]
    if section.relaxed is not None:
        files["relaxed"] = section.relaxed
        avoid.append(on_genome(_peaks(section.relaxed, section), genome, section.relaxed))
    where = section.open or section.peaks
    if section.open is not None:
        files["open"] = section.open
    if section.signal is not None:
        files["signal"] = section.signal
    peaks = on_genome(_open_peaks(where, section), genome, where)
    rows = {"peaks": bound.height, "open": peaks.height}
    sites = centered(bound, section.width, genome.chrom_sizes)
    candidates = open_windows(
        genome, peaks, section.width,
        pl.concat([each.select(PLACE) for each in (*avoid, sites)]),
    )  # fmt: skip
    tables = _with_access(sites, candidates, peaks, section)
    task = unbound_but_open(
        genome, *tables, name=name, species=section.species, regions=regions,
        limit=section.limit, natural=section.natural, seed=seed,
    )  # fmt: skip
    return signed_off(task, section, files, rows)


def unbound_but_open(
    genome: Genome,
    sites: pl.DataFrame,
    candidates: pl.DataFrame,
    *,
    name: str,
    species: str,
    regions: pl.DataFrame | None = None,
    limit: int | None = None,
    natural: bool = False,
    seed: int = 0,
) -> Task:
    """A binary task of windows around summits against open windows without a site.

    Args:
        sites, candidates: windows of one width; see `accessible.with_open_background`.
        natural: the test part has all open windows without a site, and all sites; train and valid
            are of matched pairs in any case.
    """
    rows, report = with_open_background(genome, sites, candidates, limit, seed, natural=natural)
    strata = rows["label"].to_numpy()
    if natural:
        strata = strata + 2 * rows["extra"].to_numpy()
    placed = place(rows, genome, seed, regions, strata)
    if natural:
        kept = ~placed.rows["extra"].to_numpy() | (placed.rows["split"] == "test").to_numpy()
        placed = placed.keep(kept, "examples without a partner that are not of the test part")
        report["standardized differences are of"] = (
            "train and valid, and test before it was filled up"
        )
    card = built_card(
        placed, report, regions, name=name, species=species,
        window=int(rows["end"][0] - rows["start"][0]), target=Target(names=["peak"]),
        assembly=genome.name, negatives="accessible",
        metric=Metric(primary="auprc", secondary=["auroc"]),
    )  # fmt: skip
    return make_task(card, placed.rows, placed.sequences)


def _open_peaks(path: Path, section: TfbsTask) -> pl.DataFrame:
    """The open regions: all peaks of the file, or those whose name fits the pattern."""
    table = read_intervals(path)
    if section.open_named is not None:
        names = _names(table, path, section.column)
        fitting = [name for name in names.unique() if fnmatchcase(name, section.open_named)]
        others = [name for name in fitting if name != section.named]
        if not others:
            raise CislensError(
                f"{path} has no other peaks whose name fits {section.open_named!r}. "
                f"{nearest(section.open_named, names.unique().to_list())}"
            )
        table = table.filter(names.is_in(others))
    return _with_summits(table, path, section)


def _with_access(
    sites: pl.DataFrame, candidates: pl.DataFrame, peaks: pl.DataFrame, section: TfbsTask
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with the column `ACCESS`, if there is anything to say how accessible a window is."""
    both = (sites, candidates)
    if section.signal is not None:
        found = [
            read_windows(
                str(section.signal), each["chrom"].to_numpy(), each["start"].to_numpy(),
                section.width, missing=0.0,
            ).mean(1)
            for each in both
        ]  # fmt: skip
    elif section.open_named is not None:
        parts = [part for _, part in peaks.group_by(section.column)]
        found = [sum(_touched(each, part) for part in parts) for each in both]
    elif "signal" in peaks.columns:
        found = [_strongest(each, peaks) for each in both]
    else:
        return both
    one, two = (
        each.with_columns(pl.Series(ACCESS, np.asarray(values, np.float64)))
        for each, values in zip(both, found, strict=True)
    )
    return one, two


def _touched(windows: pl.DataFrame, peaks: pl.DataFrame) -> npt.NDArray[np.float64]:
    """1 for windows that share a base with a peak, else 0."""
    found = np.zeros(windows.height)
    chrom = windows["chrom"].to_numpy()
    starts, ends = windows["start"].to_numpy(), windows["end"].to_numpy()
    for (name,), part in peaks.group_by("chrom"):
        mine = np.flatnonzero(chrom == name)
        found[mine] = Spans.of(part).overlap(starts[mine], ends[mine])
    return found


def _strongest(windows: pl.DataFrame, peaks: pl.DataFrame) -> npt.NDArray[np.float64]:
    """The largest signal of the peaks that a window shares a base with; 0 for none."""
    numbered = windows.select(*PLACE).with_row_index("row").lazy()
    pairs = numbered.join_where(
        peaks.lazy().select(
            at="chrom", first="start", last="end", signal=pl.col("signal").cast(pl.Float64)
        ),
        pl.col("chrom") == pl.col("at"), pl.col("first") < pl.col("end"),
        pl.col("last") > pl.col("start"),
    )  # fmt: skip
    best = pairs.group_by("row").agg(pl.col("signal").max()).collect()
    found = np.zeros(windows.height)
    found[best["row"].to_numpy()] = best["signal"].fill_null(0.0).to_numpy()
    return found


def _names(table: pl.DataFrame, path: Path, column: str) -> pl.Series:
    if column not in table.columns:
        raise CislensError(
            f"{path} has no column {column!r} of names. {nearest(column, table.columns)}"
        )
    return table[column]


def _peaks(path: Path, section: TfbsTask) -> pl.DataFrame:
    """Peaks, those of one name if the section asks for them, with their summits."""
    table = read_intervals(path)
    if section.named is not None:
        names = _names(table, path, section.column)
        if section.named not in names:
            raise CislensError(
                f"{path} has no peak named {section.named!r}. "
                f"{nearest(section.named, names.unique().to_list())}"
            )
        table = table.filter(names == section.named)
    return _with_summits(table, path, section)


def _with_summits(table: pl.DataFrame, path: Path, section: TfbsTask) -> pl.DataFrame:
    if section.summit is not None:
        if section.summit not in table.columns:
            raise CislensError(
                f"{path} has no column {section.summit!r} of summit offsets. "
                f"{nearest(section.summit, table.columns)}"
            )
        offset = pl.col(section.summit).cast(pl.Int64, strict=False)
        table = table.with_columns(summit=pl.col("start") + offset)
    return table
