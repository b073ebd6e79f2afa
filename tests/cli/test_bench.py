"""A bench folder can grow and go on, and what is refused leaves it as it was."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.genome.codes import decode
from cislens.randomness import generator

RECIPE = """\
tasks:
  mine: {kind: saved, folder: mine}
embeddings: {kmers: kmers}
settings: {seeds: 1, cnn: [], kmer: 1, trials: 1}
audit: false
"""


def call(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if isinstance(result.exception, CislensError):
        raise result.exception
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def make_task(folder: Path, name: str) -> Path:
    rng = generator(name)
    lines = ["id\tsequence\tlabel"]
    for row in range(150):
        codes = rng.choice(4, 40, p=[0.3, 0.2, 0.2, 0.3] if row % 2 else [0.2, 0.3, 0.3, 0.2])
        lines.append(f"{name}{row}\t{decode(codes.astype(np.uint8))}\t{row % 2}")
    table = folder / f"{name}.tsv"
    table.write_text("\n".join(lines) + "\n")
    call("data", "task", "import", "table", f"file={table}", "id=id", "species=none",
         "--out", folder / name)  # fmt: skip
    return folder / name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, one of them embedded and benched."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("mine", "other"):
        make_task(folder, name)
    call("embed", "--task", folder / "mine", "--baseline", "kmer-1to5", "--out", folder / "kmers")
    (folder / "bench.yaml").write_text(RECIPE)
    call("bench", folder / "bench.yaml", "--out", folder / "bench")
    return folder


@pytest.fixture
def recipe(project: Path) -> Iterator[str]:
    """The recipe that the folder was claimed with, which still is its recipe after the test."""
    before = (project / "bench" / "recipe.yaml").read_text()
    yield RECIPE
    assert (project / "bench" / "recipe.yaml").read_text() == before
    call("bench", project / "bench.yaml", "--out", project / "bench")


def test_a_run_that_is_not_there_does_not_enter_the_recipe(project: Path, recipe: str) -> None:
    for how in ((project / "bench.yaml",), ("--resume",)):
        with pytest.raises(CislensError, match=r"run folder .*nowhere does not exist"):
            call("bench", *how, "--out", project / "bench", "--run", "mine=nowhere")


def test_embeddings_of_another_task_are_refused_before_anything_is_judged(
    project: Path, recipe: str
) -> None:
    grown = recipe.replace("embeddings", "  other: {kind: saved, folder: other}\nembeddings")
    (project / "grown.yaml").write_text(grown)
    for more in (["--dry-run"], []):
        with pytest.raises(CislensError, match=r"kmers on other, train: .* of another task"):
            call("bench", project / "grown.yaml", "--out", project / "bench", *more)
    assert list(json.loads((project / "bench/results/plan.json").read_text())) == ["mine"]


def test_a_name_stands_for_one_run(project: Path, recipe: str) -> None:
    with pytest.raises(CislensError, match=r"small is the name of .*one already"):
        call("bench", "--resume", "--out", project / "bench", "--run", "small=one",
             "--run", "small=two")  # fmt: skip
