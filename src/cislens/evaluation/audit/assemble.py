"""From files to the audited table: which column is what, and what every row holds."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.audit.labels import names_by_number, read_labels
from cislens.evaluation.audit.sources import SPLIT_NAMES, Piece, pieces_of, pieces_of_parts
from cislens.evaluation.audit.table import AuditTable, Floats, Places, Strings
from cislens.evaluation.tasks.importers.reading import Table, read_sequences, zero_based
from cislens.evaluation.tasks.task import Task
from cislens.genome.codes import Codes, encode
from cislens.genome.minimizers import Ints

logger = logging.getLogger("cislens")

_LOWER = "[acgtun]"
_ROLES = ("sequence", "label", "split", "chrom", "start", "end", "strand", "block")


@dataclass(frozen=True)
class Reading:
    """How to read a table; columns that are not named are found by their usual names.

    Attributes:
        block: rows of one block are not independent, e.g. a gene.
        labels: whether labels are classes or values; "auto" takes numbers for values where one is
            no whole number or more than 20 differ.
        design: how the split was made.
    """

    sequence: str | None = None
    label: str | None = None
    split: str | None = None
    chrom: str | None = None
    start: str | None = None
    end: str | None = None
    strand: str | None = None
    block: str | None = None
    labels: Literal["auto", "classes", "values"] = "auto"
    stranded: bool = False
    design: str = "unknown"


def open_table(path: Path, how: Reading | None = None) -> AuditTable:
    """The table behind one path: a file, a folder of files, or a task folder.

    Raises:
        CislensError: with file and row, for what cannot be read.
    """
    if (path / "card.yaml").exists():
        return table_of_task(Task.load(path))
    pieces, kind = pieces_of(path)
    return assemble(path.name, pieces, how or Reading(), (f"{path.name} was read as a {kind}",))


def open_parts(files: Mapping[str, Sequence[str]], how: Reading | None = None) -> AuditTable:
    """The table of files named for each split, see `sources.pieces_of_parts`."""
    pieces = pieces_of_parts(files)
    name = " / ".join(piece.table.path.name for piece in pieces)
    return assemble(name, pieces, how or Reading(), ())


def table_of_task(task: Task) -> AuditTable:
    """The examples of a task, the test labels included: an audit judges the task, not a model."""
    card, rows = task.card, task.examples
    classes: list[str] = []
    if card.as_trained().kind in ("binary", "multiclass"):
        name = card.target.names[0]
        classes = list(card.target.classes) or names_by_number(card.target.label_map, name)
    y = np.stack(rows["y"].to_list()).astype(np.float64)
    here = rows.select(pl.col("chrom", "start", "end").is_not_null().all()).row(0)
    places = None
    if all(here):
        places = Places(
            rows["chrom"].to_numpy().astype(np.str_),
            rows["start"].to_numpy(), rows["end"].to_numpy(),
        )  # fmt: skip
    alternates = None
    if rows["alt_sequence"].is_not_null().all():
        alternates = tuple(encode(text) for text in rows["alt_sequence"])
    alleles = rows.select("chrom", "pos", "ref", "alt")
    strand = rows["strand"] if rows["strand"].is_not_null().all() else None
    return AuditTable(
        name=f"{card.name} ({card.revision})", frame=rows,
        split=rows["split"].to_numpy().astype(np.str_), y_NT=y, classes=tuple(classes),
        sequences=tuple(encode(text) for text in rows["sequence"]), alternates=alternates,
        chrom=_text(rows["chrom"]) if here[0] else None, places=places,
        strand=None if strand is None else _text(strand), block=_text(rows["block_id"]),
        variants=alleles if alleles["pos"].is_not_null().all() else None,
        stranded=card.stranded, design=card.split, notes=(f"blocks: {card.block}",),
    )  # fmt: skip


def assemble(
    name: str, pieces: Sequence[Piece], how: Reading, notes: tuple[str, ...]
) -> AuditTable:
    """One table of all files; a role counts only where every file has its column."""
    columns, said = _columns(pieces, how)
    y, classes = read_labels(pieces, columns.get("label"), how.labels)
    parts = [_rows(piece, columns) for piece in pieces]
    chrom, renamed = _one_style(_joined([part.chrom for part in parts]))
    start, end = _joined([part.start for part in parts]), _joined([part.end for part in parts])
    places = None if chrom is None or start is None or end is None else Places(chrom, start, end)
    soft, sequences = _joined([part.soft for part in parts]), None
    if "sequence" in columns:
        sequences = tuple(codes for part in parts for codes in part.sequences)
    alleles = [part.alleles for part in parts if part.alleles is not None]
    design = how.design
    split_column = columns.get("split", how.split or "split")
    frame = pl.concat([_as_read(piece, classes) for piece in pieces], how="diagonal")
    if classes:
        said.append("classes, numbered from 0 in sorted order: " + ", ".join(classes))
    table = AuditTable(
        name=name, frame=frame, split=np.concatenate([part.split for part in parts]), y_NT=y,
        classes=classes, sequences=sequences,
        soft=soft if soft is not None and soft.any() else None,
        chrom=chrom, places=places, strand=_joined([part.strand for part in parts]),
        block=_joined([part.block for part in parts]),
        variants=pl.concat(alleles) if len(alleles) == len(parts) else None,
        whole_blocks=how.block is not None, stranded=how.stranded, design=design,
        split_column=split_column,
        notes=(*notes, *said, *renamed, *(note for part in parts for note in part.notes)),
    )  # fmt: skip
    _require_usable(table)
    return table


def _require_usable(table: AuditTable) -> None:
    if table.sequences is None and table.places is None:
        raise CislensError(
            f"{table.name} has neither a sequence column nor chrom, start and end; name them "
            "(--sequence, --chrom, --start, --end)."
        )
    parts = sorted(set(table.split.tolist()) - {""})
    if parts and ("train" not in parts or len(parts) < 2):
        raise CislensError(
            f"{table.name} has rows for {', '.join(parts)} only; an audit compares train with "
            "valid or test."
        )


def _columns(pieces: Sequence[Piece], how: Reading) -> tuple[dict[str, str], list[str]]:
    """The column of each role, and what was chosen without being named."""
    found: dict[str, str] = {}
    report: dict[str, str | int | float] = {}
    for role in _ROLES:
        wanted = getattr(how, role)
        if (role == "split" and wanted is None and pieces[0].split is not None) or (
            role == "label" and pieces[0].label is not None
        ):
            continue
        names = [piece.table.optional(role, wanted, report) for piece in pieces]
        if None not in names and len(set(names)) == 1:
            found[role] = str(names[0])
    if how.block is None:
        found.pop("block", None)
    said = [f"column of the {role}: {name}" for role, name in found.items()
            if getattr(how, role) is None]  # fmt: skip
    return found, said


@dataclass(frozen=True)
class _Rows:
    split: Strings
    sequences: Sequence[Codes]
    soft: Floats | None
    chrom: Strings | None
    start: Ints | None
    end: Ints | None
    strand: Strings | None
    block: Strings | None
    alleles: pl.DataFrame | None
    notes: list[str]


def _rows(piece: Piece, columns: dict[str, str]) -> _Rows:
    table = piece.table
    n, notes, sequences = table.frame.height, list[str](), list[Codes]()
    soft = None
    if "sequence" in columns:
        sequences, letters = read_sequences(table, columns["sequence"])
        notes += [f"{table.path.name}: {key}: {count}" for key, count in letters.items()]
        text = table.frame[columns["sequence"]]
        lower = text.str.count_matches(_LOWER).cast(pl.Float64).to_numpy()
        soft = lower / np.maximum(text.str.len_bytes().to_numpy(), 1)
    start, end = _ends(table, columns, sequences, notes)
    alleles = _alleles(table, columns)
    if alleles is not None and start is None:
        start = alleles["pos"].to_numpy() - 1
        end = start + np.array([len(ref) for ref in alleles["ref"]])
    split = np.full(n, piece.split or "", dtype="<U5")
    if "split" in columns:
        split = _splits(table, columns["split"])
    return _Rows(
        split, sequences, soft, _column(table, columns, "chrom"), start, end,
        _column(table, columns, "strand"), _column(table, columns, "block"), alleles, notes,
    )  # fmt: skip


def _ends(
    table: Table, columns: dict[str, str], sequences: Sequence[Codes], notes: list[str]
) -> tuple[Ints | None, Ints | None]:
    if not {"chrom", "start", "end"} <= set(columns):
        return None, None
    starts, ends = table.positions(columns["start"]), table.positions(columns["end"])
    if sequences:
        starts, base = zero_based(table, starts, ends, [len(codes) for codes in sequences])
        notes.append(f"{table.path.name}: intervals count from {base}")
    bad = ((starts < 0) | (starts >= ends)).arg_true()
    if len(bad):
        row = int(bad[0])
        raise table.error(
            row, f"start {starts[row]} and end {ends[row]}, expected 0 <= start < end (0-based)."
        )
    return starts.to_numpy(), ends.to_numpy()


def _alleles(table: Table, columns: dict[str, str]) -> pl.DataFrame | None:
    if "chrom" not in columns or not {"pos", "ref", "alt"} <= set(table.frame.columns):
        return None
    return table.frame.select(
        chrom=columns["chrom"], pos=table.positions("pos"),
        ref=pl.col("ref").str.to_uppercase(), alt=pl.col("alt").str.to_uppercase(),
    )  # fmt: skip


def _splits(table: Table, name: str) -> Strings:
    text = table.column(name).str.to_lowercase()
    unknown = (text.is_null() | ~text.is_in(list(SPLIT_NAMES))).fill_null(value=True).arg_true()
    if len(unknown):
        row = int(unknown[0])
        raise table.error(
            row, f"{name} is {table.frame[name][row]!r}, expected train, valid or test; name the "
            "column of the split with --split, or rename this one if it is no split.",
        )  # fmt: skip
    return text.replace_strict(dict(SPLIT_NAMES)).to_numpy().astype(np.str_)


def _column(table: Table, columns: dict[str, str], role: str) -> Strings | None:
    if role not in columns:
        return None
    text = table.column(columns[role])
    if role == "strand":  # some tables leave it empty, others write a dot
        text = text.fill_null(".").replace("", ".")
    empty = (text.is_null() | (text == "")).fill_null(value=True).arg_true()
    if len(empty):
        raise table.error(int(empty[0]), f"{columns[role]} is empty; fill it or remove the line.")
    return _text(text)


def _text(series: pl.Series) -> Strings:
    return series.to_numpy().astype(np.str_)


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found and len(found) == len(parts) else None


def _one_style(chrom: Strings | None) -> tuple[Strings | None, list[str]]:
    """`1` becomes `chr1` where `chr1` is there too: else a leak between files would go unseen."""
    if chrom is None:
        return None, []
    names = set(np.unique(chrom).tolist())
    twins = {name: f"chr{name}" for name in names if f"chr{name}" in names}
    if not twins:
        return chrom, []
    known, place = np.unique(chrom, return_inverse=True)
    renamed = np.array([twins.get(name, name) for name in known.tolist()])[place]
    return renamed, [f"chromosomes {', '.join(sorted(twins))} were read as chr1, ..."]


def _as_read(piece: Piece, classes: tuple[str, ...]) -> pl.DataFrame:
    frame = piece.table.frame
    if piece.label is not None and "label" not in frame.columns:
        frame = frame.with_columns(label=pl.lit(piece.label))
    return frame.with_columns(
        _file=pl.lit(str(piece.table.path)),
        _row=pl.int_range(pl.len(), dtype=pl.Int64) + piece.table.first,
    )
