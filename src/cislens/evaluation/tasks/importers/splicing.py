"""Exons with percent spliced in per tissue: multi-tissue splicing as MTSplice has it.

Cheng et al., Genome Biology 22 (2021): the target is delta logit PSI, each tissue against the mean
of the exon over tissues.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import Target
from cislens.evaluation.tasks.importers.finishing import (
    Report,
    finish,
    numbered,
    parted,
    split_name,
    with_labels,
)
from cislens.evaluation.tasks.importers.labels import Labels
from cislens.evaluation.tasks.importers.reading import Table, read_sequences, read_table, record
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.recipes.task_sections import SplicingTask


def import_splicing(name: str, section: SplicingTask, seed: int) -> Task:
    """A splicing task: the two ends of each exon joined, PSI of every tissue, NaN if not observed.

    Exons observed in no tissue are dropped; test exons are those observed in enough tissues whose
    PSI differs enough between them.

    Raises:
        CislensError: with file and line, for PSI outside its range or ends of another length.
    """
    report: Report = {}
    entry = record(section.file, "exons", None, section.sha256)
    table = read_table(section.file, "splicing table")
    n = table.frame.height
    psi, tissues = _psi(table, section)
    ends = []
    for column, length in zip((section.acceptor, section.donor), section.ends, strict=True):
        codes, letters = read_sequences(table, column)
        report |= {f"{key} ({column})": count for key, count in letters.items()}
        for row, one in enumerate(codes):
            if len(one) != length:
                raise table.error(row, f"{column} has {len(one)} bp, expected {length}.")
        ends.append(codes)
    rows: dict[str, pl.Series] = {
        "example_id": table.column(section.id) if section.id else numbered("exon", n),
        "source_row": pl.Series(np.arange(n) + table.first),
    }
    if section.chrom is not None:
        rows["chrom"] = table.column(section.chrom)
    if section.block is not None:
        rows["group"] = table.column(section.block)
    if section.split.column is not None:
        rows["parted_by"] = table.column(section.split.column)
    joined = [np.concatenate(pair) for pair in zip(*ends, strict=True)]
    placed = with_labels(Placed(pl.DataFrame(rows), joined, report), psi)
    placed = parted(placed, section.split, section, seed)
    placed = _varying_test(placed, section)
    target = Target(names=tissues, transform="delta_logit", unit="PSI", masked=True)
    section = section.model_copy(update={"stranded": True})
    return finish(
        name, section, Labels(psi, "splicing", target), placed,
        [entry.model_copy(update={"rows": n})], parts=section.ends,
        split=split_name(section.split), block=section.block or "cluster of alike exons",
    )  # fmt: skip


def _psi(table: Table, section: SplicingTask) -> tuple[npt.NDArray[np.float64], list[str]]:
    columns = section.tissues or [
        name for name in table.frame.columns if name.endswith(section.psi_suffix)
    ]
    if not columns:
        raise CislensError(
            f"{table.path} has no column that ends in {section.psi_suffix!r}; name the columns of "
            "PSI with `tissues`."
        )
    psi = np.stack([table.numbers(c).fill_null(float("nan")).to_numpy() for c in columns], axis=1)
    if section.percent:
        psi = psi / 100
    outside = (psi < 0) | (psi > 1)
    if outside.any():
        row, tissue = np.argwhere(outside)[0]
        raise table.error(
            int(row), f"{columns[tissue]} is {psi[row, tissue]:g}, expected PSI of 0 to 1 (for 0 "
            "to 100 write `percent: true`)."
        )  # fmt: skip
    return psi, [name.removesuffix(section.psi_suffix) for name in columns]


def _varying_test(placed: Placed, section: SplicingTask) -> Placed:
    psi = np.array(placed.rows["y"].to_list(), np.float64)
    test = (placed.rows["split"] == "test").to_numpy()
    observed = (~np.isnan(psi)).sum(axis=1)
    spread = np.nanmax(np.abs(psi - np.nanmean(psi, axis=1, keepdims=True)), axis=1)
    few = test & (observed < section.least_tissues)
    placed = placed.keep(~few, f"test exons seen in fewer than {section.least_tissues} tissues")
    flat = (test & (spread < section.least_spread))[~few]
    return placed.keep(~flat, f"test exons within {section.least_spread:g} of their mean PSI")
