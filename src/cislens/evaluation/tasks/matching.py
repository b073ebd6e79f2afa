"""Controls matched to positives by covariates."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cislens.errors import CislensError
from cislens.genome.sampling import standardized_difference
from cislens.randomness import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Matched:
    """Which control goes with which positive.

    Attributes:
        group: of each row the number of its positive's row; -1 for positives without a control
            and controls without a positive.
        before, after: standardized mean difference of each covariate between positives and all
            controls, and between matched positives and the means of their controls.
    """

    group: Ints
    before: list[float]
    after: list[float]


def match_controls(
    covariates: Floats,
    positive: npt.NDArray[np.bool_],
    stratum: npt.NDArray[np.generic],
    controls: int,
    caliper: float,
    seed: int,
) -> Matched:
    """Give each positive its nearest free controls, without replacement.

    Covariates (n, D) are scaled by their median absolute deviation; positives take turns in
    random order, one control a round, so that late ones are not left with nothing.

    Args:
        stratum: a control must be of its positive's stratum (n,).
        controls: how many for each positive at most.
        caliper: largest difference of any covariate, in robust standard deviations.

    Raises:
        CislensError: if no positive has a control.
    """
    scaled = robust_scale(covariates)
    group = np.full(len(scaled), -1)
    rng = generator(seed, "controls")
    for value in np.unique(stratum):
        cases = np.flatnonzero(positive & (stratum == value))
        pool = np.flatnonzero(~positive & (stratum == value))
        if len(cases) and len(pool):
            _deal(scaled, cases, pool, group, controls, caliper, rng)
    if (group < 0).all():
        raise CislensError(
            f"no positive has a control within {caliper:g} robust standard deviations; widen the "
            "caliper, or match by fewer covariates."
        )
    return Matched(
        group,
        [standardized_difference(c[positive], c[~positive]) for c in covariates.T],
        _difference_of_sets(covariates, positive, group),
    )


def robust_scale(values: Floats) -> Floats:
    """Columns minus their median, in units of 1.4826 times the median absolute deviation.

    A column whose deviation is 0 is scaled by its standard deviation; a constant one becomes 0.
    """
    centered = values - np.median(values, axis=0)
    spread = np.median(np.abs(centered), axis=0) * _MAD_TO_SD
    spread = np.where(spread > 0, spread, centered.std(axis=0))
    scaled: Floats = centered / np.where(spread > 0, spread, 1.0)
    return scaled


def _deal(
    scaled: Floats, cases: Ints, pool: Ints, group: Ints, controls: int, caliper: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    near = cKDTree(scaled[pool]).query_ball_point(scaled[cases], caliper, p=np.inf)
    ranked = []
    for case, found in zip(cases.tolist(), near, strict=True):
        candidates = pool[np.array(found, np.int64)]
        distance = np.linalg.norm(scaled[candidates] - scaled[case], axis=1)
        ranked.append(candidates[np.argsort(distance, kind="stable")].tolist()[::-1])
    order = rng.permutation(len(cases)).tolist()
    for _round in range(controls):
        for number in order:
            while ranked[number]:
                control = ranked[number].pop()
                if group[control] < 0:
                    group[control] = group[cases[number]] = cases[number]
                    break


def _difference_of_sets(
    covariates: Floats, positive: npt.NDArray[np.bool_], group: Ints
) -> list[float]:
    """As a standardized mean difference, every set counting as one whatever its size."""
    cases = np.flatnonzero(positive & (group >= 0))
    controls = np.flatnonzero(~positive & (group >= 0))
    number = np.searchsorted(cases, group[controls])
    size = np.bincount(number, minlength=len(cases))
    found = []
    for column in covariates.T:
        of_set = np.bincount(number, column[controls], len(cases)) / size
        spread = float(np.sqrt((column[cases].var() + column[controls].var()) / 2))
        difference = float((column[cases] - of_set).mean())
        found.append(difference / spread if spread > 0 else 0.0)
    return found
