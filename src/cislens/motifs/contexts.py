"""The open regions around a region, in a cell type.

Dimensions: B locus, R region of a context, N region of the store, E open region of a cell type,
T motif. Positions are centers of regions in bp, counted through the chromosomes, which are laid
so far apart that no two regions of different ones are ever near.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.motifs.batch import Bools, Ints, RegionContext
from cislens.motifs.store import RegionStore

# A context spans no more than 5 Mb: beyond that, regions seldom act on each other.
_REACH = 2_500_000
_BETWEEN_CHROMOSOMES = 100_000_000
# Share of the loci that lose accessibility alone, in runs of this many regions on average.
_ACCESS_CHANCE, _MEAN_RUN = 0.2, 4.0


@dataclass(frozen=True)
class Surroundings:
    """Which regions make up a context and what of them is hidden; see `RegionContext`."""

    row_BR: Ints
    center_B: Ints
    hidden_BR: Bools
    access_hidden_BR: Bools

    def turned(self, flips_B: Bools) -> "Surroundings":
        """As read on the other strand where `flips_B`: the order of the regions reversed."""
        last = self.row_BR.shape[1] - 1
        return Surroundings(
            _reversed(self.row_BR, flips_B),
            np.where(flips_B, last - self.center_B, self.center_B),
            _reversed(self.hidden_BR, flips_B),
            _reversed(self.access_hidden_BR, flips_B),
        )


class Neighborhoods:
    """Finds the open regions around regions, for many at once.

    Only regions of the same chromosome and the same part of the split come together, without a
    region of another part between them, and none lies more than 2.5 Mb from the center.

    Attributes:
        position_N: position of each region.
        key_E: cell * N + row of every open region, in order.
    """

    def __init__(self, store: RegionStore) -> None:
        self.store = store
        self.position_N = positions(store.regions)
        self.regions = len(self.position_N)
        cell_E, row_E = np.nonzero(store.is_open.T)
        self.key_E = cell_E * self.regions + row_E
        self._row_E = row_E
        self._first_N, self._last_N = _stretches(store.regions, self.position_N)
        self._gc_N = store.regions["gc"].to_numpy().astype(np.float32)

    def around(
        self, row_B: Ints, cell_B: Ints, size: int, rng: np.random.Generator | None = None
    ) -> Surroundings:
        """The `size` open regions of the cell type nearest in genomic order; nothing is hidden.

        The central region is one of them whether it is open or not. With `rng` it takes any
        column, each as often; without, the middle one, as far as there are regions at both sides.
        """
        first_B = cell_B * self.regions
        here_B = np.searchsorted(self.key_E, first_B + row_B)
        found_B = np.minimum(here_B, len(self.key_E) - 1)
        open_B = (here_B < len(self.key_E)) & (self.key_E[found_B] == first_B + row_B)
        left_B = here_B - np.searchsorted(self.key_E, first_B + self._first_N[row_B])
        after_B = here_B + open_B
        right_B = np.searchsorted(self.key_E, first_B + self._last_N[row_B], "right") - after_B
        fewest_B = np.maximum(size - 1 - right_B, 0)
        most_B = np.minimum(left_B, size - 1)
        fewest_B = np.minimum(fewest_B, most_B)
        if rng is None:
            center_B = np.clip(size // 2, fewest_B, most_B)
        else:
            center_B = rng.integers(fewest_B, most_B + 1)
        step_BR = np.arange(size) - center_B[:, None]
        # Past the center, columns count on from the first open region behind it.
        index_BR = here_B[:, None] + step_BR + ((step_BR > 0) * (open_B - 1)[:, None])
        pad_BR = step_BR > right_B[:, None]
        row_BR = np.where(pad_BR, -1, self._row_E[np.clip(index_BR, 0, len(self.key_E) - 1)])
        row_BR[np.arange(len(row_B)), center_B] = row_B
        nothing = np.zeros(row_BR.shape, np.bool_)
        return Surroundings(row_BR, center_B, nothing, nothing)

    def context(
        self, surroundings: Surroundings, cell_B: Ints, flips_B: Bools | None = None
    ) -> RegionContext:
        """The channels of contexts; where `flips_B`, positions count on the other strand.

        Nothing is taken out of the channels: what is hidden is told, and the model leaves it out.
        """
        store, row_BR, pad_BR = self.store, surroundings.row_BR, surroundings.row_BR < 0
        real = ~pad_BR
        rows = row_BR[real]
        central_B = row_BR[np.arange(len(row_BR)), surroundings.center_B]
        values = store.motif_values(rows)
        if real.all():
            motif_BRT = values.reshape(*row_BR.shape, -1)
        else:
            motif_BRT = np.zeros((*row_BR.shape, values.shape[1]), np.float32)
            motif_BRT[real] = values
        access_BR = np.zeros(row_BR.shape, np.float32)
        access_BR[real] = store.access[rows, np.broadcast_to(cell_B[:, None], row_BR.shape)[real]]
        away_BR = self.position_N[row_BR] - self.position_N[central_B][:, None]
        if flips_B is not None:
            away_BR = np.where(flips_B[:, None], -away_BR, away_BR)
        table_TC = store.expression
        return RegionContext(
            row_BR=row_BR,
            motif_BRT=motif_BRT,
            access_BR=access_BR,
            expression_BT=None if table_TC is None else np.ascontiguousarray(table_TC[:, cell_B].T),
            offset_BR=np.where(real, away_BR, 0).astype(np.float32),
            pad_BR=pad_BR,
            center_B=surroundings.center_B,
            hidden_BR=surroundings.hidden_BR,
            access_hidden_BR=surroundings.access_hidden_BR,
            gc_B=self._gc_N[central_B],
        )


def hide(surroundings: Surroundings, rate: float, rng: np.random.Generator) -> Surroundings:
    """Choose what of each context a model must tell.

    Each region is hidden with chance `rate`, but never the central one, of which at most the
    accessibility is. Of every fifth locus instead only accessibility is hidden, at the same rate,
    in runs of regions.
    """
    row_BR = surroundings.row_BR
    chosen_BR = rng.random(row_BR.shape) < rate
    runs_BR = _runs(row_BR.shape, rate, rng)
    only_access_B = rng.random(len(row_BR)) < _ACCESS_CHANCE
    access_BR = np.where(only_access_B[:, None], runs_BR, chosen_BR) & (row_BR >= 0)
    hidden_BR = access_BR & ~only_access_B[:, None]
    hidden_BR[np.arange(len(row_BR)), surroundings.center_B] = False
    return replace(surroundings, hidden_BR=hidden_BR, access_hidden_BR=access_BR)


def positions(regions: pl.DataFrame) -> Ints:
    """Centers of regions in bp, counted through the chromosomes with 100 Mb between them."""
    center_N = ((regions["start"] + regions["end"]) // 2).to_numpy().astype(np.int64)
    chrom_N = regions["chrom"].rle_id().to_numpy().astype(np.int64)
    sizes = np.zeros(int(chrom_N.max(initial=-1)) + 1, np.int64)
    np.maximum.at(sizes, chrom_N, center_N)
    first = np.cumsum(sizes + _BETWEEN_CHROMOSOMES) - sizes
    position_N: Ints = center_N + first[chrom_N]
    return position_N


def _stretches(regions: pl.DataFrame, position_N: Ints) -> tuple[Ints, Ints]:
    """First and last row that may share a context with each row."""
    run_N = regions.select(pl.struct("chrom", "split").rle_id()).to_series().to_numpy()
    first_N = np.searchsorted(run_N, run_N, "left")
    last_N = np.searchsorted(run_N, run_N, "right") - 1
    near_N = np.searchsorted(position_N, position_N - _REACH, "left")
    far_N = np.searchsorted(position_N, position_N + _REACH, "right") - 1
    return np.maximum(first_N, near_N), np.minimum(last_N, far_N)


def _runs(shape: tuple[int, ...], rate: float, rng: np.random.Generator) -> Bools:
    """Runs of True, geometric of mean 4, that cover a share `rate`: a chain of two states."""
    stop = 1 / _MEAN_RUN
    begin = min(stop * rate / (1 - rate), 1.0)
    draw_BR = rng.random(shape)
    state_BR = np.empty(shape, np.bool_)
    state_BR[:, 0] = draw_BR[:, 0] < rate
    for column in range(1, shape[1]):
        goes_on = np.where(state_BR[:, column - 1], 1 - stop, begin)
        state_BR[:, column] = draw_BR[:, column] < goes_on
    return state_BR


def _reversed(values: npt.NDArray, flips_B: Bools) -> npt.NDArray:  # type: ignore[type-arg]
    turned = values.copy()
    turned[flips_B] = values[flips_B, ::-1]
    return turned
