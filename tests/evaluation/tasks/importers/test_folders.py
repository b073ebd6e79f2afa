"""Folders as benchmarks publish them: Genomic Benchmarks and GUE."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.codes import decode, reverse_complement
from cislens.genome.reference import Genome

Make = Callable[..., Any]
Library = Callable[..., list[str]]


def intervals(path: Path, rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "id,region,start,end,strand",
        *[",".join(map(str, (n, *r))) for n, r in enumerate(rows)],
    ]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty train and twenty test intervals of each class, in the package's layout. Half of the
    test positives copy train intervals; coordinates are float text; odd ones lie on minus."""
    root = tmp_path / "gb"

    def of(first: int, count: int) -> list[tuple[object, ...]]:
        return [
            ("1", f"{start}.0", f"{start + 100}.0", "+-"[number % 2])
            for number, start in enumerate(range(first, first + 300 * count, 300))
        ]

    train = of(0, 40)
    intervals(root / "train" / "positive.csv.gz", train)
    intervals(root / "train" / "negative.csv.gz", of(15_000, 40))
    intervals(root / "test" / "positive.csv.gz", [*train[:10], *of(30_000, 10)])
    intervals(root / "test" / "negative.csv.gz", of(40_000, 20))
    return root


CLASSES = {"negative": 0, "positive": 1}


def test_genomic_benchmarks_reads_the_strand_and_carves_valid_from_train(
    make: Make, folder: Path, genome: Genome
) -> None:
    task = make("genomic_benchmarks", folder=str(folder), genome=str(genome.path), classes=CLASSES)
    report = task.card.report
    assert "Renamed: 1 -> chr1" in report["chromosomes"]
    assert report["sequences of the minus strand"] == 60
    assert report["valid examples carved from train by homology"] == 12
    # Ten test positives are train intervals; nothing else is dropped.
    assert report["test examples with a homolog in train or valid"] == 10
    assert dict(task.examples["split"].value_counts().iter_rows()) == {
        "train": 68, "valid": 12, "test": 30,
    }  # fmt: skip
    for row in task.examples.iter_rows(named=True):
        codes = genome.fetch("chr1", row["start"], row["end"])
        expected = reverse_complement(codes) if row["strand"] == "-" else codes
        assert row["sequence"] == decode(expected)
        assert row["y"] == [float(row["start"] < 15_000 or 30_000 <= row["start"] < 40_000)]
    assert (task.examples.filter(pl.col("split") == "valid")["start"] < 30_000).all()
    assert {file.role for file in task.card.files} == {"train", "test", "genome"}


def test_the_order_of_files_is_no_label(make: Make, folder: Path, genome: Genome) -> None:
    with pytest.raises(CislensError, match="number the classes"):
        make("genomic_benchmarks", folder=str(folder), genome=str(genome.path))
    with pytest.raises(CislensError, match=r"of class 'negative'.*Did you mean 'negativ'"):
        make("genomic_benchmarks", folder=str(folder), genome=str(genome.path),
             classes={"negativ": 0, "positive": 1})  # fmt: skip


def test_intervals_of_another_assembly_are_refused(
    make: Make, folder: Path, genome: Genome
) -> None:
    intervals(folder / "test" / "negative.csv.gz", [("1", 59_950, 60_050, "+")])
    with pytest.raises(CislensError, match=r"chr1:59950-60050 reaches over the end of chr1"):
        make("genomic_benchmarks", folder=str(folder), genome=str(genome.path), classes=CLASSES)
    intervals(folder / "test" / "negative.csv.gz", [("1", "7.5", "80", "+")])
    with pytest.raises(
        CislensError, match=r"negative.csv.gz line 2: start is '7.5', expected a wh"
    ):
        make("genomic_benchmarks", folder=str(folder), genome=str(genome.path), classes=CLASSES)


def test_one_table_of_genomic_benchmarks(
    make: Make, write: Callable[..., Path], library: Library
) -> None:
    rows = [
        ("test" if n >= 60 else "train", ("negative", "positive")[n % 2], text, n,
         f"hg19:chr2:{900 * n}-{900 * n + 60}:{'-' if n == 3 else ''}(hg38:chr2:5-65)")
        for n, text in enumerate(library(90))
    ]  # fmt: skip
    table = write("set.tsv", ("split", "label", "sequence", "id", "locus"), *rows)
    task = make("genomic_benchmarks", table=str(table), classes=CLASSES)
    row = task.examples.filter(pl.col("start") == 2700).row(0, named=True)
    assert (row["chrom"], row["end"], row["strand"]) == ("chr2", 2760, "-")
    assert row["sequence"] == library(90)[3]  # already of its strand
    assert (task.examples["split"] == "test").sum() == 30


@pytest.fixture
def gue(tmp_path: Path, library: Library) -> Path:
    root = tmp_path / "gue"
    root.mkdir()
    texts = iter(library(200, 80))
    for name, count in (("train", 100), ("dev", 60), ("test", 40)):
        rows = [f"{next(texts)},{number % 2}" for number in range(count)]
        (root / f"{name}.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    return root


def test_dev_of_gue_is_valid(make: Make, gue: Path) -> None:
    task = make("gue", folder=str(gue))
    assert dict(task.examples["split"].value_counts().iter_rows()) == {
        "train": 100, "valid": 60, "test": 40,
    }  # fmt: skip
    assert (task.card.revision, task.card.kind, task.card.split) == ("1", "binary", "predefined")
    limited = make("gue", folder=str(gue), limit=100)
    assert dict(limited.examples["split"].value_counts().iter_rows()) == {
        "train": 70, "valid": 15, "test": 15,
    }  # fmt: skip


def test_without_a_train_file_train_is_carved_from_dev_and_said_so(make: Make, gue: Path) -> None:
    before = make("gue", folder=str(gue)).examples.filter(pl.col("split") == "test")
    (gue / "train.csv").unlink()
    with pytest.raises(CislensError, match=r"has no train\.csv; with `without_train: carve`"):
        make("gue", folder=str(gue))
    task = make("gue", folder=str(gue), without_train="carve")
    assert task.card.revision == "1+train-from-dev"
    assert dict(task.examples["split"].value_counts().iter_rows()) == {
        "train": 48, "valid": 12, "test": 40,
    }  # fmt: skip
    after = task.examples.filter(pl.col("split") == "test")
    assert set(after["sequence"]) == set(before["sequence"])
    (gue / "test.csv").unlink()
    with pytest.raises(CislensError, match=r"has no test.csv"):
        make("gue", folder=str(gue), without_train="carve")
