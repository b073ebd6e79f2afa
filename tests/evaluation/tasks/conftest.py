from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cislens.evaluation.tasks.registry import make_section
from cislens.evaluation.tasks.task import Task
from cislens.genome.codes import decode
from cislens.genome.reference import Genome, open_genome
from cislens.randomness import generator
from cislens.recipes.reading import read_section
from cislens.recipes.task_recipe import OneTask

Make = Callable[..., Task]
Library = Callable[..., list[str]]


@pytest.fixture
def make() -> Make:
    """`make("table", file=..., ...)`: the task of a section, named t, of species s."""

    def call(kind: str, seed: int = 0, **values: Any) -> Task:
        task = {"kind": kind, "species": "s", **values}
        return make_section("t", read_section({"task": task}, OneTask, "t").task, None, seed)

    return call


@pytest.fixture
def library() -> Library:
    """`library(n, length)`: unrelated random sequences."""

    def call(n: int, length: int = 60, seed: int = 0) -> list[str]:
        codes = generator("library", seed).integers(0, 4, (n, length)).astype(np.uint8)
        return [decode(row) for row in codes]

    return call


@pytest.fixture
def genome(tmp_path: Path, library: Library) -> Genome:
    """chr1 and chr2 of 60,000 random bases."""
    one, two = library(2, 60_000, seed=5)
    (tmp_path / "genome.fa").write_text(f">chr1\n{one}\n>chr2\n{two}\n")
    return open_genome(tmp_path / "genome.fa", "g")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write("a.tsv", header, row, row, ...)`: a table of tab-separated rows."""

    def call(name: str, *rows: tuple[object, ...]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        separator = "," if ".csv" in name else "\t"
        path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
        return path

    return call
