"""From values per base to the bins a model is trained on, and back.

The order is that of Basenji's data reader: fill uncovered bases, crop, scale, pool, soft clip,
hard clip, float16. Values stay float32 until the last step. Two of that reader's habits are not
taken over: it rounds to float16 before pooling, and one uncovered base makes its baseline 0.
"""

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.signal.tracks import Track

FLOAT16_MAX = float(np.finfo(np.float16).max)

Values = npt.NDArray[np.float32]


# Profiles are counts. Below 0 the Poisson loss has no minimum; sums that should be 0 may miss it
# by rounding.
LOWEST = -1e-3
NEGATIVE = (
    "profiles are counts and not negative. Give a negative scale for a minus strand that is "
    "stored below zero, or leave the track out."
)


class NotFiniteError(CislensError):
    """Values that are infinite.

    Attributes:
        row, bin: the window and its bin where they were first met.
    """

    def __init__(self, track: Track, row: int, at: int, value: float) -> None:
        self.row, self.bin = row, at
        super().__init__(
            f"track {track.id!r} ({track.file}) sums to {value} in bin {at} of window {row}; "
            "its values must be finite, write the file again."
        )


def transform(values: Values, track: Track, *, bin_size: int, crop: int = 0) -> Values:
    """Bins (n, L // bin_size - 2 * crop) of windows of values per base (n, L), float32.

    NaN marks a base without a value, see `Track.uncovered` (`auto` acts as `zero` here; the
    builder looks at the file and resolves it first). The scale is applied to the pooled bins,
    which is the same as scaling each base.

    Args:
        bin_size: bases in a bin; divides L.
        crop: bins left out at either side. The baseline is still that of the whole window.

    Raises:
        NotFiniteError: if a bin is infinite, or the sum of infinities of both signs.
    """
    pooled = _pool(values, bin_size, crop)
    uncovered = np.flatnonzero(np.isnan(pooled).any(axis=1))
    if uncovered.size:
        pooled[uncovered] = _pool(fill_uncovered(values[uncovered], track), bin_size, crop)
    _require_finite(pooled, track)
    pooled *= np.float32(track.scale / (bin_size if track.sum_stat == "mean" else 1))
    return clip(pooled, track)


def _pool(values: Values, bin_size: int, crop: int) -> Values:
    n, length = values.shape
    cut = crop * bin_size
    with np.errstate(invalid="ignore"):  # infinities of both signs; refused later
        pooled: Values = values[:, cut : length - cut].reshape(n, -1, bin_size).sum(axis=2)
    return pooled


def _require_finite(pooled: Values, track: Track) -> None:
    wrong = np.argwhere(~np.isfinite(pooled))
    if wrong.size:
        row, at = wrong[0].tolist()
        raise NotFiniteError(track, row, at, float(pooled[row, at]))


def fill_uncovered(values: Values, track: Track) -> Values:
    """Values with NaN replaced: by 0, or by the median of the window's measured bases.

    A window without any measured base is 0.
    """
    uncovered = np.isnan(values)
    filled = np.where(uncovered, np.float32(0), values)
    if track.uncovered == "baseline":
        for row in np.flatnonzero(uncovered.any(axis=1)):
            measured = values[row, ~uncovered[row]]
            if measured.size:
                filled[row, uncovered[row]] = np.median(measured)
    return filled


def clip(pooled: Values, track: Track) -> Values:
    """Clip bins as the track asks.

    `soft` turns v > c into c - 1 + sqrt(v - c + 1), which is c at c and has slope 1/2 there;
    `hard` cuts at -c and c.
    """
    if track.clip_mode == "hard":
        return np.clip(pooled, np.float32(-track.clip), np.float32(track.clip))
    if track.clip_mode == "soft":
        c = np.float32(track.clip)
        root = np.sqrt(np.maximum(pooled - c + 1, 1, dtype=np.float32))
        return np.where(pooled > c, c - 1 + root, pooled)
    return pooled


def untransform(bins: Values, track: Track, *, bin_size: int | None = None) -> Values:
    """Undo soft clip and scale: bins in the units of the track's file, float32.

    A bin is the sum or the mean of its bases as `track.sum_stat` says; with `bin_size` it is
    their mean in either case, which is what a browser track shows. What a hard clip cut off
    stays cut off.
    """
    values = np.asarray(bins, dtype=np.float32)
    if track.clip_mode == "soft":
        c = np.float32(track.clip)
        values = np.where(values > c, c - 1 + np.square(values - c + 1), values)
    values = values / np.float32(track.scale)
    if bin_size is not None and track.sum_stat == "sum":
        values = values / np.float32(bin_size)
    return np.asarray(values, dtype=np.float32)


def to_float16(bins: Values) -> npt.NDArray[np.float16]:
    """Bins as float16; what lies beyond its range becomes its largest number, not infinity."""
    return np.clip(bins, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
