"""A task: a card and its examples, with the labels of the test part kept closed."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import TaskCard
from cislens.files import atomic_path, read_parquet, require_file, write_atomic
from cislens.genome.codes import Codes, decode, encode, gc_content, reverse_complement
from cislens.recipes.reading import read_recipe, write_recipe

SPLITS = ("train", "valid", "test")
SCHEMA: dict[str, pl.DataType] = {
    "example_id": pl.String(),
    "chrom": pl.String(),  # nullable, as start, end and strand
    "start": pl.Int64(),
    "end": pl.Int64(),
    "strand": pl.String(),
    "sequence": pl.String(),  # upper case, as read on the strand that the task judges
    "seq_hash": pl.String(),
    "length": pl.Int64(),
    "gc": pl.Float64(),
    "y": pl.List(pl.Float32()),
    "split": pl.String(),
    "cluster_id": pl.String(),  # examples of one cluster share a split
    "block_id": pl.String(),  # unit of the bootstrap and of the training subsets
}


@dataclass(frozen=True)
class Fold:
    """The examples of one split, in the order of their ids.

    `labels` is (n, T) float32, and None for the test split: its labels are read by
    `ResultStore.test_labels` once every arm's configuration is frozen.
    """

    ids: tuple[str, ...]
    sequences: tuple[Codes, ...]
    blocks: npt.NDArray[np.str_]
    labels: npt.NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[np.int64]) -> "Fold":
        """The fold of some of the examples."""
        return Fold(
            tuple(self.ids[row] for row in rows),
            tuple(self.sequences[row] for row in rows),
            self.blocks[rows],
            None if self.labels is None else self.labels[rows],
        )


@dataclass(frozen=True)
class Task:
    """A card and its examples (columns of `SCHEMA`, sorted by `example_id`)."""

    card: TaskCard
    examples: pl.DataFrame

    def __post_init__(self) -> None:
        _check(self.card, self.examples)

    @cached_property
    def task_hash(self) -> str:
        """sha256 of the card and of every example; does not depend on the order of rows."""
        digest = hashlib.sha256()
        card = self.card.model_dump(mode="json")
        digest.update(json.dumps(card, sort_keys=True).encode())
        columns = ("example_id", "seq_hash", "strand", "split", "cluster_id", "block_id", "y")
        for row in self.examples.select(columns).iter_rows():
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def fold(self, split: str) -> Fold:
        """The examples of train, valid or test; test comes without labels."""
        frame = self.examples.filter(pl.col("split") == split)
        return Fold(
            tuple(frame["example_id"]),
            tuple(encode(sequence) for sequence in frame["sequence"]),
            frame["block_id"].to_numpy().astype(np.str_),
            None if split == "test" else _labels(frame),
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `card.yaml`, `examples.parquet` and `task_hash` into a folder, atomically."""
        with atomic_path(folder) as aside:
            aside.mkdir()
            write_atomic(aside / "card.yaml", write_recipe(self.card))
            self.examples.write_parquet(aside / "examples.parquet")
            write_atomic(aside / "task_hash", self.task_hash + "\n")
        return Path(folder)

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> "Task":
        """Read a saved task.

        Raises:
            MissingFileError: if the folder or one of its files is missing.
            CislensError: for an unknown key of the card, columns that are missing or of another
                type, or content that does not match the recorded hash.
        """
        folder = require_file(folder, "task folder")
        frame = read_parquet(folder / "examples.parquet", "examples of the task")
        task = Task(read_recipe(folder / "card.yaml", TaskCard), frame)
        recorded = require_file(folder / "task_hash", "hash of the task").read_text().strip()
        if task.task_hash != recorded:
            raise CislensError(
                f"{folder} was changed after it was written: its content has hash "
                f"{task.task_hash[:12]}, recorded is {recorded[:12]}; build the task again."
            )
        return task


def make_task(card: TaskCard, rows: pl.DataFrame, sequences: Sequence[Codes]) -> Task:
    """A task from rows with `example_id, y, split, cluster_id, block_id` and their sequences.

    Coordinates and strand are kept where the rows have them; hash, length and GC are computed.
    """
    frame = rows.with_columns(
        sequence=pl.Series([decode(codes) for codes in sequences], dtype=pl.String),
        seq_hash=pl.Series([sequence_hash(codes) for codes in sequences], dtype=pl.String),
        length=pl.Series([len(codes) for codes in sequences], dtype=pl.Int64),
        gc=pl.Series([float(gc_content(codes)) for codes in sequences], dtype=pl.Float64),
    )
    for name, dtype in SCHEMA.items():
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, dtype=dtype).alias(name))
    frame = frame.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    return Task(card, frame.sort("example_id"))


def sequence_hash(codes: Codes) -> str:
    """128 bits, in hex, that a sequence shares with its reverse complement only."""
    both = min(codes.tobytes(), reverse_complement(codes).tobytes())
    return hashlib.blake2b(both, digest_size=16).hexdigest()


def _labels(frame: pl.DataFrame) -> npt.NDArray[np.float32]:
    return np.stack(frame["y"].to_list()).astype(np.float32)


def _check(card: TaskCard, frame: pl.DataFrame) -> None:
    name = card.name
    wrong = [key for key, dtype in SCHEMA.items() if frame.schema.get(key) != dtype]
    if wrong:
        raise CislensError(f"task {name}: examples lack the column(s) {', '.join(wrong)} or type.")
    if frame["example_id"].n_unique() < len(frame):
        twice = frame["example_id"].filter(frame["example_id"].is_duplicated())[0]
        raise CislensError(f"task {name}: example_id {twice!r} occurs more than once.")
    if not frame["example_id"].is_sorted():
        raise CislensError(f"task {name}: examples must be sorted by example_id.")
    outputs = len(card.target.names)
    if not (frame["y"].list.len() == outputs).all():
        raise CislensError(f"task {name}: every example needs {outputs} label(s).")
    y = _labels(frame)
    if not np.isfinite(y).all():
        raise CislensError(f"task {name}: {int((~np.isfinite(y)).sum())} labels are not finite.")
    if card.kind == "binary" and not np.isin(y, (0, 1)).all():
        raise CislensError(f"task {name}: labels of a binary task are 0 and 1.")
    for split in SPLITS:
        part = y[(frame["split"] == split).to_numpy()]
        constant = (part == part[:1]).all(axis=0)
        if len(part) < 2 or constant.any():
            first = card.target.names[int(constant.argmax())]
            raise CislensError(
                f"task {name}: the {split} split has {len(part)} examples and {first!r} is the "
                "same in all of them; a task needs labels that vary in train, valid and test."
            )
    shared = frame.group_by("cluster_id").agg(pl.col("split").n_unique())
    broken = shared.filter(pl.col("split") > 1)
    if len(broken):
        raise CislensError(
            f"task {name}: {len(broken)} clusters lie in more than one split, e.g. "
            f"{broken['cluster_id'].min()!r}; similar sequences would be tested after training."
        )
    copied = frame.group_by("seq_hash").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)
    if len(copied):
        raise CislensError(
            f"task {name}: {len(copied)} sequences (or their reverse complements) lie in more "
            "than one split; drop them or part the examples by homology."
        )
