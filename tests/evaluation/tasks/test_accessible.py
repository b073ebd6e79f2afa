"""Binding sites against open windows of the same cell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.genome.reference import Genome

Make = Callable[..., Any]
WIDTH = 100


@pytest.fixture
def pooled(write: Callable[..., Path]) -> Path:
    """Peaks every 240 bp of chr1, every third of CTCF in K562 and the others of MAX there or of
    two factors; every seventh is of another cell."""
    rows: list[tuple[object, ...]] = []
    for number, start in enumerate(range(200, 59_000, 240)):
        names = [("K562|CTCF",), ("K562|MAX",), ("K562|MAX", "K562|JUND")][number % 3]
        if number % 7 == 0:
            names = ("HepG2|MAX",)
        if number % 3 == 0 and number % 2:
            names = (*names, "K562|JUND")
        rows += [("chr1", start, start + 60, name, 10, 30) for name in names]
    return write("pooled.bed", *rows)


def fields(genome: Genome, pooled: Path, **changes: Any) -> dict[str, Any]:
    return {
        "genome": str(genome.path), "peaks": str(pooled), "named": "K562|CTCF", "split": "anew",
        "summit": "column_6", "width": WIDTH, "negatives": "accessible", "open_named": "K562|*",
        **changes,
    }  # fmt: skip


def summits(pooled: Path, name: str) -> set[int]:
    rows = [text.split("\t") for text in pooled.read_text().splitlines()]
    return {int(row[1]) + 30 for row in rows if row[3] == name}


def test_negatives_are_open_in_the_cell_and_not_bound(
    make: Make, genome: Genome, pooled: Path
) -> None:
    task = make("tfbs", **fields(genome, pooled))
    label = pl.col("y").list.first()
    frame = task.examples.with_columns(center=pl.col("start") + WIDTH // 2)
    positives, negatives = frame.filter(label == 1), frame.filter(label == 0)
    assert positives.height == negatives.height >= 20
    bound = summits(pooled, "K562|CTCF")
    assert set(positives["center"]) <= bound
    others = summits(pooled, "K562|MAX") | summits(pooled, "K562|JUND")
    assert set(negatives["center"]) <= others - bound
    gaps = np.abs(negatives["center"].to_numpy()[:, None] - np.array(sorted(bound)))
    assert gaps.min() >= WIDTH // 2 + 30
    report = task.card.report
    assert (task.card.negatives, task.card.metric.primary) == ("accessible", "auprc")
    for covariate in ("gc", "log accessibility"):
        assert abs(report[f"standardized difference of {covariate}"]) <= 0.1
    assert abs(report["standardized difference of log accessibility before"]) > 0.5
    assert task.task_hash == make("tfbs", **fields(genome, pooled)).task_hash


def test_what_only_the_relaxed_set_holds_is_dropped(
    make: Make, genome: Genome, pooled: Path, write: Callable[..., Path]
) -> None:
    ambiguous = sorted(summits(pooled, "K562|JUND") - summits(pooled, "K562|CTCF"))[::2]
    relaxed = write("relaxed.bed", *[("chr1", s - 5, s + 5, "K562|CTCF", 1, 5) for s in ambiguous])
    task = make("tfbs", **fields(genome, pooled, relaxed=str(relaxed)))
    centers = set(task.examples["start"] + WIDTH // 2)
    assert not centers & set(ambiguous)
    plain = make("tfbs", **fields(genome, pooled))
    assert set(plain.examples["start"] + WIDTH // 2) & set(ambiguous)


def test_a_natural_test_part_has_every_open_window(
    make: Make, genome: Genome, pooled: Path
) -> None:
    frame = make("tfbs", **fields(genome, pooled, natural=True)).examples
    share = dict(frame.group_by("split").agg(pl.col("y").list.first().mean()).iter_rows())
    assert share["train"] == pytest.approx(0.5, abs=0.03)
    bound, others = 70, 140  # of 245 places, but for those of another cell
    assert share["test"] == pytest.approx(bound / (bound + others), abs=0.1)


def test_open_regions_of_a_file_match_by_their_signal(
    make: Make, genome: Genome, pooled: Path, tmp_path: Path
) -> None:
    lines = []
    for number, start in enumerate(range(200, 59_000, 240)):
        signal = 50 + 40 * (number % 5)
        lines.append(f"chr1\t{start - 20}\t{start + 80}\tp\t0\t.\t{signal}\t-1\t-1\t50")
    (tmp_path / "atac.narrowPeak").write_text("\n".join(lines) + "\n")
    task = make(
        "tfbs", **fields(genome, pooled, open=str(tmp_path / "atac.narrowPeak"), open_named=None,
                         summit=None)
    )  # fmt: skip
    level = {
        start + 30 - WIDTH // 2: number % 5 for number, start in enumerate(range(200, 59_000, 240))
    }
    frame = task.examples.with_columns(
        level=pl.Series([level[start] for start in task.examples["start"]]),
        label=pl.col("y").list.first(),
    )
    counts = frame.group_by("level").agg(pl.col("label").mean())
    assert (counts["label"] == 0.5).all()


def test_mistakes_in_the_section_are_named(make: Make, genome: Genome, pooled: Path) -> None:
    with pytest.raises(CislensError, match="no other peaks whose name fits 'A549"):
        make("tfbs", **fields(genome, pooled, open_named="A549|*"))
    with pytest.raises(CislensError, match="need `open`, `open_named` or both"):
        make("tfbs", **fields(genome, pooled, open_named=None))
    with pytest.raises(CislensError, match="are of accessible negatives"):
        make("tfbs", **fields(genome, pooled, negatives="genomic"))
