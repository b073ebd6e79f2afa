import numpy as np
import pytest
from scipy import special, stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from synthetic import card, suite

from cislens.evaluation.calibration import CALIBRATION, brier, calibration, expected_error, line
from cislens.evaluation.statistics import Predictions

N = 2000
BLOCK = np.arange(N) // 10


def _binary(sharpness: float, seed: int = 0) -> Predictions:
    """Logits that are right, times the sharpness."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=N) * 1.5
    y = (rng.random(N) < special.expit(logit)).astype(float)
    scores = sharpness * np.stack([logit, logit + 0.05 * rng.normal(size=N)])
    return Predictions(("model",), scores[None, ..., None].astype(np.float32), y[:, None], BLOCK)


def test_a_calibrated_arm_lies_on_the_diagonal() -> None:
    table = calibration(suite({"t": _binary(1.0)}))
    assert table.columns == list(CALIBRATION) and len(table) == 10
    covered = (table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])
    assert covered.sum() >= 8
    assert table["ece"][0] < 0.04 and table["ece_low"][0] < 0.02
    assert table["predicted"].is_sorted()
    assert table["slope"].null_count() == 10


def test_overconfidence_is_found() -> None:
    right, sharp = (calibration(suite({"t": _binary(s)})) for s in (1.0, 4.0))
    assert sharp["ece_low"][0] > 0.08 > right["ece_high"][0]
    assert sharp["brier_low"][0] > right["brier_high"][0]
    assert sharp["observed"][0] > sharp["predicted"][0]
    assert sharp["observed"][9] < sharp["predicted"][9]


def test_brier_and_bins_agree_with_scikit_learn() -> None:
    predictions = _binary(1.5)
    p = special.expit(predictions.scores_MRNT[0, 0, :, 0].astype(float))
    y, ones = predictions.y_NT[:, 0], np.ones((1, 200))
    assert brier(y, p, ones, BLOCK)[0] == pytest.approx(brier_score_loss(y, p))
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="quantile")
    gap = np.abs(observed - predicted).mean()
    assert expected_error(y, p, ones, BLOCK, 10)[0] == pytest.approx(gap, abs=1e-3)


def test_weights_of_blocks_repeat_their_examples() -> None:
    rng = np.random.default_rng(1)
    y, s = rng.normal(size=(2, N)) + 5
    y += s
    weights = rng.integers(0, 3, 200).astype(float)
    rows = np.repeat(np.arange(N), weights[BLOCK].astype(int))
    slope, intercept = line(y, s, weights[None], BLOCK)
    peer = stats.linregress(s[rows], y[rows])
    assert (slope[0], intercept[0]) == pytest.approx((peer.slope, peer.intercept))


def test_a_regression_that_shrinks_has_a_slope_above_one() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=N)
    y = 3 + truth + 0.5 * rng.normal(size=N)
    y[:100] = np.nan
    scores = (3 + 0.5 * truth)[None, None, :, None].astype(np.float32)
    told = card("t", kind="regression", metric={"primary": "pearson"})
    predictions = Predictions(("model",), scores, y[:, None], BLOCK)
    table = calibration(suite({"t": predictions}, cards={"t": told}))
    assert table["slope_low"][0] < 2 < table["slope_high"][0]
    assert table["intercept_low"][0] < -3 < table["intercept_high"][0]
    assert table["slope_high"][0] - table["slope_low"][0] < 0.2
    assert table["brier"].null_count() == len(table)


def test_zero_shot_scores_have_no_calibration() -> None:
    told = card("t", kind="variant", score_sign="signed")
    assert len(calibration(suite({"t": _binary(1.0)}, cards={"t": told}))) == 0
