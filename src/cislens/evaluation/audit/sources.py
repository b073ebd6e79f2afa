"""Files and folders that an audit reads: tables, BED, FASTA, Genomic Benchmarks, GUE, tasks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pysam

from cislens.errors import CislensError
from cislens.evaluation.tasks.importers.reading import Table, read_table
from cislens.files import read_parquet, require_file
from cislens.genome.intervals import read_intervals

SPLIT_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout"), "test"),
}
_BED = (".bed", ".narrowpeak", ".broadpeak")
_FASTA = (".fa", ".fasta", ".fna", ".fas")
_TABLES = (".csv", ".tsv", ".txt", ".tab", ".parquet")
# `chr1:100-300(+)|positive`, all but the bar and what follows it optional.
_HEADER = re.compile(
    r"^(?:.*?(?P<chrom>[^\s:|]+):(?P<start>\d+)-(?P<end>\d+)(?:\((?P<strand>[+-])\))?)?"
    r"(?:[^|]*\|(?P<label>.+))?"
)


@dataclass(frozen=True)
class Piece:
    """One file: its rows as text, and the split and class that the whole of it has, if any."""

    table: Table
    split: str | None = None
    label: str | None = None


def pieces_of(path: Path) -> tuple[list[Piece], str]:
    """The files behind one path and, in words, what it was taken for.

    Raises:
        MissingFileError: if nothing is there.
        CislensError: if it is nothing that an audit reads.
    """
    require_file(path, "table to audit")
    if path.is_file():
        return [Piece(read_file(path))], "table"
    classes = _class_files(path)
    if classes:
        _require_same_classes(path, classes)
        pieces = [
            Piece(read_file(file), split, label)
            for split, files in classes.items()
            for label, file in files.items()
        ]
        return pieces, "folder of classes (Genomic Benchmarks)"
    parts = {
        SPLIT_NAMES[_stem(file)]: file
        for file in sorted(path.iterdir())
        if file.is_file() and _stem(file) in SPLIT_NAMES and _known(file)
    }
    if {"train"} < set(parts):
        return pieces_of_parts({split: [str(file)] for split, file in parts.items()}), (
            "folder of a file per split"
        )
    raise CislensError(
        f"{path} is no folder that can be audited: expected card.yaml (a task), train/ and test/ "
        "with a file per class (Genomic Benchmarks), or train.csv and test.csv; it holds "
        f"{', '.join(sorted(entry.name for entry in path.iterdir())[:6]) or 'nothing'}."
    )


def pieces_of_parts(files: Mapping[str, Sequence[str]]) -> list[Piece]:
    """The files of each split; `NAME=FILE` gives all rows of a file the class NAME.

    Raises:
        CislensError: if a file is named for two splits, or train or a judged part is missing.
    """
    if "train" not in files or len(files) < 2:
        raise CislensError("name files for train and for valid or test (--train A --test B).")
    seen: dict[Path, str] = {}
    pieces = []
    for split, names in files.items():
        for text in names:
            label, equals, rest = text.partition("=")
            whole = not equals or Path(text).exists()
            path = Path(text if whole else rest)
            found = require_file(path, f"{split} file").resolve()
            if seen.setdefault(found, split) != split:
                raise CislensError(
                    f"{path} is named for {seen[found]} and for {split}; rows that choose a model "
                    "or train it cannot test it. Name another file."
                )
            pieces.append(Piece(read_file(path), split, None if whole else label))
    if len({piece.label is None for piece in pieces}) > 1:
        raise CislensError("name a class for every file (CLASS=FILE), or for none.")
    return pieces


def read_file(path: Path) -> Table:
    """Rows as text of a CSV, TSV, parquet, BED, narrowPeak or FASTA file, plain or gzip."""
    kind = _suffix(path)
    if kind in _BED:
        frame = read_intervals(path)
        return Table(path, frame.select(pl.all().cast(pl.String)), 1)
    if kind in _FASTA:
        return _read_fasta(path)
    if kind == ".parquet":
        frame = read_parquet(path, "table to audit")
        simple = [column for column in frame if not column.dtype.is_nested()]
        return Table(path, pl.DataFrame([column.cast(pl.String) for column in simple]), 1)
    return read_table(path, "table to audit")


def _read_fasta(path: Path) -> Table:
    loudness = pysam.set_verbosity(0)
    try:
        with pysam.FastxFile(str(path)) as records:
            found = [(record.name, record.comment, record.sequence) for record in records]
    except (OSError, ValueError) as error:
        raise CislensError(f"{path} is no readable FASTA file: {error}.") from None
    finally:
        pysam.set_verbosity(loudness)
    if not found:
        raise CislensError(f"{path} holds no FASTA record; records begin with `>`.")
    rows = []
    for name, comment, sequence in found:
        match = _HEADER.match(f"{name} {comment}" if comment else str(name))
        rows.append({"name": name, **(match.groupdict() if match else {}), "sequence": sequence})
    frame = pl.DataFrame(rows, infer_schema_length=None)
    given = [column for column in frame.columns if frame[column].is_not_null().any()]
    return _Records(path, frame.select(pl.col(given).cast(pl.String)), 1)


class _Records(Table):
    """Records of a FASTA file; an error names the record."""

    def error(self, row: int, what: str) -> CislensError:
        return CislensError(f"{self.path} record {row + 1} ({self.frame['name'][row]}): {what}")


def _class_files(path: Path) -> dict[str, dict[str, Path]]:
    """Files by split and class of a folder of folders of classes, in sorted order."""
    found: dict[str, dict[str, Path]] = {}
    for folder in sorted(path.iterdir()):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is not None and folder.is_dir():
            files = [file for file in sorted(folder.iterdir()) if _known(file)]
            if files:
                found[split] = {_stem(file, lower=False): file for file in files}
    return dict(sorted(found.items(), key=lambda item: item[0] != "train"))


def _require_same_classes(path: Path, classes: Mapping[str, Mapping[str, Path]]) -> None:
    if "train" not in classes or len(classes) < 2:
        raise CislensError(f"{path} has {', '.join(classes)}/ only; train/ and test/ are needed.")
    expected = list(classes["train"])
    for split, files in classes.items():
        if list(files) != expected:
            raise CislensError(
                f"{path}: the classes of {split}/ are {', '.join(files)}, those of train/ "
                f"{', '.join(expected)}; each split needs a file of every class."
            )


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".bgz")
    return Path(name).suffix


def _stem(path: Path, lower: bool = True) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".bgz")
    stem = Path(name).stem
    return stem.lower() if lower else stem


def _known(path: Path) -> bool:
    return path.is_file() and _suffix(path) in (*_BED, *_FASTA, *_TABLES)
