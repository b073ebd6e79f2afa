"""Dataset folders of GUE (Zhou et al., DNABERT-2, ICLR 2024)."""

from pathlib import Path

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
from cislens.evaluation.tasks.importers.labels import read_labels
from cislens.evaluation.tasks.importers.reading import read_sequences, read_table, record
from cislens.evaluation.tasks.parting import carve, draw
from cislens.evaluation.tasks.placing import Placed
from cislens.evaluation.tasks.task import Task
from cislens.files import require_file
from cislens.recipes.task_sections import GueTask

_SPLITS = {"train": "train", "dev": "valid", "test": "test"}
_CARVED = {"train": 0.8, "valid": 0.2}


def import_gue(name: str, section: GueTask, seed: int) -> Task:
    """A task from a GUE folder; dev is the valid part.

    There are no coordinates, so what of valid and test has a homolog in an earlier part is found
    by alignment, dropped and counted. Where the train file is missing, `without_train: carve`
    divides dev by homology and marks the task's revision.
    """
    found = _files(section.folder)
    if "train" not in found:
        if section.without_train == "refuse":
            raise CislensError(
                f"{section.folder} has no train.csv; with `without_train: carve` train is carved "
                "from dev, and the task's revision says so."
            )
        section = section.model_copy(update={"revision": f"{section.revision}+train-from-dev"})
    tables, files, parts, sequences = [], [], [], []
    report: Report = {}
    for split, path in found.items():
        entry = record(path, split, None, section.sha256)
        table = read_table(path, f"{split} file of GUE")
        codes, letters = read_sequences(table, "sequence")
        files.append(entry.model_copy(update={"rows": len(codes)}))
        report |= {f"{key} ({split})": count for key, count in letters.items()}
        parts.append(pl.DataFrame({
            "example_id": numbered(split, len(codes)), "split": [_SPLITS[split]] * len(codes),
            "source_row": [row + table.first for row in range(len(codes))],
        }))  # fmt: skip
        tables.append(table)
        sequences += codes
    labels = read_labels(tables, ["label"], section)
    placed = fitted(with_labels(Placed(pl.concat(parts), sequences, report), labels.y), section)
    if "train" not in found:
        placed = carve(draw(placed, section.limit, seed), "valid", _CARVED, seed)
    placed = parted(placed, None, section, seed)
    return finish(name, section, labels, placed, files)


def _files(folder: Path) -> dict[str, Path]:
    require_file(folder, "GUE folder")
    found = {}
    for split in _SPLITS:
        for path in (folder / f"{split}.csv", folder / f"{split}.csv.gz"):
            if path.exists():
                found[split] = path
    for split in ("dev", "test"):
        if split not in found:
            raise CislensError(f"{folder} has no {split}.csv or {split}.csv.gz.")
    return found
