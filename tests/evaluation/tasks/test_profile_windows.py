import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.builders import profile_windows
from cislens.evaluation.tasks.task import Task
from cislens.example import example_path
from cislens.genome.codes import decode
from cislens.genome.reference import open_genome
from cislens.signal.store import ProfileStore

YEAST = example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz")


@pytest.fixture(scope="module")
def task(small_store: ProfileStore) -> Task:
    return profile_windows(small_store, "yeast", name="yeast", width=256, limit=600, seed=1)


def test_a_piece_is_what_the_genome_holds_at_its_place(task: Task) -> None:
    genome = open_genome(YEAST)
    for row in task.examples.head(20).iter_rows(named=True):
        assert row["end"] - row["start"] == 256
        assert row["sequence"] == decode(genome.fetch(row["chrom"], row["start"], row["end"]))


def test_a_label_is_the_mean_of_the_targets_over_the_piece(
    task: Task, small_store: ProfileStore
) -> None:
    windows = small_store.windows("yeast").with_row_index("row")
    for piece in task.examples.head(20).iter_rows(named=True):
        window = windows.filter(
            (pl.col("chrom") == piece["chrom"])
            & (pl.col("start") <= piece["start"])
            & (pl.col("end") >= piece["end"])
        ).row(0, named=True)
        first = (piece["start"] - window["start"]) // 128
        bins = small_store.targets("yeast", [window["row"]])[0, first : first + 2]
        expected = np.log1p(bins.astype(np.float64).mean(axis=0))
        assert piece["y"] == pytest.approx(expected, rel=1e-5)
        assert piece["split"] == window["split"]


def test_the_limit_and_the_seed_decide_which_pieces(task: Task, small_store: ProfileStore) -> None:
    assert 500 < len(task.examples) <= 600
    other = profile_windows(small_store, "yeast", name="yeast", width=256, limit=600, seed=2)
    assert other.task_hash != task.task_hash


@pytest.mark.parametrize("width", [200, 0, 4096])
def test_a_width_that_does_not_fit_the_bins_is_refused(
    small_store: ProfileStore, width: int
) -> None:
    with pytest.raises(CislensError, match=f"a width of {width} bp does not fit"):
        profile_windows(small_store, "yeast", name="yeast", width=width)
