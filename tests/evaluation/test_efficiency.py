from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from synthetic import Store, predictions, suite

from cislens.errors import CislensError
from cislens.evaluation.efficiency import (
    AREAS,
    CURVES,
    area_weights,
    curves_of,
    label_efficiency,
    n_match,
)
from cislens.evaluation.statistics import Predictions
from cislens.evaluation.suite import Arm

SIZES = (10, 100, 1000)
ARMS = [Arm("model", "trained", None, 0.9, 1), Arm("onehot", "onehot", None, 0.8, 1)]


def _by_size(model: tuple[float, ...], onehot: tuple[float, ...]) -> dict[int, Predictions]:
    """The same test set at every size; skill rises as given."""
    drawn = {}
    for size, a, b in zip(SIZES, model, onehot, strict=True):
        rng = np.random.default_rng(0)  # the same labels and shared noise
        drawn[size] = predictions(rng, {"model": a, "onehot": b}, seed_noise=0.02)
    return drawn


def test_the_area_is_the_trapezoid_over_log_n() -> None:
    log = np.log([10, 30, 200, 1000])
    curve = np.array([0.5, 0.6, 0.8, 0.7])
    expected = np.trapezoid(curve, log) / (log[-1] - log[0])
    assert area_weights([10, 30, 200, 1000]) @ curve == pytest.approx(expected)
    assert area_weights([10, 30, 200, 1000]).sum() == pytest.approx(1)
    with pytest.raises(CislensError, match="two or more"):
        area_weights([10])


def test_labels_to_match_are_found_between_the_sizes() -> None:
    curve = np.array([[0.5, 0.9, 0.5, 0.5], [0.7, 0.9, 0.5, 0.6], [0.9, 0.9, 0.55, 0.8]])
    # Half way in log n between 10 and 100; from the start; never; exactly at the last size.
    match = n_match(SIZES, curve, np.array([0.6, 0.6, 0.6, 0.8]))
    assert match == pytest.approx([10**1.5, 10, np.inf, 1000])
    # A curve that dips after it has reached the goal matched where it first did.
    dips = np.array([[0.5], [0.8], [0.6]])
    assert n_match(SIZES, dips, np.array([0.8])) == pytest.approx([100])


def test_an_arm_that_learns_from_fewer_labels_has_the_larger_area() -> None:
    curves, areas = curves_of(_by_size((0.8, 1.4, 2.0), (0.1, 0.6, 1.5)), "auroc", ARMS, 400)
    assert len(curves) == 6 and all(row["low"] < row["point"] < row["high"] for row in curves)
    model, onehot = areas
    points = [row["point"] for row in curves if row["arm"] == "model"]
    assert model["aulc"] == pytest.approx(area_weights(SIZES) @ np.array(points))
    assert model["baseline"] == "onehot"
    assert model["diff_low"] > 0.05 and model["p"] < 0.01
    assert onehot["difference"] == 0
    assert onehot["n_match"] == pytest.approx(1000)
    assert 100 < model["n_match"] <= 1000
    assert model["n_match_low"] <= model["n_match"] <= model["n_match_high"]


def test_an_arm_that_never_reaches_the_baseline_matches_at_infinity() -> None:
    _, areas = curves_of(_by_size((0.1, 0.3, 0.5), (0.5, 1.0, 2.0)), "auroc", ARMS, 200)
    assert areas[0]["n_match"] == areas[0]["n_match_high"] == np.inf
    assert areas[0]["diff_high"] < 0


def test_other_test_examples_are_refused() -> None:
    mixed = _by_size((0.8, 1.2, 1.5), (0.5, 1.0, 1.5))
    mixed[10] = predictions(np.random.default_rng(1), {"model": 1.0, "onehot": 1.0})
    with pytest.raises(CislensError, match="test examples of 10 labels"):
        curves_of(mixed, "auroc", ARMS, 50)


def test_the_stores_of_a_bench_become_curves_and_areas() -> None:
    by_size = _by_size((0.8, 1.4, 1.5), (0.1, 0.6, 1.5))
    whole = suite({"t": by_size[1000]}, 200)
    examples = pl.DataFrame({"split": ["train"] * 1250 + ["test"] * 300})
    whole.tasks = {"t": SimpleNamespace(card=whole.tasks["t"].card, examples=examples)}  # type: ignore[dict-item]
    stores: dict[int, Any] = {n: Store({"t": by_size[n]}) for n in (100, 10)}
    stores[5] = Store({"another": by_size[10]})  # not judged at so few labels
    curves, areas = label_efficiency(whole, stores, 200, fraction=0.8)
    assert curves.columns == list(CURVES) and areas.columns == list(AREAS)
    assert curves["labels"].unique().sort().to_list() == [10, 100, 1000]
    assert areas["arm"].to_list() == ["model", "onehot"]
    empty, none = label_efficiency(whole, {}, 200)
    assert len(empty) == len(none) == 0
