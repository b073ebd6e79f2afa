"""How unusual a variant's score is: percentiles, p-values and false discovery rates.

The null is the scores of background variants (see `background`), each column by itself. A
variant's p-value counts the background variants that score at least as much as it does, so it can
only take the values 1 / (n + 1) .. 1 of n background variants. False discovery rates therefore
follow from one histogram per column, whatever the number of variants.

Dimensions: n background variant, m variant, K column (a track or a scalar), G assay group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError

Values = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int32]

# In place of the count where a variant has no score, such as a likelihood ratio of a deletion.
UNCALIBRATED = -1


@dataclass(frozen=True)
class Null:
    """Scores of background variants, by column.

    Attributes:
        sorted_nK: |score|, ascending in each column; NaN throughout where a background variant
            has no score.
    """

    sorted_nK: Values

    @classmethod
    def of(cls, scores_nK: Values) -> "Null":
        """The null of signed or unsigned scores (n, K).

        Raises:
            CislensError: if there is no background variant.
        """
        if scores_nK.ndim != 2 or not len(scores_nK):
            raise CislensError("a null distribution needs at least one background variant.")
        absolute = np.abs(scores_nK).astype(np.float32)
        absolute[:, np.isnan(absolute).any(0)] = np.nan
        return cls(np.sort(absolute, axis=0))

    @property
    def size(self) -> int:
        """Number of background variants."""
        return len(self.sorted_nK)

    @property
    def scale(self) -> Values:
        """Root mean square of each column; 1 where all is 0."""
        square = np.mean(self.sorted_nK.astype(np.float64) ** 2, axis=0)
        scale: Values = np.sqrt(np.where(square > 0, square, 1.0)).astype(np.float32)
        return scale

    def at_least(self, scores_mK: Values) -> Counts:
        """How many background variants have at least the |score| of each variant, (m, K).

        `UNCALIBRATED` where a variant or the column's background has no score.
        """
        found = np.full(scores_mK.shape, UNCALIBRATED, np.int32)
        absolute = np.abs(scores_mK).astype(np.float32)
        for column in np.flatnonzero(~np.isnan(self.sorted_nK[0])).tolist():
            below = np.searchsorted(self.sorted_nK[:, column], absolute[:, column], side="left")
            found[:, column] = self.size - below
        found[np.isnan(absolute)] = UNCALIBRATED
        return found


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
    absolute = np.abs(scores_mK).astype(np.float64)
    if at_least_mK is None or scale_K is None:
        key = -absolute
    else:
        relative = absolute / scale_K
        # Below 1, so that it decides only between equal counts.
        key = at_least_mK - relative / (1 + relative)
        key[at_least_mK == UNCALIBRATED] = np.inf
    key[np.isnan(scores_mK)] = np.inf
    return np.argsort(key, axis=1, kind="stable")[:, :most]


def best_of_groups(values_mK: Values, groups: Sequence[str]) -> dict[str, Values]:
    """The largest value (m,) over the columns of each group, by name of the group."""
    found: dict[str, Values] = {}
    for group in sorted(set(groups)):
        columns = [index for index, name in enumerate(groups) if name == group]
        found[group] = values_mK[:, columns].max(1)
    return found


def _called(at_least_mK: Counts, values: npt.NDArray[np.floating]) -> Values:
    found: Values = np.where(at_least_mK == UNCALIBRATED, np.nan, values).astype(np.float32)
    return found
