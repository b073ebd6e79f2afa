import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.evaluation.tasks.matching import match_controls, robust_scale


def test_scaling_by_the_median_deviation_ignores_outliers() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (20_001, 1))
    values[:100] = 1e6
    scaled = robust_scale(values)
    # Of a normal distribution 1.4826 times the median absolute deviation is the deviation.
    assert np.median(scaled) == 0
    assert scaled[100:].std() == pytest.approx(1.0, abs=0.02)
    constant = robust_scale(np.ones((5, 1)))
    assert (constant == 0).all()


def test_controls_are_near_of_the_stratum_and_used_once() -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(2000) < 50
    covariates = rng.normal(size=(2000, 2)) + positive[:, None]
    stratum = rng.integers(0, 3, 2000)
    matched = match_controls(covariates, positive, stratum, controls=3, caliper=0.25, seed=0)
    scaled = robust_scale(covariates)
    controls = np.flatnonzero((matched.group >= 0) & ~positive)
    owner = matched.group[controls]
    assert positive[owner].all()
    assert (stratum[controls] == stratum[owner]).all()
    assert np.abs(scaled[controls] - scaled[owner]).max() <= 0.25
    assert np.bincount(owner).max() == 3
    assert len(controls) == len(np.unique(controls))
    assert min(matched.before) > 0.8
    assert max(np.abs(matched.after)) < 0.1
    sets = [controls[owner == case] for case in np.unique(owner)]
    differences = [covariates[case] - covariates[own].mean(0) for case, own in
                   zip(np.unique(owner), sets, strict=True)]  # fmt: skip
    assert np.abs(np.mean(differences, axis=0)).max() < 0.1
    # A positive belongs to its own set, and one without a control to none.
    assert (matched.group[owner] == owner).all()
    assert set(np.flatnonzero(positive & (matched.group < 0))).isdisjoint(owner)
    again = match_controls(covariates, positive, stratum, controls=3, caliper=0.25, seed=0)
    np.testing.assert_array_equal(again.group, matched.group)


def test_without_a_control_nearby_there_is_no_task() -> None:
    covariates = np.array([[100.0], [0.0], [1.0], [2.0]])
    positive = np.array([True, False, False, False])
    with pytest.raises(CislensError, match=r"control within 0\.5 robust"):
        match_controls(covariates, positive, np.zeros(4), controls=1, caliper=0.5, seed=0)
