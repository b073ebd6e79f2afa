"""Several benches as one: the same as if one bench had judged everything."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from plants import gc_task

from cislens.errors import CislensError
from cislens.evaluation.bench import run_bench
from cislens.evaluation.combined import CombinedSuite
from cislens.evaluation.ranks import ranks
from cislens.evaluation.results import ResultStore
from cislens.evaluation.suite import Suite
from cislens.evaluation.tasks.task import Task
from cislens.evaluation.verdict import arm_scores, verdicts
from cislens.genome.codes import Codes
from cislens.recipes.schema import BenchSettings
from cislens.representations.contract import Features, Kind

DRAWS = 100
SETTINGS = BenchSettings(seeds=2, cnn=[], kmer=2)
TASK = gc_task(200, 0.1, length=60)
OTHER = Task(TASK.card.model_copy(update={"name": "other"}), TASK.examples)


class Model:
    """The counts of one base, blurred by noise that its weights decide."""

    kind: Kind = "trained"
    parameters = 3

    def __init__(self, name: str, weights: int = 0, kind: Kind = "trained") -> None:
        self.name, self.weights, self.kind = name, weights, kind
        self.digest = f"weights/{weights}"

    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        codes = np.stack(sequences)
        rng = np.random.default_rng(self.weights)
        noise = np.sin(9 * codes @ rng.normal(size=(codes.shape[1], 1)))
        return ((codes == 1).mean(1, keepdims=True) + 0.2 * noise).astype(np.float32)

    def twin(self, draw: int) -> "Model":
        return Model(f"{self.name}-random", 100 + draw, "random")


def judged(
    folder: Path, models: Sequence[Model], tasks: Sequence[Task] = (TASK,), seeds: int = 2
) -> ResultStore:
    settings = SETTINGS.model_copy(update={"seeds": seeds})
    return run_bench(tasks, models, settings, folder).whole


def by_arm(table: pl.DataFrame) -> pl.DataFrame:
    keys = [key for key in ("task", "metric", "arm", "comparison") if key in table.columns]
    return table.sort(keys)


def test_two_benches_say_what_one_bench_of_all_arms_says(tmp_path: Path) -> None:
    one, two = Model("one", 1), Model("two", 2)
    both = judged(tmp_path / "both", [one, two], [TASK, OTHER])
    apart = CombinedSuite(
        {"a": judged(tmp_path / "a", [one], [TASK, OTHER]),
         "b": judged(tmp_path / "b", [two], [TASK, OTHER])},
        DRAWS,
    )  # fmt: skip
    assert by_arm(verdicts(apart)).equals(by_arm(verdicts(both, DRAWS)))
    # Of arms that tie in a draw the first is the best one, and their order differs.
    scores = [by_arm(arm_scores(each)).drop("best_share") for each in (apart, Suite(both, DRAWS))]
    assert scores[0].equals(scores[1])
    together = ranks(both, DRAWS).select("arm", "mean_rank", "tasks")
    assert ranks(apart).select("arm", "mean_rank", "tasks").sort("arm").equals(together.sort("arm"))


def test_an_arm_that_is_the_same_in_all_benches_is_taken_once(tmp_path: Path) -> None:
    stores = {name: judged(tmp_path / name, [Model(name, ord(name))]) for name in "abc"}
    suite = CombinedSuite(stores, DRAWS)
    names = [arm.name for arm in suite.arms("gc")]
    assert sorted(names) == sorted(
        {"a", "b", "c", "a-random", "b-random", "c-random"}
        | {arm for arm in stores["a"].records()["arm"] if not arm.startswith("a")}
    )
    assert suite.predictions("gc").arms == tuple(names)
    assert set(suite.kinds()) == set(names)


def test_other_weights_of_one_name_are_told_apart_with_their_twins(tmp_path: Path) -> None:
    stores = {
        "old": judged(tmp_path / "old", [Model("m", 1)]),
        "new": judged(tmp_path / "new", [Model("m", 2)]),
        "again": judged(tmp_path / "again", [Model("m", 2)]),
    }
    suite = CombinedSuite(stores, DRAWS)
    trained = {arm.name: arm for arm in suite.arms("gc") if arm.name.startswith("m")}
    # The third bench judged the weights of the second.
    assert {name: arm.twin_of for name, arm in trained.items()} == {
        "m": None, "m-random": "m", "m (new)": None, "m-random (new)": "m (new)",
    }  # fmt: skip
    scores = suite.predictions("gc")
    for name, bench in (("m", "old"), ("m (new)", "new")):
        own = stores[bench].predictions(TASK)
        mine = scores.scores_MRNT[scores.arms.index(name)]
        assert (mine == own.scores_MRNT[own.arms.index("m")]).all()
    table = verdicts(suite).filter(comparison="random")
    assert dict(table.select("arm", "baseline").rows()) == {
        "m": "m-random", "m (new)": "m-random (new)",
    }  # fmt: skip


def test_benches_without_a_common_task_are_refused(tmp_path: Path) -> None:
    other = gc_task(200, 0.1, length=60, seed=1)  # of the same name, with other examples
    stores = {
        "a": judged(tmp_path / "a", [Model("m", 1)]),
        "b": judged(tmp_path / "b", [Model("m", 1)], [other]),
    }
    with pytest.raises(CislensError, match="no task was judged by all of a, b"):
        CombinedSuite(stores)
    with pytest.raises(CislensError, match="no bench to combine"):
        CombinedSuite({})


def test_only_tasks_that_all_benches_judged_are_shown(tmp_path: Path) -> None:
    stores = {
        "a": judged(tmp_path / "a", [Model("one", 1)], [TASK, OTHER]),
        "b": judged(tmp_path / "b", [Model("two", 2)], [OTHER]),
    }
    assert list(CombinedSuite(stores).tasks) == ["other"]


def test_the_first_seeds_are_taken_where_one_bench_has_fewer(tmp_path: Path) -> None:
    stores = {
        "many": judged(tmp_path / "many", [Model("one", 1)], seeds=3),
        "few": judged(tmp_path / "few", [Model("two", 2)], seeds=2),
    }
    found = CombinedSuite(stores, DRAWS).predictions("gc")
    assert found.scores_MRNT.shape[1] == 2
    own = stores["many"].predictions(TASK)
    mine = found.scores_MRNT[found.arms.index("one")]
    assert (mine == own.scores_MRNT[own.arms.index("one"), :2]).all()
    few = stores["few"].predictions(TASK)
    theirs = found.scores_MRNT[found.arms.index("two")]
    assert (theirs == few.scores_MRNT[few.arms.index("two")]).all()
    assert verdicts(CombinedSuite(stores, DRAWS))["seeds"].unique().to_list() == [2]
