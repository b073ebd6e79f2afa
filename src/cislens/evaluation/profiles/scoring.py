"""Means over the tracks of a group with their intervals, from sums: no prediction is kept.

The bench's engine draws blocks and seeds. What it takes for the scores of an example is here the
number of the run that made them: the metric itself is computed from the run's sums, which the
draws weight block by block.

Dimensions: M arm, R seed, W window, T track, K sum, G block, B draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.evaluation.profiles.sums import WindowSums, combined
from cislens.evaluation.statistics import Predictions, Resampled, resample_measure

Values = npt.NDArray[np.float64]

_TRACKS = 64  # at a time; draws x tracks x sums are held


@dataclass(frozen=True)
class Scored:
    """A metric's mean over some tracks of one species, for every arm.

    Attributes:
        tracks: those that could be measured.
        full_MR: on all windows.
        resampled: None where the windows lie in a single block, which tells no uncertainty.
    """

    metric: str
    species: str
    group: str
    arms: tuple[str, ...]
    tracks: tuple[str, ...]
    full_MR: Values
    resampled: Resampled | None

    def mean(self, arm: str) -> float:
        """The arm's metric, over its seeds."""
        return float(self.full_MR[self.arms.index(arm)].mean())


def score(
    arms: Mapping[str, Sequence[WindowSums]],
    block_W: npt.NDArray[np.int64],
    metric: str,
    tracks: Sequence[str],
    *,
    species: str,
    group: str,
    draws: int = 2000,
    seed: int = 0,
) -> Scored | None:
    """The metric's mean over tracks with its resampled values; None if no track can be measured.

    Args:
        arms: name -> sums of each seed, all of the same windows; an arm with one stands for every
            seed.
        block_W: block of each window; blocks are what is drawn.
        draws: none if 0; then there is no interval.

    Raises:
        CislensError: if two arms have several seeds, but not equally many.
    """
    seeds = seeds_of(arms)
    some = next(iter(arms.values()))[0]
    having = set(some.measured(metric))
    known = [name for name in tracks if name in having]
    # What varies is a matter of the target, so of any run.
    values = some.take(known).value(metric).per_track
    kept = [name for name, value in zip(known, values, strict=True) if np.isfinite(value)]
    if not kept:
        return None
    _, block_W = np.unique(block_W, return_inverse=True)
    runs = [run.take(kept) for each in arms.values() for run in each]
    blocks = [_by_block(run.additive(metric), block_W) for run in runs]
    numbers_MR = _numbers(arms, seeds)
    full = [float(_mean(metric, sums, np.ones((1, sums.shape[1])))[0]) for sums in blocks]
    full_MR = np.array(full)[numbers_MR]
    resampled = None
    if draws and block_W.max() > 0:
        shape = (*numbers_MR.shape, len(block_W), 1)
        scores_MRNT = np.broadcast_to(numbers_MR[:, :, None, None], shape).astype(np.float32)
        given = Predictions(tuple(arms), scores_MRNT, np.zeros((len(block_W), 1)), block_W)

        def measure(s_NT: Values, w_BG: Values) -> Values:
            return _mean(metric, blocks[int(s_NT[0, 0])], w_BG)

        what = f"{metric} of {species} {group}"
        resampled = resample_measure(given, measure, what, draws, seed)
    return Scored(metric, species, group, tuple(arms), tuple(kept), full_MR, resampled)


def seeds_of(arms: Mapping[str, Sequence[object]]) -> int:
    """How many seeds the arms have; one with a single run goes with any number.

    Raises:
        CislensError: if two arms have several, but not equally many.
    """
    several = {name: len(runs) for name, runs in arms.items() if len(runs) > 1}
    if len(set(several.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in several.items())
        raise CislensError(
            f"arms have different numbers of runs ({listed}); seeds are drawn for all arms "
            "together, so give each arm one run or equally many."
        )
    return max(several.values(), default=1)


def _numbers(arms: Mapping[str, Sequence[object]], seeds: int) -> npt.NDArray[np.int64]:
    """(M, R) number of the run of each arm and seed, counted through all arms."""
    firsts = np.cumsum([0, *(len(runs) for runs in arms.values())])
    rows = [
        first + (np.arange(seeds) if len(runs) > 1 else np.zeros(seeds, np.int64))
        for first, runs in zip(firsts[:-1], arms.values(), strict=True)
    ]
    return np.stack(rows).astype(np.int64)


def _by_block(sums_KWT: Values, block_W: npt.NDArray[np.int64]) -> Values:
    """(K, G, T) sums of each block."""
    order = np.argsort(block_W, kind="stable")
    firsts = np.searchsorted(block_W[order], np.arange(block_W.max() + 1))
    added: Values = np.add.reduceat(sums_KWT[:, order], firsts, axis=1)
    return added


def _mean(metric: str, sums_KGT: Values, w_BG: Values) -> Values:
    """(B,) mean over the tracks that can be measured under each weighting of the blocks."""
    total, count = np.zeros(len(w_BG)), np.zeros(len(w_BG))
    for first in range(0, sums_KGT.shape[2], _TRACKS):
        part = sums_KGT[:, :, first : first + _TRACKS]
        value_BT = combined(metric, np.stack([w_BG @ sums for sums in part]))
        known_BT = np.isfinite(value_BT)
        total += np.where(known_BT, value_BT, 0.0).sum(1)
        count += known_BT.sum(1)
    with np.errstate(invalid="ignore"):
        mean: Values = total / count
    return mean
