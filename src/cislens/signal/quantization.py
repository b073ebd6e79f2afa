"""Bins in one byte: 256 values from 0 to 65504, evenly spaced in the logarithm.

Code k stands for v(k) = UNIT * (exp(k * STEP) - 1), rounded to float16; STEP is such that code 255
stands for 65504, the largest float16. So 0 is exact, codes are in the order of their values, and a
value is replaced by the nearest in log(1 + v / UNIT): v + UNIT is kept within a factor of
exp(STEP / 2), which is 3.3 % of v where v is well above UNIT and 0.00013 near 0. That is below the
noise of a count of less than some 900. The table is the same for every track and store.

Both directions are lookups, so they give the same codes and values on every machine.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from cislens.signal.transforms import FLOAT16_MAX

CODES = 256
UNIT = 2.0**-8
STEP = math.log1p(FLOAT16_MAX / UNIT) / (CODES - 1)
# |decoded - v| <= RELATIVE_ERROR * (v + UNIT), for any v from 0 to 65504. The second term is the
# rounding to float16 of v and of what stands for it.
RELATIVE_ERROR = math.expm1(STEP / 2) + 2.0**-10

Half = npt.NDArray[np.float16]
Bytes = npt.NDArray[np.uint8]


@cache
def values() -> Half:
    """What each code stands for, (256,)."""
    found = UNIT * np.expm1(np.arange(CODES) * STEP)
    found[-1] = FLOAT16_MAX
    halves: Half = found.astype(np.float16)
    return halves


@cache
def _code_of_half() -> Bytes:
    """The code of each float16 by its bits, (65536,); 0 for what is negative or no number."""
    halves = np.arange(1 << 15, dtype=np.uint16).view(np.float16).astype(np.float64)
    finite = halves[np.isfinite(halves)]
    codes = np.zeros(1 << 16, np.uint8)
    codes[: finite.size] = np.rint(np.log1p(finite / UNIT) / STEP)
    return codes


@cache
def _pairs() -> npt.NDArray[np.int64]:
    """The bits of two float32 for each two codes, (65536,): half the lookups."""
    codes = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    return values().astype(np.float32)[codes].view(np.int64).ravel()


def quantize(bins: Half) -> Bytes:
    """The code of each of some bins, which are finite; what is below 0 becomes 0."""
    return np.take(_code_of_half(), bins.view(np.uint16), mode="clip")


def dequantize(codes: Bytes) -> Half:
    """What some codes stand for, of any shape."""
    return np.take(values(), codes, mode="clip")


def widen(bins: Half | Bytes, out: npt.NDArray[np.float32]) -> None:
    """Write stored bins, finite float16 or codes, as float32, exactly; both are contiguous."""
    if bins.dtype == np.uint8:
        _widen_codes(bins.view(np.uint8).reshape(-1), out.reshape(-1))
    else:
        _widen_halves(bins, out)


def _widen_codes(codes: Bytes, out: npt.NDArray[np.float32]) -> None:
    even = codes.size // 2 * 2
    pairs, into = codes[:even].view(np.uint16), out[:even].view(np.int64)
    np.take(_pairs(), pairs, out=into, mode="clip")
    out[even:] = values()[codes[even:]]


def _widen_halves(bins: npt.NDArray[np.generic], out: npt.NDArray[np.float32]) -> None:
    """Shift the bits of float16 into those of float32.

    That leaves the value but for the bias of the exponent, a factor of 2**112. numpy's own cast
    branches on each value, which takes nine times as long where zeros and counts mix.
    """
    bits = out.view(np.int32)
    np.left_shift(bins.view(np.int16), 13, out=bits, dtype=np.int32)
    bits &= np.int32(-0x70000001)
    out *= np.float32(2.0**112)
