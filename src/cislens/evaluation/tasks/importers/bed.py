"""Intervals with split and labels, in BED-like tables as BEND has them, and their genome."""

from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.importers.finishing import (
    Report,
    finish,
    fitted,
    numbered,
    parted,
    with_labels,
)
from cislens.evaluation.tasks.importers.labels import Labels, finish_labels, read_labels
from cislens.evaluation.tasks.importers.reading import Table, read_table, record
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.files import read_parquet, require_file
from cislens.genome.chromosomes import match_names
from cislens.genome.codes import reverse_complement
from cislens.genome.reference import open_genome
from cislens.recipes.task_basics import Parting
from cislens.recipes.task_sections import BedLabelTask
from cislens.untrusted import memory

_PARTS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid",
          "dev": "valid", "test": "test"}  # fmt: skip


def import_bed(name: str, section: BedLabelTask, seed: int) -> Task:
    """A task from labelled intervals; see `BedLabelTask`.

    Stranded tasks read the strand that the file names; others read the forward strand.
    """
    report: Report = {}
    entry = record(section.file, "intervals", None, section.sha256)
    table = read_table(section.file, "labelled intervals", section.columns)
    files = [entry.model_copy(update={"rows": table.frame.height})]
    labels, sidecar = _labels(table, section)
    if sidecar is not None:
        files.append(record(sidecar, "labels", table.frame.height, section.sha256))
    genome = open_genome(section.genome, section.assembly or None)
    files.append(record(section.genome, "genome", None, section.sha256))
    rows = _rows(table, section, report)
    names = match_names(
        rows["chrom"].unique(maintain_order=True), genome.chrom_sizes, str(table.path)
    )
    report["chromosomes"] = names.report
    known = rows["chrom"].is_in(list(names.mapping)).to_numpy()
    rows = rows.with_columns(pl.col("chrom").replace(names.mapping))
    sequences = []
    for row, (chrom, start, end) in enumerate(rows.select("chrom", "start", "end").iter_rows()):
        if not known[row]:
            sequences.append(np.empty(0, np.uint8))
            continue
        if end > genome.size(chrom):
            raise table.error(row, f"{chrom}:{start}-{end} reaches over the end of {chrom}.")
        codes = genome.fetch(chrom, start, end)
        flip = section.stranded and rows["strand"][row] == "-"
        sequences.append(reverse_complement(codes) if flip else codes)
    placed = with_labels(Placed(rows, sequences, report), labels.y)
    if not known.all():
        has_label = ~np.isnan(labels.y).all(axis=1)
        placed = placed.keep(known[has_label], "examples on chromosomes that the genome lacks")
    placed = fitted(placed, section)
    how = None if "split" in rows.columns else Parting()
    placed = parted(placed, how, section, seed)
    return finish(
        name, section, labels, placed, files, block="20 kb of genome",
        split="predefined" if how is None else "homology",
    )  # fmt: skip


def _rows(table: Table, section: BedLabelTask, report: Report) -> pl.DataFrame:
    starts = table.positions(table.find("start", section.start, report))
    ends = table.positions(table.find("end", section.end, report))
    bad = ((starts < 0) | (starts >= ends)).arg_true()
    if len(bad):
        row = int(bad[0])
        raise table.error(
            row, f"start {starts[row]} and end {ends[row]}, expected 0 <= start < end (0-based)."
        )
    columns: dict[str, pl.Series] = {
        "example_id": numbered("row", len(starts)),
        "chrom": table.column(table.find("chrom", section.chrom, report)),
        "start": starts,
        "end": ends,
        "source_row": pl.Series(np.arange(len(starts)) + table.first),
    }
    strand = table.optional("strand", section.strand, report)
    if strand is not None:
        columns["strand"] = table.column(strand)
    elif section.stranded:
        raise CislensError(f"{table.path} has no strand column, which a stranded task needs.")
    split = table.optional("split", section.split, report)
    if split is not None:
        parts = section.parts or _PARTS
        text = table.column(split)
        found = text.replace_strict(parts, default=None, return_dtype=pl.String)
        if not section.parts and found.null_count():
            row = int(found.is_null().arg_true()[0])
            raise table.error(
                row, f"{split} is {text[row]!r}; say with `parts` which part it is (values without "
                "a part are left out)."
            )  # fmt: skip
        columns["split"] = found
    return pl.DataFrame(columns)


def _labels(table: Table, section: BedLabelTask) -> tuple[Labels, Path | None]:
    if section.labels is not None:
        values = _sidecar(section.labels, section.dataset)
        if len(values) != table.frame.height:
            raise CislensError(
                f"{section.labels} holds labels of {len(values)} rows, {table.path} has "
                f"{table.frame.height}; they must go row by row."
            )
        names = section.names or _names(values.shape[1])
        return finish_labels(values, names, section, [table]), section.labels
    if section.label is None:
        raise CislensError("name the column of the labels, or a file of `labels`.")
    text = table.column(section.label)
    if not text.str.contains(",", literal=True).any():
        return read_labels([table], [section.label], section), None
    values = _lists(table, section.label, len(section.names) or None)
    return finish_labels(values, section.names or _names(values.shape[1]), section, [table]), None


def _names(count: int) -> list[str]:
    return [f"label{number}" for number in range(count)]


def _lists(table: Table, name: str, outputs: int | None) -> npt.NDArray[np.float64]:
    """Comma-separated numbers: a value for each output, or where the lengths differ, the numbers
    of the outputs that are 1."""
    parts = [
        [item for item in (text or "").strip("[]() ").split(",") if item.strip()]
        for text in table.column(name)
    ]
    try:
        numbers = [[float(item) for item in part] for part in parts]
    except ValueError as error:
        raise CislensError(
            f"{table.path}: {name} holds what is no list of numbers: {error}."
        ) from None
    lengths = {len(part) for part in numbers}
    if len(lengths) == 1 and (outputs is None or lengths == {outputs}):
        return np.array(numbers)
    if outputs is None:
        raise CislensError(
            f"{table.path}: the lists in {name} differ in length ({sorted(lengths)[:4]}); if they "
            "number the outputs that are 1, give the `names` of all outputs."
        )
    y = np.zeros((len(numbers), outputs))
    for row, part in enumerate(numbers):
        for value in part:
            if value not in range(outputs):
                raise table.error(row, f"{name} names output {value:g} of {outputs}.")
            y[row, int(value)] = 1
    return y


def _sidecar(path: Path, dataset: str) -> npt.NDArray[np.float64]:
    require_file(path, "labels")
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path, dataset)
    frame = read_parquet(path, "labels")
    if dataset in frame.columns and isinstance(frame[dataset].dtype, pl.List | pl.Array):
        return np.array(frame[dataset].to_list(), np.float64)
    return frame.select(pl.all().cast(pl.Float64)).to_numpy()


def _hdf5(path: Path, dataset: str) -> npt.NDArray[np.float64]:
    try:
        h5py = import_module("h5py")
    except ImportError:
        raise CislensError(
            f"{path} is HDF5, which needs the package h5py; install it, or write the labels as "
            "parquet, one column an output."
        ) from None
    with h5py.File(path) as handle:
        if dataset not in handle:
            raise CislensError(f"{path} has no dataset {dataset!r}; it has {', '.join(handle)}.")
        held = handle[dataset]
        own = isinstance(held, h5py.Dataset) and held.file.filename == handle.filename
        if not own or held.external or held.is_virtual:
            raise CislensError(f"{path}: {dataset!r} is no dataset of this file itself.")
        if held.dtype.kind not in "fiub" or held.size * 8 > memory():
            raise CislensError(
                f"{path}: {dataset!r} is {held.dtype} {held.shape}, expected numbers that fit into "
                "memory."
            )
        values = np.asarray(held, np.float64)
    return values.reshape(len(values), -1)
