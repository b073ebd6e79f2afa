"""Regions that do not belong to a locus, drawn so that composition does not give them away.

A sequence and a matrix of motif occupancy both tell GC content, so two random regions are told
apart by that alone. Matched regions agree in GC content, CpG and repeats within calipers.

Dimensions: B locus, K candidate, N region of the store, E entry of a pool.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.motifs.batch import Bools, Ints
from cislens.motifs.store import RegionStore
from cislens.randomness import generator

Floats = npt.NDArray[np.float64]

# Largest differences of a matched pair in GC content, CpG observed/expected, share of repeats.
# In 512 bp of random bases CpG varies by 0.2 (one standard deviation of a count of about 30).
CALIPERS = np.array([0.02, 0.2, 0.1])
# GC content may differ this many calipers where nothing nearer is found.
_WIDEST = 8.0
NEAR, FAR = 100_000, 1_000_000
# Where something must differ, rather CpG and repeats than GC content, which motifs tell best.
_PRECEDENCE = np.array([8.0, 1.0, 1.0])
# Most loci find a match among a few candidates; the rest look at more.
_TRIES, _MORE_TRIES, _MOST_TRIES = 8, 64, 512


@dataclass(frozen=True)
class Layout:
    """What makes two regions the same locus, or too close to tell.

    Attributes:
        position_N: centers in bp; regions of different chromosomes are far apart.
        homology_N: number of the cluster of alike sequences; negative for none.
        reach: bp between centers within which regions count as overlapping.
    """

    position_N: Ints
    homology_N: Ints
    reach: int

    def distinct(self, left: Ints, right: Ints) -> Bools:
        """Whether regions neither overlap nor are homologs."""
        cluster = self.homology_N[left]
        homologs = (cluster == self.homology_N[right]) & (cluster >= 0)
        apart: Bools = (self.distance(left, right) >= self.reach) & ~homologs
        return apart

    def distance(self, left: Ints, right: Ints) -> Ints:
        """Bp between centers; across chromosomes more than any rule asks for."""
        distance: Ints = np.abs(self.position_N[left] - self.position_N[right])
        return distance

    def apart(self, row_B: Ints) -> Bools:
        """Pairs (B, B) of a batch that may count as not belonging together.

        Neither the pairs of the diagonal do, nor those of one region in two cell types, nor
        overlapping regions, nor homologs.
        """
        return self.distinct(row_B[:, None], row_B[None, :])


@dataclass(frozen=True)
class Drawn:
    """Regions that do not belong to the loci.

    Attributes:
        row_B: the regions.
        near_B: those within 100 kb that were wanted to be so.
        matched_B: those within the calipers.
    """

    row_B: Ints
    near_B: Bools
    matched_B: Bools


class Pool:
    """Regions to draw from, in groups: of each cell type, or all in one.

    Args:
        row_E, group_E: a region may be in several groups.
        weight_E: chance of an entry in its group, up to a factor. Those of the loci themselves
            make that regions that belong and regions that do not are the same ones overall.
        covariates_N3: of every region of the store; see `CALIPERS`.
    """

    def __init__(
        self, layout: Layout, row_E: Ints, group_E: Ints, weight_E: Floats, covariates_N3: Floats
    ) -> None:
        self.layout = layout
        self.covariates_N3 = covariates_N3
        by_place = np.lexsort((row_E, group_E))
        self._row_E = row_E[by_place]
        self._group_E = group_E[by_place]
        self._total_E = _running(weight_E[by_place])
        self._span = int(layout.position_N.max(initial=0)) + 2 * FAR
        self._place_E = self._group_E * self._span + FAR + layout.position_N[self._row_E]
        by_gc = np.lexsort((covariates_N3[row_E, 0], group_E))
        self._gc_row_E = row_E[by_gc]
        self._gc_total_E = _running(weight_E[by_gc])
        self._gc_E = 4.0 * group_E[by_gc] + covariates_N3[self._gc_row_E, 0]

    def random(self, row_B: Ints, group_B: Ints, rng: np.random.Generator) -> Drawn:
        """Any region of the group but the locus itself, what overlaps it, and homologs."""
        found_B, cost_B = self._anywhere(row_B, group_B, _TRIES, rng, alike=False)
        return Drawn(found_B, np.zeros(len(row_B), np.bool_), np.isfinite(cost_B))

    def matched(
        self, row_B: Ints, group_B: Ints, rng: np.random.Generator, near: bool = True
    ) -> Drawn:
        """Regions of the same composition: every other one within 100 kb, the rest far away.

        Far is another chromosome or more than 1 Mb. Where none near by is within the calipers, a
        far one is taken; where none far away is, one at any distance; and where there is none at
        all, the most alike.
        """
        found_B, cost_B = self._alike(row_B, group_B, _TRIES, 1.0, rng)
        for tries, widening, far in (
            (_MORE_TRIES, 1.0, True),
            (_MOST_TRIES, 1.0, True),
            (_MOST_TRIES, 1.0, False),
            (_MOST_TRIES, _WIDEST, False),
        ):
            poor = np.flatnonzero(cost_B > 1)
            if poor.size:
                again = self._alike(row_B[poor], group_B[poor], tries, widening, rng, far)
                _improve(found_B, cost_B, poor, again)
        lost = np.flatnonzero(~np.isfinite(cost_B))
        if lost.size:
            again = self._anywhere(row_B[lost], group_B[lost], _MOST_TRIES, rng, alike=True)
            found_B[lost], cost_B[lost] = again
        near_B = np.zeros(len(row_B), np.bool_)
        if near:
            asked = np.arange(0, len(row_B), 2)
            close, cost = self._near(row_B[asked], group_B[asked], _TRIES, rng)
            poor = np.flatnonzero(cost > 1)
            more = asked[poor]
            again = self._near(row_B[more], group_B[more], _MORE_TRIES, rng)
            _improve(close, cost, poor, again)
            good = asked[cost <= 1]
            found_B[good], cost_B[good], near_B[good] = close[cost <= 1], 1.0, True
        return Drawn(found_B, near_B, cost_B <= 1)

    def _alike(
        self,
        row_B: Ints,
        group_B: Ints,
        tries: int,
        widening: float,
        rng: np.random.Generator,
        far: bool = True,
    ) -> tuple[Ints, Floats]:
        """The best of candidates whose GC content is within the caliper, times `widening`."""
        gc_B = 4.0 * group_B + self.covariates_N3[row_B, 0]
        within = widening * CALIPERS[0]
        first_B = np.searchsorted(self._gc_E, gc_B - within, "left")
        last_B = np.searchsorted(self._gc_E, gc_B + within, "right")
        drawn_BK = _draw(self._gc_total_E, first_B, last_B, tries, rng)
        return self._best(row_B, self._gc_row_E[drawn_BK], alike=True, far=far)

    def _near(
        self, row_B: Ints, group_B: Ints, tries: int, rng: np.random.Generator
    ) -> tuple[Ints, Floats]:
        place_B = group_B * self._span + FAR + self.layout.position_N[row_B]
        first_B = np.searchsorted(self._place_E, place_B - NEAR, "left")
        last_B = np.searchsorted(self._place_E, place_B + NEAR, "right")
        drawn_BK = _draw(self._total_E, first_B, last_B, tries, rng)
        return self._best(row_B, self._row_E[drawn_BK], alike=True, far=False)

    def _anywhere(
        self, row_B: Ints, group_B: Ints, tries: int, rng: np.random.Generator, alike: bool
    ) -> tuple[Ints, Floats]:
        first_B = np.searchsorted(self._group_E, group_B, "left")
        last_B = np.searchsorted(self._group_E, group_B, "right")
        drawn_BK = _draw(self._total_E, first_B, last_B, tries, rng)
        return self._best(row_B, self._row_E[drawn_BK], alike, far=False)

    def _best(
        self, row_B: Ints, candidate_BK: Ints, alike: bool, far: bool = True
    ) -> tuple[Ints, Floats]:
        """The first candidate within the calipers, else the most alike; and its cost.

        The cost is 1 within the calipers and grows beyond. It is infinite if no candidate will
        do; the candidate is then another region at least.
        """
        rows = row_B[:, None]
        fit_BK = self.layout.distinct(rows, candidate_BK)
        if far:
            fit_BK &= self.layout.distance(rows, candidate_BK) > FAR
        cost_BK = np.where(candidate_BK == rows, np.inf, 1e9)
        if alike:
            unlike = np.abs(self.covariates_N3[candidate_BK] - self.covariates_N3[rows]) / CALIPERS
            beyond = (np.maximum(unlike - 1, 0) * _PRECEDENCE).max(-1)
            cost_BK[fit_BK] = 1 + beyond[fit_BK]
        else:
            cost_BK[fit_BK] = 1.0
        best_B = cost_BK.argmin(1)
        places = np.arange(len(row_B)), best_B
        cost_B = cost_BK[places]
        return candidate_BK[places], np.where(cost_B < 1e9, cost_B, np.inf)


def strata(gc_E: Floats, batch_size: int, chunk: int, seed: int, epoch: int) -> Ints:
    """An order of entries in which each batch holds alike GC contents, yet not always the same.

    The entries are shuffled and parted into chunks of `chunk` batches; each chunk is sorted and
    its batches are shuffled. Entries that fill no batch come last.
    """
    rng = generator(seed, "strata", epoch)
    order = rng.permutation(len(gc_E))
    parts = [order[:0]]
    for first in range(0, len(order), chunk * batch_size):
        here = order[first : first + chunk * batch_size]
        here = here[np.argsort(gc_E[here], kind="stable")]
        filled = len(here) - len(here) % batch_size
        batches = here[:filled].reshape(-1, batch_size)
        parts += [rng.permutation(batches).ravel(), here[filled:]]
    return np.concatenate(parts)


def composition(store: RegionStore) -> Floats:
    """The covariates (N, 3) of `CALIPERS` for the regions of a store."""
    table = store.regions.select("gc", "cpg", "repeat_fraction")
    return table.to_numpy().astype(np.float64)


def _improve(found_B: Ints, cost_B: Floats, here: Ints, again: tuple[Ints, Floats]) -> None:
    """Put what was found again in place where it costs less."""
    found, cost = again
    better = cost < cost_B[here]
    found_B[here[better]], cost_B[here[better]] = found[better], cost[better]


def _running(weight_E: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(weight_E)])


def _draw(
    total_E: Floats, first_B: Ints, last_B: Ints, tries: int, rng: np.random.Generator
) -> Ints:
    """Entries (B, tries) between `first` and `last`, by weight, with replacement."""
    low_B, high_B = total_E[first_B][:, None], total_E[last_B][:, None]
    drawn = low_B + rng.random((len(first_B), tries)) * (high_B - low_B)
    index = np.searchsorted(total_E, drawn, "right") - 1
    return np.clip(index, first_B[:, None], np.maximum(last_B, first_B + 1)[:, None] - 1)
