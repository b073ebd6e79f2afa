"""Labelled sequences in CSV or TSV, and reporter assays among them."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.evaluation.tasks.card import File
from cislens.evaluation.tasks.importers.finishing import (
    Report,
    finish,
    fitted,
    numbered,
    parted,
    split_name,
    with_labels,
)
from cislens.evaluation.tasks.importers.labels import Labels, finish_labels, read_labels
from cislens.evaluation.tasks.importers.reading import (
    Table,
    read_sequences,
    read_table,
    record,
    zero_based,
)
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.recipes.task_basics import Parting
from cislens.recipes.task_sections import MpraTask, TableTask

# Of the median error: none counts for more than a hundred measurements of median error.
_LEAST_ERROR = 0.1


def import_table(name: str, section: TableTask, seed: int) -> Task:
    """A task from labelled sequences, see `TableTask` and, for reporter assays, `MpraTask`."""
    tables, files = _read(section)
    report: Report = {}
    labels = _labels(section, list(tables.values()), report)
    sequence = next(iter(tables.values())).find("sequence", section.sequence, report)
    parts, sequences = [], []
    for split, table in tables.items():
        codes, letters = read_sequences(table, sequence)
        for key, found in letters.items():
            report[f"{key} ({split})"] = found
        parts.append(_rows(section, split, table, [len(one) for one in codes], report))
        sequences += codes
    placed = Placed(pl.concat(parts, how="diagonal"), sequences, report)
    placed = fitted(with_labels(placed, labels.y), section)
    placed = _weighted(placed)
    how = None if section.file is None else section.split or Parting()
    placed = parted(placed, how, section, seed)
    return finish(
        name, section, labels, placed, files, split=split_name(how), block=_block(section, placed)
    )


def _block(section: TableTask, placed: Placed) -> str:
    if "group" in placed.rows.columns:
        return section.block or "element"
    return "20 kb of genome" if "start" in placed.rows.columns else "cluster of alike sequences"


def _read(section: TableTask) -> tuple[dict[str, Table], list[File]]:
    paths: dict[str, Path | None] = {
        "row": section.file, "train": section.train, "valid": section.valid, "test": section.test,
    }  # fmt: skip
    tables, files = {}, []
    for split, path in paths.items():
        if path is not None:
            files.append(record(path, split, None, section.sha256))
            tables[split] = table = read_table(path, f"{split} table", section.header)
            files[-1] = files[-1].model_copy(update={"rows": table.frame.height})
    return tables, files


def _labels(section: TableTask, tables: list[Table], report: Report) -> Labels:
    if isinstance(section, MpraTask) and section.replicates and section.label is None:
        mean = [_replicates(table, section).mean(axis=1) for table in tables]
        report["activity"] = f"mean of {', '.join(section.replicates)}"
        return finish_labels(np.concatenate(mean)[:, None], ["activity"], section, tables)
    wanted = section.label
    if wanted is None or isinstance(wanted, str):
        wanted = [tables[0].find("label", wanted, report)]
    return read_labels(tables, wanted, section)


def _rows(
    section: TableTask, split: str, table: Table, lengths: list[int], report: Report
) -> pl.DataFrame:
    n = table.frame.height
    columns: dict[str, pl.Series] = {
        "example_id": _ids(section, split, table),
        "source_row": pl.Series(np.arange(n) + table.first),
    }
    if section.file is None:
        columns["split"] = pl.Series([split] * n)
    elif section.split is not None and section.split.column is not None:
        columns["parted_by"] = table.column(section.split.column)
        if section.split.by == "fold":
            columns["fold"] = table.positions(section.split.column)
    columns |= _places(section, table, lengths, report)
    if section.block is not None:
        columns["group"] = _filled(table, section.block)
    if section.weight is not None:
        columns["weight"] = _weights(table, section.weight)
    if isinstance(section, MpraTask):
        columns |= _of_assay(section, table, report)
    return pl.DataFrame(columns)


def _ids(section: TableTask, split: str, table: Table) -> pl.Series:
    if section.id is None:
        return numbered(split, table.frame.height)
    ids = _filled(table, section.id)
    twice = ids.is_duplicated().arg_true()
    if len(twice):
        raise table.error(int(twice[1]), f"the id {ids[int(twice[0])]!r} occurs more than once.")
    return ids


def _weights(table: Table, name: str) -> pl.Series:
    values = table.numbers(name)
    bad = ((values < 0) | values.is_infinite()).fill_null(value=True).arg_true()
    if len(bad):
        row = int(bad[0])
        raise table.error(
            row, f"{name} is {table.frame[name][row]!r}, expected a weight of 0 or more; fill it."
        )
    return values


def _filled(table: Table, name: str) -> pl.Series:
    text = table.column(name)
    empty = (text.is_null() | (text == "")).arg_true()
    if len(empty):
        raise table.error(int(empty[0]), f"{name} is empty; fill it.")
    return text


def _places(
    section: TableTask, table: Table, lengths: list[int], report: Report
) -> dict[str, pl.Series]:
    """Coordinates, as far as the table has them; 0-based half-open."""
    chrom = table.optional("chrom", section.chrom, report)
    strand = table.optional("strand", section.strand, report)
    found: dict[str, pl.Series] = {}
    if strand is not None:
        found["strand"] = table.column(strand)
    if chrom is None:
        return found
    found["chrom"] = table.column(chrom)
    start = table.optional("start", section.start, report)
    end = table.optional("end", section.end, report)
    if start is not None and end is not None:
        starts, ends = table.positions(start), table.positions(end)
        found["start"], base = zero_based(table, starts, ends, lengths)
        found["end"], report["coordinates"] = ends, f"{base}-based"
    return found


def _of_assay(section: MpraTask, table: Table, report: Report) -> dict[str, pl.Series]:
    """The element of each row, and the standard error of its activity."""
    found: dict[str, pl.Series] = {}
    if section.element is not None:
        name = table.find("id", section.id, report)
        pattern = re.compile(section.element)
        elements = []
        for row, text in enumerate(_filled(table, name)):
            match = pattern.search(text)
            if match is None:
                raise table.error(row, f"{name} is {text!r}, in which {section.element!r} is not.")
            elements.append(match.group(1) if pattern.groups else match.group())
        found["group"] = pl.Series(elements)
    if section.error is not None:
        found["error"] = table.numbers(section.error)
    elif section.replicates:
        values = _replicates(table, section)
        spread = values.std(axis=1, ddof=1) if values.shape[1] > 1 else np.ones(len(values))
        found["error"] = pl.Series(spread / np.sqrt(values.shape[1]))
    return found


def _replicates(table: Table, section: MpraTask) -> npt.NDArray[np.float64]:
    columns = [table.numbers(name).fill_null(float("nan")) for name in section.replicates]
    return np.stack([column.to_numpy() for column in columns], axis=1)


def _weighted(placed: Placed) -> Placed:
    """Weights of mean 1 from standard errors: one over the square, bounded."""
    if "error" not in placed.rows.columns:
        return placed
    error = placed.rows["error"].fill_nan(None)
    known = ((error > 0) & error.is_finite()).fill_null(value=False)
    placed = placed.keep(known.to_numpy(), "examples without a standard error")
    values = placed.rows["error"].to_numpy()
    weight = 1 / np.maximum(values, _LEAST_ERROR * np.median(values)) ** 2
    rows = placed.rows.with_columns(weight=pl.Series(weight / weight.mean()))
    return Placed(rows.drop("error"), placed.sequences, placed.report)
