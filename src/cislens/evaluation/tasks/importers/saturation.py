"""Saturation mutagenesis of regulatory elements (Kircher et al., Nat Commun 10, 2019; CAGI5)."""

import re
from pathlib import Path

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.importers.finishing import Report
from cislens.evaluation.tasks.importers.reading import record
from cislens.evaluation.tasks.importers.variants import checked_variants, variant_task
from cislens.evaluation.tasks.task import Task
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import Codes
from cislens.genome.homology import homology_pairs
from cislens.genome.intervals import read_rows
from cislens.genome.reference import Genome, open_genome
from cislens.genome.variants import anchored, on_elements, read_variants
from cislens.recipes.task_sections import SaturationTask

_PLACE = re.compile(r"(?P<chrom>(?:chr)?[\w.]+):(?P<start>\d+)-(?P<end>\d+)")


def import_saturation(name: str, section: SaturationTask, seed: int) -> Task:
    """A variant task from a table of saturation mutagenesis.

    Elements go whole to a part and are blocks of their own, for variants of one element share
    nearly all of their sequence. What lies outside an element reads as N where the reference is a
    FASTA of elements. Deletions are written `-`.

    Raises:
        CislensError: for an unknown element, elements of two parts that are homologous or
            overlap, or reference alleles that do not match.
    """
    files = [record(section.table, "variants", None, section.sha256)]
    parts = {
        element: split
        for split in ("train", "valid", "test")
        for element in getattr(section, split)
    }
    report: Report = {}
    table = _rows(section, parts, report)
    if section.elements is not None:
        files.append(record(section.elements, "elements", None, section.sha256))
        genome, starts = _elements(section.elements, parts)
        table = on_elements(table, starts)
        _refuse_related(genome, parts)
    else:
        assert section.genome is not None
        files.append(record(section.genome, "genome", None, section.sha256))
        genome = open_genome(section.genome, section.assembly or None)
        found = table["chrom"].unique(maintain_order=True)
        table = match_names(found, genome.chrom_sizes, str(section.table)).rename(table)
        _refuse_overlaps(table, parts)
    table = checked_variants(anchored(table, genome), genome, report)
    if section.elements is not None:
        offset = pl.col("element").replace_strict(
            starts["element"], starts["start"], return_dtype=pl.Int64
        )
        table = table.with_columns(assembly_offset=offset)
    table = table.with_columns(
        split=pl.col("element").replace_strict(parts), group=pl.col("element")
    )
    return variant_task(
        name, section, table, genome, files, report, seed, signed=section.signed,
        block="element",
    )  # fmt: skip


def _rows(section: SaturationTask, parts: dict[str, str], report: Report) -> pl.DataFrame:
    """The rows of the elements and the release, with `effect` and `element`."""
    table = read_variants(section.table)
    known = {column.lower(): column for column in table.columns}
    for column in ("element", section.effect.lower()):
        if column not in known:
            raise CislensError(f"{section.table} has no column {column!r}; {_has(table)}.")
    table = table.rename({known["element"]: "element"})
    if section.release is not None:
        if "release" not in known:
            raise CislensError(f"{section.table} has no column Release; {_has(table)}.")
        releases = table[known["release"]].unique().to_list()
        if section.release not in releases:
            raise CislensError(
                f"{section.table} has no release {section.release!r}. "
                f"{nearest(section.release, releases)}"
            )
        table = table.filter(pl.col(known["release"]) == section.release)
    present = table["element"].unique().to_list()
    for element in parts:
        if element not in present:
            raise CislensError(
                f"{section.table} has no element {element!r}. {nearest(element, present)}"
            )
    table = table.filter(pl.col("element").is_in(list(parts)))
    effect = pl.col(known[section.effect.lower()]).cast(pl.Float64, strict=False)
    table = table.with_columns(effect=effect)
    if "barcodes" in known and section.least_barcodes:
        barcodes = pl.col(known["barcodes"]).cast(pl.Float64, strict=False)
        many = table.filter(barcodes >= section.least_barcodes)
        report[f"variants with fewer than {section.least_barcodes} barcodes"] = len(table) - len(
            many
        )
        table = many
    if not section.deletions:
        kept = table.filter((pl.col("ref").str.len_bytes() == 1) & (pl.col("alt") != "-"))
        report["insertions and deletions left out"] = len(table) - len(kept)
        table = kept
    return table


def _has(table: pl.DataFrame) -> str:
    return f"it has {', '.join(table.columns)}"


def _elements(path: Path, parts: dict[str, str]) -> tuple[Genome, pl.DataFrame]:
    """The elements as a genome, and where each begins (0-based)."""
    genome = open_genome(path)
    starts: dict[str, int] = {}
    for fields in read_rows(path, "FASTA of elements").fields:
        if fields[0].startswith(">"):
            name, _, rest = fields[0][1:].partition(" ")
            place = _PLACE.search(rest.split(":", 1)[-1] if rest.count(":") > 1 else rest)
            if place is not None:
                starts[name] = int(place["start"]) - 1
    for element in parts:
        if element not in starts:
            raise CislensError(
                f"{path} has no element {element!r} with its place (`>{element} chrom:start-end`, "
                f"1-based). {nearest(element, starts)}"
            )
    return genome, pl.DataFrame({"element": list(starts), "start": list(starts.values())})


def _refuse_related(genome: Genome, parts: dict[str, str]) -> None:
    names = list(parts)
    sequences: list[Codes] = [genome.chromosome(name) for name in names]
    for a, b in homology_pairs(sequences).pairs.tolist():
        _refuse(names[a], names[b], parts, "are homologous")


def _refuse_overlaps(table: pl.DataFrame, parts: dict[str, str]) -> None:
    spans = table.group_by("element", maintain_order=True).agg(
        pl.col("chrom").first(), pl.col("pos").min().alias("low"), pl.col("pos").max().alias("high")
    )
    rows = spans.rows()
    for number, (one, chrom, low, high) in enumerate(rows):
        for other, chrom2, low2, high2 in rows[:number]:
            if chrom == chrom2 and low <= high2 and low2 <= high:
                _refuse(one, other, parts, "overlap")


def _refuse(one: str, other: str, parts: dict[str, str], why: str) -> None:
    if parts[one] != parts[other]:
        raise CislensError(
            f"elements {one!r} ({parts[one]}) and {other!r} ({parts[other]}) {why}; put both "
            "into one part."
        )
