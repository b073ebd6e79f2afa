"""Genomic Benchmarks (Gresova et al., BMC Genomic Data 24, 2023): folders of intervals."""

import re
from pathlib import Path

import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.tasks.card import File
from cislens.evaluation.tasks.importers.finishing import (
    Report,
    finish,
    fitted,
    numbered,
    parted,
    with_labels,
)
from cislens.evaluation.tasks.importers.labels import read_labels
from cislens.evaluation.tasks.importers.reading import (
    Table,
    read_sequences,
    read_table,
    record,
)
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.files import require_file
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import Codes, reverse_complement
from cislens.genome.reference import Genome, open_genome
from cislens.recipes.task_sections import GenomicBenchmarksTask

# e.g. chr21:20569356-20569856:+, with the assembly before it or without
_LOCUS = re.compile(r"(?:\w+:)?(?P<chrom>[^:]+):(?P<start>\d+)-(?P<end>\d+)(?::(?P<strand>[+-])?)?")
_SUFFIXES = (".csv.gz", ".csv")


def import_genomic_benchmarks(name: str, section: GenomicBenchmarksTask, seed: int) -> Task:
    """A task from a folder of intervals with its genome, or from one table with sequences.

    Sequences of the minus strand are reverse complements. The sets have no valid part: one is
    carved from train by homology, never from test. Copies of a train interval in test, which some
    sets are full of, are dropped and counted.
    """
    report: Report = {}
    if section.table is not None:
        table, files = _table(section.table, section)
        sequences, letters = read_sequences(table, table.find("sequence", None, report))
        report |= letters
    else:
        assert section.folder is not None and section.genome is not None
        genome = open_genome(section.genome, section.assembly or None)
        table, files = _folder(section.folder, section)
        files.append(record(section.genome, "genome", None, section.sha256))
        table, sequences = _cut(table, genome, report)
    rows = table.frame.select(
        "split", "chrom", "start", "end", "strand", source_row=pl.col("line"),
        example_id=numbered("row", table.frame.height),
    )  # fmt: skip
    strange = sorted(set(rows["split"]) - {"train", "test"})
    if strange:
        raise CislensError(f"{table.path} has a part {strange[0]!r}; expected train and test.")
    labels = read_labels([table], ["label"], section)
    placed = fitted(with_labels(Placed(rows, sequences, report), labels.y), section)
    placed = parted(placed, None, section, seed)
    block = "20 kb of genome" if "start" in placed.rows.columns else "cluster of alike sequences"
    return finish(name, section, labels, placed, files, block=block)


def _table(path: Path, section: GenomicBenchmarksTask) -> tuple[Table, list[File]]:
    """One table `split, label, sequence, id, locus`."""
    entry = record(path, "examples", None, section.sha256)
    table = read_table(path, "table of Genomic Benchmarks")
    loci = []
    for row, text in enumerate(table.column("locus")):
        match = _LOCUS.match(text or "")
        if match is None:
            raise table.error(row, f"locus is {text!r}, expected chrom:start-end:strand.")
        loci.append(match.groupdict())
    found = pl.DataFrame(loci, schema=dict.fromkeys(_LOCUS.groupindex, pl.String))
    frame = table.frame.select("split", "label", "sequence").with_columns(
        found["chrom"], found["strand"], found["start"].cast(pl.Int64), found["end"].cast(pl.Int64),
        line=pl.int_range(pl.len(), dtype=pl.Int64) + table.first,
    )  # fmt: skip
    return Table(path, frame), [entry.model_copy(update={"rows": frame.height})]


def _folder(folder: Path, section: GenomicBenchmarksTask) -> tuple[Table, list[File]]:
    """All intervals of a folder `{train,test}/<class>.csv.gz`; the classes of the recipe decide
    which files are read, and every file must have a class."""
    frames, files = [], []
    for split in ("train", "test"):
        inside = require_file(folder / split, f"{split} part of Genomic Benchmarks")
        for path in sorted(inside.iterdir()):
            label = path.name.removesuffix(".gz").removesuffix(".csv")
            if not path.name.endswith(_SUFFIXES):
                continue
            if label not in section.classes:
                raise CislensError(
                    f"{path} is of class {label!r}, which the recipe does not number. "
                    f"{nearest(label, section.classes)}"
                )
            entry = record(path, split, None, section.sha256)
            table = read_table(path, "class file of Genomic Benchmarks")
            files.append(entry.model_copy(update={"rows": table.frame.height}))
            frames.append(_intervals(table, split, label))
    if not frames:
        raise CislensError(f"{folder} has no class files in train and test.")
    return Table(folder, pl.concat(frames)), files


def _intervals(table: Table, split: str, label: str) -> pl.DataFrame:
    chrom = table.find("chrom", "region" if "region" in table.frame.columns else None, {})
    starts, ends = table.positions("start"), table.positions("end")
    strand = table.column("strand") if "strand" in table.frame.columns else None
    bad = ((starts < 0) | (starts >= ends)).arg_true()
    if len(bad):
        row = int(bad[0])
        raise table.error(row, f"start {starts[row]} and end {ends[row]}, expected start < end.")
    return pl.DataFrame({
        "split": [split] * len(starts), "label": [label] * len(starts),
        "chrom": table.column(chrom), "start": starts, "end": ends,
        "strand": strand if strand is not None else ["+"] * len(starts),
        "line": pl.Series(range(len(starts)), dtype=pl.Int64) + table.first,
    })  # fmt: skip


def _cut(table: Table, genome: Genome, report: Report) -> tuple[Table, list[Codes]]:
    frame = table.frame
    names = match_names(
        frame["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(table.path)
    )
    report["chromosomes"] = names.report
    kept = names.rename(frame)
    size = pl.col("chrom").replace_strict(genome.chrom_sizes, return_dtype=pl.Int64)
    over = kept.filter(pl.col("end") > size)
    if over.height:
        row = over.row(0, named=True)
        raise CislensError(
            f"{table.path}: {row['chrom']}:{row['start']}-{row['end']} reaches over the end of "
            f"{row['chrom']} in {genome.path}; it is of another assembly."
        )
    if kept.height < frame.height:
        report["examples on chromosomes that the genome lacks"] = frame.height - kept.height
    sequences = []
    for chrom, start, end, strand in kept.select("chrom", "start", "end", "strand").iter_rows():
        codes = genome.fetch(chrom, start, end)
        sequences.append(reverse_complement(codes) if strand == "-" else codes)
    report["sequences of the minus strand"] = int((kept["strand"] == "-").sum())
    return Table(table.path, kept), sequences
