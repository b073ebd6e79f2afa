"""Variants of a table, the positives each with controls matched to it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.importers.finishing import Report
from cislens.evaluation.tasks.importers.reading import record
from cislens.evaluation.tasks.importers.variants import checked_variants, variant_task
from cislens.evaluation.tasks.matching import match_controls
from cislens.evaluation.tasks.task import Task
from cislens.genome.annotation import promoters, read_genes
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import gc_content
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variants import read_variants, windows
from cislens.recipes.task_sections import VariantTask


def build_variants(name: str, section: VariantTask, seed: int) -> Task:
    """A variant task whose controls are alike to the positives in the covariates.

    Covariates are columns of the table, or the GC content of the window and, with `genes`, the
    log of the distance to the next TSS. A positive and its controls are one `match_group`;
    positives without a control are dropped and counted.
    """
    genome = open_genome(section.genome, section.assembly or None)
    files = [
        record(section.file, "variants", None, section.sha256),
        record(section.genome, "genome", None, section.sha256),
    ]
    report: Report = {}
    table = read_variants(section.file, genome)
    table = checked_variants(_labelled(table, section), genome, report)
    if section.genes:
        files += [record(path, "genes", None, section.sha256) for path in section.genes]
        distance = tss_distance(table, list(genome.chrom_sizes), section.genes)
        table = table.with_columns(tss_dist=distance)
    names, values = _covariates(table, genome, section)
    complete = np.isfinite(values).all(axis=1)
    report["variants without all covariates"] = int((~complete).sum())
    table, values = table.filter(pl.Series(complete)), values[complete]
    stratum = _strata(table, section.within)
    positive = (table["effect"] == 1).to_numpy()
    matched = match_controls(values, positive, stratum, section.controls, section.caliper, seed)
    kept = matched.group >= 0
    report["positives without a control"] = int((positive & ~kept).sum())
    for covariate, before, after in zip(names, matched.before, matched.after, strict=True):
        report[f"standardized difference of {covariate} before"] = round(before, 4)
        report[f"standardized difference of {covariate}"] = round(after, 4)
    group = pl.Series([f"m{number}" for number in matched.group])
    table = table.with_columns(match_group=group).filter(pl.Series(kept))
    if not section.genes and "tss_dist" in table.columns:
        table = table.with_columns(pl.col("tss_dist").cast(pl.Float64, strict=False))
    return variant_task(name, section, table, genome, files, report, seed, negatives="measured")


def _labelled(table: pl.DataFrame, section: VariantTask) -> pl.DataFrame:
    text = _column(table, section.label).cast(pl.String)
    if section.classes:
        y = text.replace_strict(section.classes, default=None, return_dtype=pl.Float64)
    else:
        y = text.cast(pl.Float64, strict=False)
    bad = (y.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        raise CislensError(
            f"{section.file} line {table['source_row'][row]}: {section.label} is {text[row]!r}, "
            f"which is none of the classes ({', '.join(section.classes) or '0, 1'})."
        )
    return table.with_columns(effect=y)


def _strata(table: pl.DataFrame, columns: list[str]) -> npt.NDArray[np.int64]:
    """A number for each combination of the columns' values."""
    if not columns:
        return np.zeros(table.height, np.int64)
    values = pl.DataFrame([_column(table, name) for name in columns])
    numbers: npt.NDArray[np.int64] = (
        values.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy().astype(np.int64)
    )
    return numbers


def _column(table: pl.DataFrame, name: str) -> pl.Series:
    if name not in table.columns:
        raise CislensError(f"the variants have no column {name!r}. {nearest(name, table.columns)}")
    return table[name]


def _covariates(
    table: pl.DataFrame, genome: Genome, section: VariantTask
) -> tuple[list[str], npt.NDArray[np.float64]]:
    if section.covariates:
        columns = [
            _column(table, name).cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
            for name in section.covariates
        ]
        return section.covariates, np.stack(columns, axis=1)
    reference, _alternate = windows(table, genome, section.width)
    names, columns = ["gc"], [np.asarray(gc_content(reference))]
    if "tss_dist" in table.columns:
        distance = table["tss_dist"].cast(pl.Float64, strict=False).fill_null(float("nan"))
        names.append("log of the distance to the next TSS")
        columns.append(np.log10(1 + np.abs(distance.to_numpy())))
    return names, np.stack(columns, axis=1)


def tss_distance(table: pl.DataFrame, known: Sequence[str], genes: Sequence[Path]) -> pl.Series:
    """Bases from each variant (`chrom, pos`) to the next TSS; null on chromosomes without a gene.

    Args:
        known: names of chromosomes that the variants have.
    """
    found = []
    for path in genes:
        rows = read_genes(path)
        names = rows["chrom"].unique(maintain_order=True)
        found.append(match_names(names, known, str(path)).rename(rows))
    tss = promoters(pl.concat(found, how="diagonal"), 1, 0)
    distance = np.full(table.height, np.nan)
    chrom, first = table["chrom"].to_numpy(), table["pos"].to_numpy() - 1
    for (name,), part in tss.group_by("chrom"):
        mine = np.flatnonzero(chrom == name)
        places = np.sort(part["tss"].to_numpy())
        after = np.searchsorted(places, first[mine])
        right = np.abs(places[np.minimum(after, len(places) - 1)] - first[mine])
        left = np.abs(places[np.maximum(after - 1, 0)] - first[mine])
        distance[mine] = np.minimum(left, right)
    return pl.Series(distance).fill_nan(None)
