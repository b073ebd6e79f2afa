"""Variants with a class or an effect: TraitGym, saturation mutagenesis, VCF."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import File, Metric, Target
from cislens.evaluation.tasks.importers.finishing import Report, finish, parted, split_name
from cislens.evaluation.tasks.importers.labels import Labels
from cislens.evaluation.tasks.importers.reading import record
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variants import normalize, read_variants, require_reference, windows
from cislens.recipes.task_sections import TraitGymTask, VariantSection, VcfTask

_BY_CLASS = Metric(primary="auprc", secondary=["auroc"])
_MATCHED = Metric(primary="auprc", secondary=["auroc", "within_auroc"])
_BY_EFFECT = Metric(primary="pearson", secondary=["spearman"])
LOCUS_BP = 100_000


def import_traitgym(name: str, section: TraitGymTask, seed: int) -> Task:
    """A task from TraitGym parquet: causal variants (label 1) against matched controls."""
    genome, files = _opened(section, section.file)
    table = read_variants(section.file, genome)
    report: Report = {}
    checked = checked_variants(table, genome, report)
    if section.label not in checked.columns:
        raise CislensError(f"{section.file} has no column {section.label!r} of labels.")
    y = checked[section.label].cast(pl.Float64, strict=False)
    return variant_task(name, section, checked.with_columns(effect=y), genome, files, report, seed)


def import_vcf(name: str, section: VcfTask, seed: int) -> Task:
    """A task from a VCF: the INFO key's number, or its class, is the label.

    Sites of several alleles become one variant each, and insertions and deletions are shifted as
    far left as they go.
    """
    genome, files = _opened(section, section.file)
    table = read_variants(section.file, genome, info=[section.label])
    text = table[section.label]
    if section.classes:
        y = text.replace_strict(section.classes, default=None, return_dtype=pl.Float64)
    else:
        y = text.cast(pl.Float64, strict=False)
    bad = (y.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        row = table.row(int(bad[0]), named=True)
        raise CislensError(
            f"{section.file} record {row['source_row']}: {section.label} is "
            f"{row[section.label]!r}; give its number in `classes`."
        )
    report: Report = {}
    table = checked_variants(table.with_columns(effect=y), genome, report)
    return variant_task(name, section, table, genome, files, report, seed,
                        signed=section.signed)  # fmt: skip


def checked_variants(variants: pl.DataFrame, genome: Genome, report: Report) -> pl.DataFrame:
    """Variants whose reference allele the genome confirms, left-aligned, each once.

    Raises:
        CislensError: if more than 0.1 % do not match the genome.
    """
    right = require_reference(variants, genome)
    report["variants whose ref is not the genome's"] = len(variants) - len(right)
    aligned = normalize(right, genome)
    moved = (aligned["pos"] != right["pos"]) | (aligned["ref"] != right["ref"])
    report["variants trimmed or shifted to the left"] = int(moved.sum())
    # One variant may have been measured in several elements.
    element = ["element"] if "element" in aligned.columns else []
    keys = [*element, "chrom", "pos", "ref", "alt"]
    unique = aligned.unique(keys, keep="first", maintain_order=True)
    report["variants that occur more than once"] = len(aligned) - len(unique)
    return unique


def variant_task(
    name: str, section: VariantSection, variants: pl.DataFrame, genome: Genome, files: list[File],
    report: Report, seed: int, *, signed: bool | None = None,
    **card: Any,
) -> Task:  # fmt: skip
    """A task of checked variants with `effect`: 0 and 1, or numbers if `signed` is not None.

    Variants within 100 kb share a block; with `match_group` also a split.
    """
    variants, report = _with_label(variants, section, report, signed)
    reference, alternate = windows(variants, genome, section.width)
    ids = pl.format("{}:{}:{}>{}", "chrom", "pos", "ref", "alt")
    if "element" in variants.columns:
        ids = pl.format("{}/{}", "element", ids)
    rows = variants.with_columns(
        example_id=ids, y=pl.concat_list(pl.col("effect").cast(pl.Float32))
    )
    if "assembly_offset" in rows.columns:  # counted from the first base of an element until here
        rows = rows.with_columns(
            chrom=pl.col("assembly_chrom"), pos=pl.col("pos") + pl.col("assembly_offset")
        )
    first = pl.col("pos") - 1 - section.width // 2
    rows = rows.with_columns(start=first, end=first + section.width, strand=pl.lit("+"))
    if "group" not in rows.columns and "match_group" in rows.columns:
        rows = rows.with_columns(group=pl.col("match_group").cast(pl.String))
    rows = rows.with_columns(
        block=pl.format("{}:{}", "chrom", pl.col("pos") // LOCUS_BP * LOCUS_BP)
    )
    placed = Placed(rows, list(reference), report, list(alternate))
    same = (reference == alternate).all(axis=1)
    placed = placed.keep(~same, "variants without an effect on the window")
    how = card.pop("how", section.split)
    if "split" in rows.columns:
        how = None
    if how is not None and how.column is not None:
        placed = _with_column(placed, how.column)
    placed = parted(placed, how, section, seed)
    placed = _blocks(_whole_sets(placed))
    target = Target(names=["effect" if signed is not None else "causal"])
    metric = _BY_EFFECT
    if signed is None:
        metric = _MATCHED if "match_group" in placed.rows.columns else _BY_CLASS
    y = np.array([values[0] for values in placed.rows["y"]])[:, None]
    fields: dict[str, Any] = {
        "split": split_name(how), "block": f"{LOCUS_BP // 1000} kb of genome", "metric": metric,
        "score_sign": "signed" if signed else "unsigned", **card,
    }  # fmt: skip
    return finish(name, section, Labels(y, "variant", target), placed, files, **fields)


def _with_label(
    variants: pl.DataFrame, section: VariantSection, report: Report, signed: bool | None
) -> tuple[pl.DataFrame, Report]:
    known = variants.filter(pl.col("effect").is_not_null() & pl.col("effect").is_not_nan())
    report = {**report, "variants without a label": len(variants) - len(known)}
    if signed is None:
        strange = known.filter(~pl.col("effect").is_in([0.0, 1.0]))
        if len(strange):
            raise CislensError(
                f"a label is {strange['effect'][0]:g}, expected 0 or 1; for effects say whether "
                "they are `signed`."
            )
    elif not signed:
        known = known.with_columns(pl.col("effect").abs())
    return known, report


def _with_column(placed: Placed, name: str) -> Placed:
    if name not in placed.rows.columns:
        raise CislensError(f"the variants have no column {name!r} to part them by.")
    rows = placed.rows.with_columns(parted_by=pl.col(name).cast(pl.String))
    return Placed(rows, placed.sequences, placed.report, placed.alternates)


def _whole_sets(placed: Placed) -> Placed:
    """Without matched sets that lost their positive, or all of their controls."""
    if "match_group" not in placed.rows.columns:
        return placed
    kinds = placed.rows.select(pl.col("effect").n_unique().over("match_group")).to_series()
    alone = placed.rows["match_group"].is_null()
    return placed.keep(((kinds > 1) | alone).to_numpy(), "variants of incomplete matched sets")


def _blocks(placed: Placed) -> Placed:
    """An element is a block of its own; a matched set is of the block of its positive."""
    rows = placed.rows
    block = pl.col("element") if "element" in rows.columns else pl.col("block")
    if "match_group" in rows.columns:
        causal = pl.col("effect") == pl.col("effect").max().over("match_group")
        of_positive = block.filter(causal).first().over("match_group")
        block = pl.coalesce(of_positive, block)
    return Placed(
        rows.with_columns(block_id=block), placed.sequences, placed.report, placed.alternates
    )


def _opened(section: TraitGymTask | VcfTask, path: Path) -> tuple[Genome, list[File]]:
    genome = open_genome(section.genome, section.assembly or None)
    files = [
        record(path, "variants", None, section.sha256),
        record(section.genome, "genome", None, section.sha256),
    ]
    return genome, files
