"""How unusual a variant's score is: percentiles, p-values and false discovery rates.

The null is the scores of background variants (see `background`), each column by itself. A
variant's p-value counts the background variants that score at least as much as it does, so it can
only take the values 1 / (n + 1) .. 1 of n background variants. False discovery rates therefore
follow from one histogram per column, whatever the number of variants.

The best of many columns is nothing unusual by itself: of thousands of tracks there is nearly always
one in which a variant exceeds the whole background. A set of columns therefore has a statistic and
a null of its own: how far a variant stands out in the column where it does most, against the same
of each background variant, measured against the other ones.

Dimensions: n background variant, m variant, K column (a track or a scalar), S set of columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError

Values = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Standing = npt.NDArray[np.float64]

# In place of the count where a variant has no score, such as a likelihood ratio of a deletion.
UNCALIBRATED = -1


@dataclass(frozen=True)
class Null:
    """Scores of background variants, by column, and the best of sets of columns.

    Attributes:
        sorted_nK: |score|, ascending in each column; NaN throughout where a background variant
            has no score.
        sets: columns of each set.
        best_nS: `standing` in the set's best column of each background variant among the
            others, ascending; infinite throughout if no column of the set has scores.
    """

    sorted_nK: Values
    sets: tuple[Ints, ...] = ()
    best_nS: Standing = field(default_factory=lambda: np.empty((0, 0)))

    @classmethod
    def of(cls, scores_nK: Values, sets: Sequence[Sequence[int]] = ()) -> "Null":
        """The null of signed or unsigned scores (n, K).

        Raises:
            CislensError: if there is no background variant.
        """
        if scores_nK.ndim != 2 or not len(scores_nK):
            raise CislensError("a null distribution needs at least one background variant.")
        absolute = np.abs(scores_nK).astype(np.float32)
        absolute[:, np.isnan(absolute).any(0)] = np.nan
        ascending = np.sort(absolute, axis=0)
        members = tuple(np.asarray(columns, np.int64) for columns in sets)
        best = [np.sort(_among_others(absolute[:, rows], ascending[:, rows])) for rows in members]
        return cls(ascending, members, np.stack(best, 1) if best else np.empty((len(absolute), 0)))

    @property
    def size(self) -> int:
        """Number of background variants."""
        return len(self.sorted_nK)

    @property
    def spread(self) -> npt.NDArray[np.float64]:
        """Root mean square of each column; NaN without scores."""
        square = np.mean(self.sorted_nK.astype(np.float64) ** 2, axis=0)
        spread: npt.NDArray[np.float64] = np.sqrt(square)
        return spread

    @property
    def width(self) -> int:
        """Columns and sets together."""
        columns: int = self.sorted_nK.shape[1]
        return columns + len(self.sets)

    @property
    def scale(self) -> Values:
        """Root mean square of each column; 1 where all is 0."""
        spread = self.spread
        scale: Values = np.where(spread > 0, spread, 1.0).astype(np.float32)
        return scale

    def at_least(self, scores_mK: Values) -> Counts:
        """How many background variants stand out at least as much as each variant.

        (m, K + S): by |score| in each column, then by the best column of each set.
        `UNCALIBRATED` where a variant or the background has no score.
        """
        found = np.full((len(scores_mK), self.width), UNCALIBRATED, np.int32)
        absolute = np.abs(scores_mK).astype(np.float32)
        for column in np.flatnonzero(~np.isnan(self.sorted_nK[0])).tolist():
            below = np.searchsorted(self.sorted_nK[:, column], absolute[:, column], side="left")
            found[:, column] = self.size - below
        columns = scores_mK.shape[1]
        found[:, :columns][np.isnan(absolute)] = UNCALIBRATED
        if self.sets:
            stands_mK = standing(absolute, found[:, :columns], self.scale)
            for place, rows in enumerate(self.sets):
                best_m = stands_mK[:, rows].min(1)
                reach = np.searchsorted(self.best_nS[:, place], best_m, side="right")
                found[:, columns + place] = np.where(np.isinf(best_m), UNCALIBRATED, reach)
        return found


def standing(scores_mK: Values, at_least_mK: Counts, scale_K: npt.NDArray[np.floating]) -> Standing:
    """How far each variant stands out, (m, K): the less, the farther; infinite without a score.

    The count of background variants that reach its |score|, less a part of 1 that grows with
    |score| over the background's root mean square and so decides between equal counts.
    """
    relative = np.abs(scores_mK).astype(np.float64) / scale_K
    found: Standing = at_least_mK - relative / (1 + relative)
    found[at_least_mK == UNCALIBRATED] = np.inf
    return found


def _among_others(scores_nK: Values, sorted_nK: Values) -> Standing:
    """Least `standing` (n,) of each background variant, the others being its background."""
    n, least = len(scores_nK), np.full(len(scores_nK), np.inf)
    for column in np.flatnonzero(~np.isnan(sorted_nK[0])).tolist():
        scores = scores_nK[:, column]
        below = np.searchsorted(sorted_nK[:, column], scores, side="left")
        square = scores.astype(np.float64) ** 2
        others = np.maximum(square.sum() - square, 0) / max(n - 1, 1)
        scale = np.sqrt(np.where(others > 0, others, 1.0))
        count = (n - 1 - below).astype(np.int32)  # without itself
        least = np.minimum(least, standing(scores, count, scale))
    return least


def percentiles(at_least_mK: Counts, size: int) -> Values:
    """Percent of the background that scores less, 0 to 100; NaN where there is no score."""
    return _called(at_least_mK, 100.0 * (size - at_least_mK) / size)


def p_values(at_least_mK: Counts, size: int) -> Values:
    """Empirical p-value (1 + count) / (1 + size), never 0.

    Phipson and Smyth 2010, Stat Appl Genet Mol Biol 9:39. NaN where there is no score.
    """
    return _called(at_least_mK, (1.0 + at_least_mK) / (1.0 + size))


class RankCounts:
    """How many variants of each column have each of the n + 1 possible p-values.

    The only thing that false discovery rates need to know of all variants together; its size
    does not depend on their number.
    """

    def __init__(self, size: int, columns: int) -> None:
        self.size = size
        self.counts = np.zeros((size + 1, columns), np.int64)

    def add(self, at_least_mK: Counts) -> None:
        """Count more variants; those without a score do not count."""
        _, columns = at_least_mK.shape
        place = at_least_mK.astype(np.int64) * columns + np.arange(columns)
        called = place[at_least_mK != UNCALIBRATED]
        self.counts += np.bincount(called, minlength=self.counts.size).reshape(self.counts.shape)

    def q_table(self) -> npt.NDArray[np.float64]:
        """(n + 1, K) false discovery rate of a variant whose count `at_least` is the row.

        Benjamini and Hochberg 1995, J R Stat Soc B 57:289, over all variants counted: q of a
        p-value p is the least of (number of variants) * p' / (number with p-value <= p'), p' >= p.
        """
        p = (1.0 + np.arange(self.size + 1)) / (1.0 + self.size)
        below = np.cumsum(self.counts, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(below > 0, below[-1] * p[:, None] / below, np.inf)
        least = np.minimum.accumulate(ratio[::-1], axis=0)[::-1]
        found: npt.NDArray[np.float64] = np.minimum(least, 1.0)
        return found


def q_values(at_least_mK: Counts, q_table: npt.NDArray[np.float64]) -> Values:
    """False discovery rate of each variant and column; NaN where there is no score."""
    rows = np.maximum(at_least_mK, 0)
    return _called(at_least_mK, q_table[rows, np.arange(at_least_mK.shape[1])])


def top_columns(
    scores_mK: Values, at_least_mK: Counts | None, scale_K: Values | None, most: int
) -> npt.NDArray[np.int64]:
    """The columns that stand out most for each variant, (m, most or K), the first the most.

    By the count of background variants that reach the score and, where these are equal, by |score|
    over the background's root mean square. Without a background by |score|. Columns without a
    score come last.
    """
    key: Standing
    if at_least_mK is None or scale_K is None:
        key = -np.abs(scores_mK).astype(np.float64)
    else:
        key = standing(scores_mK, at_least_mK, scale_K)
    key[np.isnan(scores_mK)] = np.inf
    return np.argsort(key, axis=1, kind="stable")[:, :most]


def _called(at_least_mK: Counts, values: npt.NDArray[np.floating]) -> Values:
    found: Values = np.where(at_least_mK == UNCALIBRATED, np.nan, values).astype(np.float32)
    return found
