from dataclasses import replace

import numpy as np
import pytest
from audit_plants import clean
from scipy.stats import binomtest

from cislens.evaluation.audit.predictors import linear, look_up
from cislens.evaluation.audit.report import wilson
from cislens.evaluation.audit.scoring import score
from cislens.randomness import generator


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (7, 30), (450, 500), (30, 30)])
def test_wilson_agrees_with_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def predicted_for(table, rows, right):
    """Class scores that are right where `right` is."""
    label = table.y_NT[rows, 0].astype(int)
    guess = np.where(right, label, 1 - label)
    return np.eye(2)[guess]


def test_accuracy_comes_with_its_majority_and_the_interval_of_independent_rows():
    table = clean(0)
    rows = table.of("test")
    right = np.arange(len(rows)) % 5 > 0
    found = score(table, rows, predicted_for(table, rows, right))
    expected = binomtest(400, 500).proportion_ci(method="wilson")
    assert (found.metric, found.value) == ("accuracy", 0.8)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.reference == pytest.approx(0.5, abs=0.05)
    assert found.verdict == "fail"


def test_rows_of_one_block_widen_the_interval():
    table = clean(0)
    rows = table.of("test")
    # Blocks of ten rows, all right or all wrong: 50 independent facts, not 500.
    right = np.repeat(generator(1).random(50) < 0.7, 10)
    blocks = np.concatenate([np.arange(1200), 2000 + np.arange(500) // 10]).astype(str)
    alone = score(table, rows, predicted_for(table, rows, right))
    joined = score(replace(table, block=blocks), rows, predicted_for(table, rows, right))
    assert joined.value == alone.value
    ratio = (joined.high - joined.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)


def test_a_rare_class_is_judged_by_auroc():
    table = clean(2)
    y = (generator(3).random(len(table)) < 0.1).astype(float)
    table = replace(table, y_NT=y[:, None])
    rows = table.of("test")
    told = y[rows] + generator(4).normal(0, 0.5, len(rows))
    found = score(table, rows, np.stack([-told, told], 1))
    assert found.metric == "AUROC"
    assert found.reference == 0.5
    assert found.value == pytest.approx(0.92, abs=0.04)  # Phi(1 / (0.5 sqrt 2))
    assert found.low < found.value < found.high


def test_values_are_judged_by_correlation():
    rng = generator(5)
    table = clean(6)
    y = rng.normal(size=(len(table), 2))
    y[::7, 1] = np.nan
    table = replace(table, y_NT=y, classes=())
    rows = table.of("test")
    noise = rng.normal(size=(len(rows), 2))
    found = score(table, rows, np.nan_to_num(y[rows]) + noise)
    assert found.metric == "correlation"
    assert found.value == pytest.approx(0.71, abs=0.05)  # 1 / sqrt 2
    assert found.thresholds == (0.1, 0.3)


def test_look_up_gives_the_class_of_the_key_and_else_the_commonest():
    table = clean(7, train=6, test=3)
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0], float)
    table = replace(table, y_NT=y[:, None])
    keys = np.array([5, 5, 5, 8, 8, 8, 5, 8, 9])
    found = look_up(table, table.of("train"), table.of("test"), keys)
    assert found.argmax(1).tolist() == [1, 0, 0]
    assert found[0] == pytest.approx([1 / 3, 2 / 3], abs=1e-5)


def test_the_linear_model_of_three_classes_finds_their_order():
    table = clean(8)
    y = generator(9).integers(0, 3, len(table)).astype(float)
    table = replace(table, y_NT=y[:, None], classes=("a", "b", "c"))
    x = np.stack([y, y**2], 1) + generator(10).normal(0, 0.2, (len(y), 2))
    rows = table.fitting(0)
    scores, _ = linear(table, rows, x, 0)
    assert (scores.argmax(1) == y[rows[2]]).mean() > 0.97
