import numpy as np
import pytest
from scipy import stats

from cislens.errors import CislensError
from cislens.evaluation.multiplicity import (
    blocks_needed,
    corrected_resampled,
    holm,
    minimum_detectable,
)
from cislens.evaluation.statistics import Contrast


def _contrast(se_examples: float, se_seeds: float) -> Contrast:
    se = float(np.hypot(se_examples, se_seeds))
    return Contrast(0, 0, 0, 0, 0, se, se_examples, se_seeds, 50, 1)


def test_holm_is_the_step_down_adjustment() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_minimum_detectable_effect_is_2_8_standard_errors() -> None:
    assert minimum_detectable(1.0) == pytest.approx(2.80, abs=0.005)
    assert minimum_detectable(1.0, family=5) > minimum_detectable(1.0)
    assert minimum_detectable(1.0, df=1e6) == pytest.approx(minimum_detectable(1.0), rel=1e-4)
    assert minimum_detectable(1.0, df=4) == pytest.approx(2.776 + 0.941, abs=0.001)


def test_blocks_needed_bring_the_detectable_difference_to_delta() -> None:
    # Four times the blocks halve the error of the examples.
    assert blocks_needed(_contrast(0.02, 0), 50, minimum_detectable(0.01)) == 200
    assert blocks_needed(_contrast(0.02, 0), 50, minimum_detectable(0.01), family=4) > 200
    # Seeds leave an error that blocks do not reduce.
    assert blocks_needed(_contrast(0.02, 0.009), 50, minimum_detectable(0.01)) > 1000
    assert blocks_needed(_contrast(0.02, 0.011), 50, minimum_detectable(0.01)) == np.inf
    with pytest.raises(CislensError, match="above 0"):
        blocks_needed(_contrast(0.02, 0), 50, 0)


def test_overlapping_training_sets_widen_the_error_over_folds() -> None:
    differences = [0.02, 0.05, 0.01, 0.04, 0.03]
    naive = stats.ttest_1samp(differences, 0)
    apart = corrected_resampled(differences, 0.0)
    assert apart.p == pytest.approx(naive.pvalue)
    assert (apart.low, apart.high) == pytest.approx(tuple(naive.confidence_interval()))
    # Five folds, a quarter as many test as training examples: 1/5 becomes 1/5 + 1/4.
    corrected = corrected_resampled(differences, 0.25)
    assert corrected.se == pytest.approx(apart.se * 1.5)
    with pytest.raises(CislensError, match="at least two"):
        corrected_resampled([0.1], 0.25)
