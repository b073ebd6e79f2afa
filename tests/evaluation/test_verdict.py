import numpy as np
import polars as pl
import pytest
from synthetic import card, predictions, suite

from cislens.evaluation.multiplicity import holm
from cislens.evaluation.statistics import Contrast
from cislens.evaluation.verdict import (
    VERDICT_SCHEMA,
    arm_scores,
    judge,
    verdict_lines,
    verdicts,
)

GOOD = {"model": 2.0, "twin": 0.3, "onehot": 0.8, "kmer": 0.5}


def _contrast(low: float, high: float) -> Contrast:
    point, half = (low + high) / 2, (high - low) / 2
    se = half / 1.96
    return Contrast(
        point, low, high, point - 1.645 * se, point + 1.645 * se, se, se, 0, np.inf, 0.01
    )


def _line(skill: dict[str, float], seed: int = 0, leaky: bool = False) -> str:
    tasks = {"t": predictions(np.random.default_rng(seed), skill)}
    [line] = verdict_lines(verdicts(suite(tasks), leaky={"t"} if leaky else ()))
    return line


def test_a_verdict_needs_the_interval_and_the_adjusted_p() -> None:
    assert judge(_contrast(0.01, 0.05), 0.03, 0.02, 0.01).startswith("gain over one-hot")
    assert judge(_contrast(0.01, 0.05), 0.06, 0.02, 0.01).startswith("no detectable gain")
    assert judge(_contrast(-0.05, -0.01), 0.03, 0.02, 0.01).startswith("loss against one-hot")
    assert judge(_contrast(-0.008, 0.008), 0.9, 0.02, 0.01).startswith("equivalent to one-hot")
    # The 95 % interval may pass the margin, the 90 % one must not.
    assert judge(_contrast(-0.011, 0.011), 0.9, 0.02, 0.01).startswith("equivalent")
    text = judge(_contrast(-0.013, 0.013), 0.9, 0.021, 0.01)
    assert (
        text == "no detectable gain over one-hot (diff +0.000, 95% CI [-0.013, +0.013], MDE 0.021)"
    )


def test_a_clean_gain_has_no_suffix() -> None:
    line = _line(GOOD)
    assert "vs onehot: gain over one-hot" in line and line.endswith(")")


def test_composition_planted_in_the_model_is_named() -> None:
    # Model and k-mers share skill far above one-hot: what was gained, composition has as well.
    assert _line({**GOOD, "kmer": 2.0}).endswith("; composition-explained")
    assert "gain over one-hot" in _line({**GOOD, "kmer": 2.0})


def test_a_random_model_in_disguise_is_named() -> None:
    assert _line({**GOOD, "twin": 2.0}).endswith("; not pretraining")
    both = _line({**GOOD, "twin": 2.2, "kmer": 2.2})
    assert both.endswith("; composition-explained; not pretraining")


def test_leakage_withholds_a_gain_and_nothing_else() -> None:
    assert _line(GOOD, leaky=True).endswith("; leakage")
    assert "gain withheld" in _line(GOOD, leaky=True)
    assert "gain over one-hot" not in _line(GOOD, leaky=True)
    loss = _line({**GOOD, "model": 0.1}, leaky=True)
    assert "loss against one-hot" in loss and "leakage" in loss


def test_the_opponent_is_the_strongest_on_validation() -> None:
    # `cnn` is named after `onehot`, so validation favors it, though the test set does not.
    tasks = {"t": predictions(np.random.default_rng(0), {"model": 1.0, "onehot": 1.2, "cnn": 0.5})}
    table = verdicts(suite(tasks))
    assert table["baseline"].to_list() == ["cnn"]
    assert table["comparison"].to_list() == ["onehot"]  # the other kinds are not there


def test_holm_covers_the_models_of_a_task_and_of_the_suite() -> None:
    rng = np.random.default_rng(3)
    skill = {"model": 1.0, "other": 0.9, "third": 0.8, "onehot": 0.8, "kmer": 0.4}
    table = verdicts(suite({name: predictions(rng, skill) for name in "ab"}))
    onehot = table.filter(comparison="onehot")
    assert len(table) == 12 and len(onehot) == 6
    for _, mine in onehot.group_by("task"):
        assert mine["p_holm"].to_list() == pytest.approx(holm(mine["p"]).tolist())
    assert onehot["p_suite"].to_list() == pytest.approx(holm(onehot["p"]).tolist())
    assert (onehot["p_suite"] >= onehot["p_holm"]).all()
    alone = verdicts(suite({"a": predictions(rng, {"model": 1.0, "onehot": 0.8})}))
    ratio = (onehot["mde"] / onehot["se"]).mean()
    assert ratio > (alone["mde"] / alone["se"]).mean()


def test_the_table_says_what_a_test_set_can_find() -> None:
    tasks = {"t": predictions(np.random.default_rng(0), GOOD)}
    row = verdicts(suite(tasks)).row(0, named=True)
    assert row["blocks"] == 60 and row["effective_blocks"] == pytest.approx(60)
    assert row["n_test"] == 300 and row["seeds"] == 3
    assert row["blocks_for_margin"] > 60  # a hundredth of AUROC needs more than 60 blocks
    assert row["naive_test"] == "DeLong" and row["naive_p"] < 0.001
    assert row["diff_low"] < row["diff_low90"] < row["difference"] < row["diff_high90"]


def test_a_store_without_trained_arms_has_an_empty_table() -> None:
    tasks = {"t": predictions(np.random.default_rng(0), {"onehot": 0.8, "kmer": 0.5})}
    table = verdicts(suite(tasks))
    assert len(table) == 0 and table.columns == list(VERDICT_SCHEMA)
    assert len(arm_scores(suite(tasks))) == 2


def test_every_metric_of_every_arm_has_its_null() -> None:
    rng = np.random.default_rng(1)
    both = card("t", metric={"primary": "auroc", "secondary": ["auprc", "mcc"]})
    table = arm_scores(suite({"t": predictions(rng, GOOD)}, 200, {"t": both}))
    assert table["metric"].unique(maintain_order=True).to_list() == ["auroc", "auprc", "mcc"]
    assert table.filter("primary")["metric"].unique().to_list() == ["auroc"]
    model = table.filter(pl.col("arm") == "model")
    assert (model["null_high"] < model["low"]).all()
    assert table.filter("primary")["best_share"].sum() == pytest.approx(1)


def test_only_the_tasks_that_leak_lose_their_gain() -> None:
    rng = np.random.default_rng(0)
    tasks = {name: predictions(rng, GOOD) for name in ("clean", "dirty")}
    clean, dirty = verdict_lines(verdicts(suite(tasks), leaky={"dirty"}))
    assert "gain over one-hot" in clean and "leakage" not in clean
    assert "gain withheld" in dirty
