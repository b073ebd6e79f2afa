import numpy as np
import pytest
from synthetic import predictions, suite

from cislens.evaluation.ranks import RANKS, cliques, ranked, ranks, suite_draws, task_ranks

SKILL = {"model": 2.0, "onehot": 0.8, "cnn": 0.8, "kmer": 0.1}


def test_equal_arms_share_their_rank() -> None:
    assert ranked(np.array([[0.9], [0.7], [0.9], [0.1]]))[:, 0].tolist() == [1.5, 3, 1.5, 4]


def test_ranks_of_a_task_have_the_width_that_the_draws_give() -> None:
    table = task_ranks(suite({"t": predictions(np.random.default_rng(0), SKILL)}))
    by_arm = {row["arm"]: row for row in table.iter_rows(named=True)}
    assert (by_arm["model"]["rank"], by_arm["kmer"]["rank"]) == (1, 4)
    assert (by_arm["model"]["low"], by_arm["model"]["high"]) == (1, 1)
    assert (by_arm["onehot"]["low"], by_arm["onehot"]["high"]) == (2, 3)
    assert table["p_best"].sum() == pytest.approx(1)
    assert by_arm["model"]["p_best"] > 0.99


def test_a_task_of_few_blocks_has_ranks_too() -> None:
    few = predictions(np.random.default_rng(0), SKILL, blocks=6, per=50)
    table = task_ranks(suite({"t": few}))
    assert table.filter(arm="model")["p_best"][0] > 0.9
    assert table.filter(arm="cnn")["high"][0] > table.filter(arm="cnn")["low"][0]


def test_the_best_arm_of_a_suite_is_certain_when_it_wins_everywhere() -> None:
    rng = np.random.default_rng(1)
    table = ranks(suite({f"t{k}": predictions(rng, SKILL) for k in range(5)}))
    assert table.columns == list(RANKS)
    assert table["arm"][0] == "model" and table["arm"][-1] == "kmer"
    assert table["tasks"].to_list() == [5] * 4
    assert table["mean_rank"].sum() == pytest.approx(10)
    assert (table["low"] <= table["mean_rank"]).all()
    assert table["p_best"][0] > 0.99
    # One-hot and CNN are equal by construction and share a group; the model stands alone.
    groups = dict(zip(table["arm"], table["cliques"].to_list(), strict=True))
    assert set(groups["onehot"]) & set(groups["cnn"])
    assert not set(groups["model"]) & (set(groups["onehot"]) | set(groups["kmer"]))


def test_the_choice_of_tasks_widens_the_ranks() -> None:
    # The model wins two tasks for certain and loses two for certain: within each task its rank
    # has no error at all, over the suite it may be anything.
    rng = np.random.default_rng(2)
    win = {"model": 3.0, "onehot": 0.5}
    lose = {"model": 0.5, "onehot": 3.0}
    tasks = {f"t{k}": predictions(rng, win if k % 2 else lose) for k in range(4)}
    within = task_ranks(suite(tasks))
    assert (within["low"] == within["high"]).all()
    over = ranks(suite(tasks))
    assert over["mean_rank"].to_list() == [1.5, 1.5]
    assert (over["low"].to_list(), over["high"].to_list()) == ([1, 1], [2, 2])
    assert over["p_best"].to_list() == pytest.approx([0.5, 0.5], abs=0.1)
    assert over["cliques"].to_list() == [[0], [0]]


def test_draws_of_different_tasks_are_independent() -> None:
    # The same draws in every task would leave the error of the mean as large as that of one.
    rng = np.random.default_rng(3)
    value = rng.normal(size=(2, 4000))
    mean = suite_draws([value] * 16, 4000)
    assert mean[0].std() == pytest.approx(0.5 / 4, rel=0.1)


def test_an_arm_that_misses_a_task_has_no_rank_in_the_suite() -> None:
    rng = np.random.default_rng(4)
    tasks = {"a": predictions(rng, SKILL), "b": predictions(rng, {"onehot": 1.0, "kmer": 0.5})}
    assert sorted(ranks(suite(tasks))["arm"]) == ["kmer", "onehot"]


def test_cliques_are_the_largest_groups_without_a_difference() -> None:
    rng = np.random.default_rng(5)
    mean = np.array([1.0, 1.4, 1.8, 6.0])[:, None] + 0.2 * rng.normal(size=(4, 4000))
    # Neighbors overlap, the first and the third do not; the last stands alone.
    assert cliques(mean) == [range(2), range(1, 3), range(3, 4)]
    assert cliques(mean[:1]) == [range(1)]
