"""Conservation at a variant as a baseline."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.evaluation.arms.contract import Ground
from cislens.evaluation.arms.lineup import build_arms
from cislens.evaluation.conservation import ConservationBaseline, conservation_features
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.randomness import generator
from cislens.recipes.schema import BenchSettings
from cislens.signal.bigwig import write_bigwig

SIZE, LENGTH = 1000, 21
SPLITS = {"train": 60, "valid": 30, "test": 30}


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Of chromosome 20, with a gap that has none."""
    track = generator(0, "conservation").normal(size=SIZE).astype(np.float32)
    track[400:500] = np.nan
    return track


@pytest.fixture(scope="module")
def bigwig(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conservation") / "phylop.bw"
    known = np.flatnonzero(np.isfinite(values))
    write_bigwig(path, {"chr20": SIZE}, "chr20", known, known + 1, values[known])
    return path


def task_of(values: np.ndarray, chrom: str = "20", places: bool = True) -> Task:
    """Substitutions whose label is the conservation of the changed base, where there is any."""
    total = sum(SPLITS.values())
    rng = generator(0, "variants")
    reference = rng.integers(0, 4, (total, LENGTH)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, LENGTH // 2] = (alternate[:, LENGTH // 2] + 1) % 4
    pos = rng.permutation(np.arange(20, SIZE - 20))[:total] + 1
    y = np.nan_to_num(values[pos - 1])
    ids = [f"v{number:04d}" for number in range(total)]
    rows = pl.DataFrame(
        {"example_id": ids, "y": y[:, None].tolist(), "cluster_id": ids,
         "split": np.repeat(list(SPLITS), list(SPLITS.values())),
         "block_id": [f"b{number // 5:03d}" for number in range(total)],
         "chrom": chrom if places else None, "pos": pos if places else None},
        schema_overrides={"chrom": pl.String, "pos": pl.Int64},
    )  # fmt: skip
    card = TaskCard(
        name="planted", kind="variant", window=LENGTH, target=Target(names=["effect"]),
        metric=Metric(primary="pearson"), split="predefined", block="five",
        score_sign="unsigned", species="human", assembly="hg19",
    )  # fmt: skip
    return make_task(card, rows, list(reference), list(alternate))


def test_the_value_is_that_of_the_changed_base(values: np.ndarray, bigwig: Path) -> None:
    task = task_of(values)
    fold = task.fold("train")
    x = conservation_features(task, fold, bigwig)
    pos = dict(task.examples.select("example_id", "pos").iter_rows())
    at = np.array([pos[each] for each in fold.ids]) - 1
    inside = np.isfinite(values[at])
    assert 0 < inside.sum() < len(at)
    assert x[inside, 0] == pytest.approx(values[at][inside], abs=1e-6)
    assert (x[:, 2] == inside).all() and (x[~inside, 0] == 0).all()
    for row in range(10):
        around = values[at[row] - 10 : at[row] + 11]
        expected = np.nanmean(around) if np.isfinite(around).any() else 0.0
        assert x[row, 1] == pytest.approx(expected, abs=1e-5)


def test_the_baseline_is_there_where_a_file_of_the_assembly_is_given(
    values: np.ndarray, bigwig: Path
) -> None:
    ground = Ground(task_of(values), 0.9, seed=0)

    def arms(**conservation: Path) -> list[str]:
        settings = BenchSettings(seeds=1, cnn=[], conservation=conservation)
        return [arm.name for arm in build_arms(ground, [], settings)]

    assert "conservation" not in arms()
    assert "conservation" not in arms(hg38=bigwig)
    assert arms(hg19=bigwig) == [*arms(), "conservation"]
    settings = BenchSettings(seeds=1, cnn=[], conservation={"hg19": bigwig})
    fitted = build_arms(ground, [], settings)[-1].fit(0, None)
    truth = np.stack(ground.task.truth()["y"].to_list())[:, 0]
    scores = fitted.predict(ground.test)[:, 0]
    assert np.corrcoef(truth, scores)[0, 1] > 0.95


def test_another_file_is_another_baseline(values: np.ndarray, bigwig: Path, tmp_path: Path) -> None:
    task = task_of(values)
    other = tmp_path / "other.bw"
    write_bigwig(other, {"chr20": SIZE}, "chr20", [3], np.array([9]), np.ones(1))
    digests = [ConservationBaseline(task, path).digest for path in (bigwig, other, bigwig)]
    assert digests[0] == digests[2] != digests[1]


def test_what_gives_no_value_is_refused(values: np.ndarray, bigwig: Path) -> None:
    nowhere = task_of(values, places=False)
    with pytest.raises(CislensError, match="planted does not say where its variants lie"):
        conservation_features(nowhere, nowhere.fold("train"), bigwig)
    elsewhere = task_of(values, chrom="chr7")
    with pytest.raises(CislensError, match="no chromosome of task planted is in the genome"):
        conservation_features(elsewhere, elsewhere.fold("train"), bigwig)
