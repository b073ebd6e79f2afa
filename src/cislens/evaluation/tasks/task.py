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
from cislens.evaluation.targets import metric_labels, site_mask
from cislens.evaluation.tasks.card import TaskCard
from cislens.files import atomic_path, read_parquet, require_file, write_atomic
from cislens.genome.codes import Codes, decode, encode, gc_content, reverse_complement
from cislens.recipes.reading import read_recipe, write_recipe

SPLITS = ("train", "valid", "test")
_FILES = ("card.yaml", "examples.parquet", "task_hash")
SITES = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64}))
SCHEMA: dict[str, pl.DataType] = {
    "example_id": pl.String(),
    "chrom": pl.String(),  # nullable, as all columns that say so below
    "start": pl.Int64(),  # nullable, 0-based
    "end": pl.Int64(),  # nullable, half-open
    "strand": pl.String(),  # nullable
    "sequence": pl.String(),  # upper case, as read on the strand that the task judges
    "alt_sequence": pl.String(),  # of a variant: the same window with the alternate allele
    "seq_hash": pl.String(),
    "length": pl.Int64(),
    "gc": pl.Float64(),
    "y": pl.List(pl.Float32()),
    "weight": pl.Float64(),  # nullable
    "split": pl.String(),
    "fold": pl.Int64(),  # nullable
    "cluster_id": pl.String(),  # examples of one cluster share a split
    "block_id": pl.String(),  # unit of the bootstrap and of the training subsets
    "match_group": pl.String(),  # nullable; a positive and the controls matched to it
    "pos": pl.Int64(),  # nullable, 1-based
    "ref": pl.String(),  # nullable
    "alt": pl.String(),  # nullable
    "tss_dist": pl.Float64(),  # nullable
    "sites": SITES,  # nullable; 0-based half-open in the sequence
    "source_row": pl.Int64(),  # nullable, 1-based line of the source
}


@dataclass(frozen=True)
class Fold:
    """The examples of one split, in the order of their ids.

    `labels` is (n, T) float32, and None for the test split: its labels are read by
    `ResultStore.test_labels` once every arm's configuration is frozen. `alternates` are the
    alternate alleles' sequences of a variant task, else None. `weights` (n,) and `tss_dist` (n,)
    are None where the task has none.
    """

    ids: tuple[str, ...]
    sequences: tuple[Codes, ...]
    blocks: npt.NDArray[np.str_]
    labels: npt.NDArray[np.float32] | None
    alternates: tuple[Codes, ...] | None = None
    weights: npt.NDArray[np.float64] | None = None
    tss_dist: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[np.int64]) -> "Fold":
        """The fold of some of the examples."""
        return Fold(
            tuple(self.ids[row] for row in rows),
            tuple(self.sequences[row] for row in rows),
            self.blocks[rows],
            None if self.labels is None else self.labels[rows],
            None if self.alternates is None else tuple(self.alternates[row] for row in rows),
            None if self.weights is None else self.weights[rows],
            None if self.tss_dist is None else self.tss_dist[rows],
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
        card = self.card.model_dump(mode="json", exclude={"audit"})
        digest.update(json.dumps(card, sort_keys=True).encode())
        for row in self.examples.select(*SCHEMA).iter_rows():
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def fold(self, split: str) -> Fold:
        """The examples of train, valid or test; test comes without labels."""
        frame = self._test() if split == "test" else self.examples.filter(pl.col("split") == split)
        return Fold(
            tuple(frame["example_id"]),
            tuple(encode(sequence) for sequence in frame["sequence"]),
            frame["block_id"].to_numpy().astype(np.str_),
            None if split == "test" else _labels(frame),
            _codes(frame["alt_sequence"]) if self.card.kind == "variant" else None,
            _numbers(frame["weight"]),
            _numbers(frame["tss_dist"]),
        )

    def truth(self) -> pl.DataFrame:
        """`example_id, y, block_id, match_group` of the test split, `y` as metrics compare it.

        For the scorer alone: everybody else reads `fold`, whose test part has no labels.
        """
        test = self._test()
        if self.card.kind == "attribution":
            y = site_mask(test["sites"].to_list(), int(test["length"][0]))
        else:
            y = metric_labels(self.card, _labels(test))
        return test.select(
            "example_id",
            pl.Series("y", y.tolist(), dtype=pl.List(pl.Float32)),
            "block_id",
            "match_group",
        )

    def _test(self) -> pl.DataFrame:
        """The examples that are scored; of an attribution task those with a site to be found."""
        test = self.examples.filter(pl.col("split") == "test")
        with_site = pl.col("sites").list.len() > 0
        return test.filter(with_site) if self.card.kind == "attribution" else test

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `card.yaml`, `examples.parquet` and `task_hash` into a folder, atomically.

        Raises:
            CislensError: as `require_place`.
        """
        require_place(folder)
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
        hashed = require_file(folder / "task_hash", "hash of the task")
        recorded = hashed.read_text(errors="replace").strip()
        if task.task_hash != recorded:
            raise CislensError(
                f"{folder} was changed after it was written: its content has hash "
                f"{task.task_hash[:12]}, recorded is {recorded[:12]}; build the task again."
            )
        return task


def require_place(folder: str | os.PathLike[str]) -> None:
    """Refuse to write a task where something else is; an earlier task may be replaced.

    Raises:
        CislensError: naming what is there.
    """
    path = Path(folder)
    if path.is_dir():
        other = sorted({each.name for each in path.iterdir()} - set(_FILES))
    else:
        other = [path.name] if path.exists() else []
    if other:
        raise CislensError(
            f"{path} holds {other[0]!r}, which is no part of a task; choose another folder, it "
            "would be replaced."
        )


def make_task(
    card: TaskCard,
    rows: pl.DataFrame,
    sequences: Sequence[Codes],
    alternates: Sequence[Codes] | None = None,
) -> Task:
    """A task from rows with `example_id, y, split, cluster_id, block_id` and their sequences.

    Other columns of `SCHEMA` are kept where the rows have them; hash, length and GC are computed.

    Args:
        alternates: sequences with the alternate allele, for a variant task.
    """
    if alternates is not None:
        spelled = pl.Series([decode(codes) for codes in alternates], dtype=pl.String)
        rows = rows.with_columns(alt_sequence=spelled)
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


def _codes(column: pl.Series) -> tuple[Codes, ...]:
    return tuple(encode(sequence) for sequence in column)


def _numbers(column: pl.Series) -> npt.NDArray[np.float64] | None:
    return None if column.null_count() else column.to_numpy()


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
    if 0 < frame["weight"].null_count() < len(frame):
        at = frame.filter(pl.col("weight").is_null())["example_id"][0]
        raise CislensError(f"task {name}: {at!r} has no weight and others have; give all or none.")
    _check_sequences(card, frame)
    _check_labels(card, frame)
    _check_parts(name, frame)


def _check_sequences(card: TaskCard, frame: pl.DataFrame) -> None:
    length = frame["sequence"].str.len_bytes()
    if card.window is not None and not (length == card.window).all():
        at = int((length != card.window).arg_max() or 0)
        raise CislensError(
            f"task {card.name}: example {frame['example_id'][at]!r} has {length[at]} bp, the card "
            f"declares {card.window}; crop it, or leave `window` out of the card."
        )
    if card.kind == "attribution" and length.n_unique() > 1:
        raise CislensError(f"task {card.name}: attributions need sequences of one length.")
    if card.kind != "variant":
        return
    bad = frame.filter(
        (pl.col("alt_sequence").str.len_bytes() != length).fill_null(value=True)
        | (pl.col("alt_sequence") == pl.col("sequence"))
    )
    if len(bad):
        raise CislensError(
            f"task {card.name}: variant {bad['example_id'][0]!r} needs an alternate sequence, as "
            "long as the reference sequence and different from it."
        )


def _check_labels(card: TaskCard, frame: pl.DataFrame) -> None:
    name, outputs = card.name, len(card.target.names)
    if not (frame["y"].list.len() == outputs).all():
        raise CislensError(f"task {name}: every example needs {outputs} label(s).")
    y = _labels(frame)
    missing = ~np.isfinite(y)
    if card.target.masked:
        missing &= ~np.isnan(y)
    if missing.any():
        first = frame["example_id"][int(missing.any(1).argmax())]
        raise CislensError(
            f"task {name}: {int(missing.sum())} labels are not finite, e.g. of {first!r}; drop "
            "these examples, or set target.masked for labels that were not measured."
        )
    known = y[~np.isnan(y)]
    if card.as_trained().ranked and not np.isin(known, (0, 1)).all():
        raise CislensError(f"task {name}: labels of a {card.kind} task are 0 and 1.")
    if card.kind == "multiclass" and not np.isin(known, range(card.outputs)).all():
        raise CislensError(f"task {name}: labels must be class numbers below {card.outputs}.")
    if card.kind == "splicing" and ((known < 0) | (known > 1)).any():
        raise CislensError(f"task {name}: percent spliced in lies between 0 and 1.")
    for split in SPLITS:
        _check_variation(card, split, y[(frame["split"] == split).to_numpy()])
    if card.kind == "attribution":
        of_test = frame.filter(pl.col("split") == "test")["sites"].list.len()
        if not (of_test > 0).any():
            raise CislensError(f"task {name}: no test example has a site to be found.")


def _check_variation(card: TaskCard, split: str, y: npt.NDArray[np.float32]) -> None:
    classes = card.target.classes if card.kind == "multiclass" else []
    absent = [label for number, label in enumerate(classes) if not (y == number).any()]
    if absent:
        raise CislensError(
            f"task {card.name}: the {split} split has no example of class {absent[0]!r}."
        )
    spread = [column[~np.isnan(column)] for column in y.T]
    constant = [len(column) < 2 or (column == column[0]).all() for column in spread]
    if len(y) < 2 or any(constant):
        first = card.target.names[constant.index(True)]
        raise CislensError(
            f"task {card.name}: the {split} split has {len(y)} examples and {first!r} is the "
            "same in all of them; a task needs labels that vary in train, valid and test."
        )


def _check_parts(name: str, frame: pl.DataFrame) -> None:
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
