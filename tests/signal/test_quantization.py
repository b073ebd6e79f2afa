import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cislens.signal.quantization import (
    RELATIVE_ERROR,
    STEP,
    UNIT,
    dequantize,
    quantize,
    values,
    widen,
)

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = EVERY[np.isfinite(EVERY)]
COUNTS = FINITE[FINITE >= 0]


def test_the_table_is_the_documented_formula_and_strictly_rising():
    expected = [UNIT * (math.exp(k * STEP) - 1) for k in range(256)]
    np.testing.assert_allclose(values()[1:255], expected[1:255], rtol=2**-11)
    assert (values()[0], values()[255]) == (0, 65504)
    assert (np.diff(values().astype(np.float64)) > 0).all()


def test_every_count_is_kept_within_the_stated_error_and_in_order():
    found = dequantize(quantize(COUNTS)).astype(np.float64)
    exact = COUNTS.astype(np.float64)
    assert (np.abs(found - exact) <= RELATIVE_ERROR * (exact + UNIT)).all()
    assert RELATIVE_ERROR < 0.0342
    order = np.argsort(exact, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@given(st.floats(0, 65504))
def test_a_count_of_any_precision_is_kept_within_the_stated_error(value):
    found = float(dequantize(quantize(np.array([value]).astype(np.float16)))[0])
    assert abs(found - value) <= RELATIVE_ERROR * (value + UNIT)


def test_zero_is_exact_and_what_rounding_left_below_it_becomes_zero():
    np.testing.assert_array_equal(quantize(np.array([0.0, -0.0, -1e-3], np.float16)), 0)


def test_a_value_of_the_table_has_its_own_code():
    np.testing.assert_array_equal(quantize(values()), np.arange(256))


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 5, 7), (4, 6, 8), (0, 3)])
def test_widening_codes_gives_what_they_stand_for(shape):
    codes = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = np.full(shape, np.nan, np.float32)
    widen(codes, found)
    np.testing.assert_array_equal(found, values()[codes].astype(np.float32))


def test_widening_is_exact_for_every_finite_float16():
    found = np.empty(FINITE.shape, np.float32)
    widen(FINITE, found)
    np.testing.assert_array_equal(found.view(np.int32), FINITE.astype(np.float32).view(np.int32))
