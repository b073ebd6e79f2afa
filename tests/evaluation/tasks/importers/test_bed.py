import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import decode, reverse_complement
from cislens.genome.reference import Genome

Make = Callable[..., Any]
Write = Callable[..., Path]
PARTS = ("train",) * 6 + ("validation",) * 2 + ("test",) * 2


def rows(labels: list[object]) -> list[tuple[object, ...]]:
    return [
        ("chr1", 500 * n, 500 * n + 120, PARTS[n % 10], label, "+-"[n // 10 % 2])
        for n, label in enumerate(labels)
    ]


HEADER = ("chromosome", "start", "end", "split", "label", "strand")


def test_columns_by_header_or_by_place(make: Make, write: Write, genome: Genome) -> None:
    table = rows([number // 2 % 2 for number in range(100)])
    named = make("bed_labels", file=str(write("a.bed", HEADER, *table)), genome=str(genome.path))
    placed = make("bed_labels", file=str(write("b.bed", *table)), genome=str(genome.path),
                  columns=["chrom", "start", "end", "split", "label", "strand"])  # fmt: skip
    assert named.examples.drop("source_row").equals(placed.examples.drop("source_row"))
    assert named.card.kind == "binary"
    assert dict(named.examples["split"].value_counts().iter_rows()) == {
        "train": 60, "valid": 20, "test": 20,
    }  # fmt: skip
    row = named.examples.row(15, named=True)
    assert row["sequence"] == decode(genome.fetch("chr1", row["start"], row["end"]))
    with pytest.raises(CislensError, match=r"has 6 columns, the header of the recipe 5"):
        make("bed_labels", file=str(write("b.bed", *table)), genome=str(genome.path),
             columns=["chrom", "start", "end", "split", "label"])  # fmt: skip


def test_a_stranded_task_reads_the_strand(make: Make, write: Write, genome: Genome) -> None:
    table = write("a.bed", HEADER, *rows([number // 2 % 2 for number in range(100)]))
    task = make("bed_labels", file=str(table), genome=str(genome.path), stranded=True)
    for row in task.examples.iter_rows(named=True):
        codes = genome.fetch("chr1", row["start"], row["end"])
        expected = reverse_complement(codes) if row["strand"] == "-" else codes
        assert row["sequence"] == decode(expected)


def test_labels_in_lists(make: Make, write: Write, genome: Genome) -> None:
    values = [f"{number / 7},{number % 5}" for number in range(100)]
    quoted = [f'"{value}"' for value in values]
    table = write("a.bed", HEADER, *rows(quoted))
    task = make("bed_labels", file=str(table), genome=str(genome.path), names=["a", "b"])
    assert (task.card.kind, task.card.target.names) == ("multi_regression", ["a", "b"])
    numbers = (["0,2", "1", "", "0,1,2", "2", "0", "1,2"] * 15)[:100]
    table = write("b.bed", HEADER, *rows([f'"{value}"' for value in numbers]))
    with pytest.raises(CislensError, match="differ in length"):
        make("bed_labels", file=str(table), genome=str(genome.path))
    task = make("bed_labels", file=str(table), genome=str(genome.path), names=["a", "b", "c"])
    assert task.card.kind == "multilabel"
    ordered = task.examples.sort("source_row")["y"].to_list()
    assert ordered[:4] == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]
    with pytest.raises(CislensError, match=r"b.bed line 2: label names output 2 of 2"):
        make("bed_labels", file=str(table), genome=str(genome.path), names=["a", "b"])


def test_labels_beside_the_file_go_row_by_row(
    make: Make, write: Write, genome: Genome, tmp_path: Path
) -> None:
    table = str(write("a.bed", HEADER[:4], *[row[:4] for row in rows([0] * 100)]))
    values = np.random.default_rng(0).normal(size=(100, 3))
    pl.DataFrame(values, schema=["x", "y", "z"]).write_parquet(tmp_path / "labels.parquet")
    fields = {"file": table, "genome": str(genome.path), "label": None}
    task = make("bed_labels", **fields, labels=str(tmp_path / "labels.parquet"))
    found = np.array(task.examples.sort("source_row")["y"].to_list())
    np.testing.assert_allclose(found, values, rtol=1e-6)
    pl.DataFrame({"labels": values[:99].tolist()}).write_parquet(tmp_path / "short.parquet")
    with pytest.raises(CislensError, match=r"labels of 99 rows, .*a.bed has 100"):
        make("bed_labels", **fields, labels=str(tmp_path / "short.parquet"))


def test_hdf5_without_h5py_says_what_to_do(
    make: Make, write: Write, genome: Genome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "labels.h5").write_bytes(b"x")
    table = str(write("a.bed", HEADER, *rows([0, 1] * 50)))
    with pytest.raises(CislensError, match="needs the package h5py; install it, or write the lab"):
        make("bed_labels", file=table, genome=str(genome.path),
             labels=str(tmp_path / "labels.h5"))  # fmt: skip


def test_bad_rows_are_named(make: Make, write: Write, genome: Genome) -> None:
    table = rows([number // 2 % 2 for number in range(100)])
    table[4] = ("chr1", 900, 800, "train", 0, "+")
    with pytest.raises(CislensError, match=r"a.bed line 6: start 900 and end 800"):
        make("bed_labels", file=str(write("a.bed", HEADER, *table)), genome=str(genome.path))
    table[4] = ("chr1", 59_990, 60_110, "train", 0, "+")
    with pytest.raises(CislensError, match=r"a.bed line 6: chr1:59990-60110 reaches over"):
        make("bed_labels", file=str(write("a.bed", HEADER, *table)), genome=str(genome.path))
    table[4] = ("chr1", 800, 920, "holdout", 0, "+")
    with pytest.raises(CislensError, match=r"a.bed line 6: split is 'holdout'; say with `parts`"):
        make("bed_labels", file=str(write("a.bed", HEADER, *table)), genome=str(genome.path))
    table[4] = ("chr9", 800, 920, "train", 0, "+")
    task = make("bed_labels", file=str(write("a.bed", HEADER, *table)), genome=str(genome.path))
    assert task.card.report["examples on chromosomes that the genome lacks"] == 1
