from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cislens.errors import CislensError


@pytest.fixture
def records(tmp_path: Path, library: Callable[..., list[str]]) -> Callable[..., str]:
    """`records(base)`: labelled FASTA whose coordinates count from `base`; `excess` breaks one."""

    def call(base: int, excess: int = 0, name: str = "nt.fa") -> str:
        lines = []
        for number, text in enumerate(library(80)):
            start = 2000 * number + base
            end = 2000 * number + 60 + (excess if number == 6 else 0)
            lines += [f">chr{1 + number % 2}:{start}-{end}|{number % 2}", text[:40], text[40:]]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return call


@pytest.mark.parametrize("base", [0, 1])
def test_the_length_tells_from_where_headers_count(
    make: Callable[..., Any], records: Callable[..., str], base: int
) -> None:
    task = make("fasta", file=records(base), revision="original")
    assert task.card.report["coordinates (row)"] == f"{base}-based"
    assert (task.examples["end"] - task.examples["start"] == 60).all()
    assert set(task.examples["start"] % 2000) == {0}
    assert (task.card.kind, task.card.revision) == ("binary", "original")
    row = task.examples.row(0, named=True)
    lines = Path(records(base)).read_text().splitlines()
    assert lines[row["source_row"] - 1].startswith(f">{row['chrom']}:{row['start'] + base}-")


def test_neither_count_is_an_error_with_its_line(
    make: Callable[..., Any], records: Callable[..., str]
) -> None:
    with pytest.raises(CislensError, match=r"nt.fa line 19: 12001-12063 has 62 bp counted from 0"):
        make("fasta", file=records(1, excess=3), revision="1")
    with pytest.raises(CislensError, match=r"line 19.*\(lines before count from 1\)"):
        make("fasta", file=records(1, excess=-1), revision="1")


def test_the_revision_has_no_default(make: Callable[..., Any], records: Callable[..., str]) -> None:
    with pytest.raises(CislensError, match="revision"):
        make("fasta", file=records(0))
    revised = make("fasta", file=records(0), revision="revised")
    assert revised.task_hash != make("fasta", file=records(0), revision="original").task_hash


def test_a_chromosome_may_be_a_part(
    make: Callable[..., Any], tmp_path: Path, library: Callable[..., list[str]]
) -> None:
    lines = []
    for number, text in enumerate(library(80)):
        start = 2000 * number
        lines += [f">chr{1 + number // 60}:{start}-{start + 60}|{number % 2}", text]
    (tmp_path / "a.fa").write_text("\n".join(lines))
    split = {"by": "chromosome", "test": ["chr2"]}
    task = make("fasta", file=str(tmp_path / "a.fa"), revision="1", split=split)
    assert task.card.split == "chromosome"
    places = task.examples.group_by("split").agg(pl.col("chrom").unique(), pl.len())
    assert {row[0]: row[1] for row in places.iter_rows()} == {
        "train": ["chr1"], "valid": ["chr1"], "test": ["chr2"],
    }  # fmt: skip
    assert dict(places.select("split", "len").iter_rows())["test"] == 20


def test_a_header_of_another_kind_is_named(make: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">chr1:0-4|1\nACGT\n>seq2\nACGT\n")
    with pytest.raises(CislensError, match=r"a.fa line 3: header '>seq2', expected >chrom:start"):
        make("fasta", file=str(tmp_path / "a.fa"), revision="1")
