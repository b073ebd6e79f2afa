"""Labelled FASTA as the Nucleotide Transformer's tasks have it: `>chrom:start-end|label`."""

import re
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.importers.finishing import (
    Report,
    finish,
    fitted,
    numbered,
    parted,
    split_name,
    with_labels,
)
from cislens.evaluation.tasks.importers.labels import read_labels
from cislens.evaluation.tasks.importers.reading import Table, read_sequences, record, zero_based
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.files import require_file
from cislens.recipes.task_basics import Parting
from cislens.recipes.task_sections import FastaTask
from cislens.untrusted import plain_bytes

_HEADER = re.compile(
    r"^(?:(?P<name>[^|]*?)\s)?(?P<chrom>[^:|\s]+):(?P<start>\d+)-(?P<end>\d+)"
    r"(?:\((?P<strand>[+-])\))?\|(?P<label>.+)$"
)


def import_fasta(name: str, section: FastaTask, seed: int) -> Task:
    """A task from labelled FASTA files; see `FastaTask`.

    Whether coordinates count from 0 or 1 is told by the length of the sequences.
    """
    paths: dict[str, Path | None] = {
        "row": section.file, "train": section.train, "valid": section.valid, "test": section.test,
    }  # fmt: skip
    given = {split: path for split, path in paths.items() if path is not None}
    if set(given) not in ({"row"}, {"train", "test"}, {"train", "valid", "test"}):
        raise CislensError(f"task {name}: name one `file`, or `train` and `test` (and `valid`).")
    tables, files, parts, sequences = [], [], [], []
    report: Report = {}
    for split, path in given.items():
        entry = record(path, split, None, section.sha256)
        table = _records(path)
        files.append(entry.model_copy(update={"rows": table.frame.height}))
        codes, letters = read_sequences(table, "sequence")
        start, base = zero_based(
            table, table.positions("start"), table.positions("end"), [len(one) for one in codes]
        )
        report |= {f"{key} ({split})": found for key, found in letters.items()}
        report[f"coordinates ({split})"] = f"{base}-based"
        rows = table.frame.select("chrom", "strand", end=table.positions("end"), start=start)
        rows = rows.with_columns(
            example_id=numbered(split, len(codes)), source_row=table.frame["line"].cast(pl.Int64)
        )
        parts.append(rows if split == "row" else rows.with_columns(split=pl.lit(split)))
        tables.append(table)
        sequences += codes
    labels = read_labels(tables, ["label"], section)
    placed = fitted(with_labels(Placed(pl.concat(parts), sequences, report), labels.y), section)
    how = None if section.file is None else section.split or Parting()
    placed = parted(placed, how, section, seed)
    return finish(
        name, section, labels, placed, files, split=split_name(how), block="20 kb of genome"
    )


class _Records(Table):
    """Rows of a FASTA file; an error names the line of the header."""

    def error(self, row: int, what: str) -> CislensError:
        return CislensError(f"{self.path} line {self.frame['line'][row]}: {what}")


def _records(path: Path) -> Table:
    raw = plain_bytes(require_file(path, "labelled FASTA"))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise CislensError(f"{path} is no readable FASTA file: {error}.") from None
    found: list[dict[str, str]] = []
    sequences: list[list[str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(">"):
            match = _HEADER.match(line[1:].strip())
            if match is None:
                raise CislensError(
                    f"{path} line {number}: header {line!r}, expected >chrom:start-end|label."
                )
            found.append({**match.groupdict(), "line": str(number)})
            sequences.append([])
        elif line.strip():
            if not found:
                raise CislensError(f"{path} line {number}: a sequence before the first header.")
            sequences[-1].append(line.strip())
    if not found:
        raise CislensError(f"{path} holds no record.")
    frame = pl.DataFrame(found, schema=dict.fromkeys((*_HEADER.groupindex, "line"), pl.String))
    return _Records(path, frame.with_columns(
        sequence=pl.Series(np.array(["".join(lines) for lines in sequences], object).tolist())
    ))  # fmt: skip
