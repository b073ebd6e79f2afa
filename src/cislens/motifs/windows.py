"""Windows of one width: which a genome allows, and which are kept where they overlap."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.genome.intervals import Spans
from cislens.genome.reference import Genome
from cislens.signal.blacklist import Blacklist
from cislens.signal.inputs import n_fraction

# Above this share of unknown bases a window says more of the assembly than of the cell.
_MOST_N = 0.05

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WindowRules:
    """What windows of `width` bp around centers have to obey.

    Attributes:
        blacklist: regions that no window may touch (with 20 bp at either side), or None.
    """

    genome: Genome
    width: int
    blacklist: Blacklist | None = None

    def windows(self, table: pl.DataFrame, report: dict[str, int]) -> pl.DataFrame:
        """The rows whose window is allowed, `start` and `end` now being the window's.

        The column `center` lies at index `width // 2` of the window. Windows over a chromosome's
        end, on the blacklist or with more than 5 % N are left out, each counted in `report` by
        the first of these that applies.
        """
        start = pl.col("center") - self.width // 2
        windows = table.with_columns(start=start, end=start + self.width)
        rules: dict[str, Callable[[pl.DataFrame], Bools]] = {
            "over_chromosome_ends": self._over_ends,
            "on_the_blacklist": self._listed,
            "with_more_than_5_%_N": lambda left: n_fraction(self.genome, left) > _MOST_N,
        }
        for reason, broken in rules.items():
            kept = windows.filter(pl.Series(~broken(windows), dtype=pl.Boolean))
            report[reason] = windows.height - kept.height
            windows = kept
        return windows

    def apart(self, windows: pl.DataFrame) -> pl.DataFrame:
        """The windows that `without_overlap` keeps by their `score`, sorted along the genome."""
        starts = flat(windows, "start", self.genome)
        return windows[without_overlap(starts, windows["score"].to_numpy(), self.width)]

    def _over_ends(self, windows: pl.DataFrame) -> Bools:
        size = pl.col("chrom").replace_strict(dict(self.genome.chrom_sizes), return_dtype=pl.Int64)
        over = windows.select((pl.col("start") < 0) | (pl.col("end") > size))
        return over.to_series().to_numpy()

    def _listed(self, windows: pl.DataFrame) -> Bools:
        found = np.zeros(windows.height, bool)
        chroms = windows["chrom"].to_numpy()
        start, end = windows["start"].to_numpy(), windows["end"].to_numpy()
        for chrom, spans in self.blacklist.regions.items() if self.blacklist else ():
            here = np.flatnonzero(chroms == chrom)
            union = Spans.of(pl.DataFrame(spans, schema=["start", "end"], orient="row"))
            found[here] = union.overlap(start[here], end[here])
        return found


def flat(table: pl.DataFrame, column: str, genome: Genome) -> Ints:
    """Places (n,) on one line along which the chromosomes follow each other."""
    before = np.cumsum([0, *genome.chrom_sizes.values()], dtype=np.int64)
    rank = table["chrom"].cast(pl.Enum(list(genome.chrom_sizes))).to_physical().to_numpy()
    places: Ints = before[rank] + table[column].to_numpy()
    return places


def without_overlap(starts: Ints, scores: Floats, width: int) -> Ints:
    """Rows of the windows [start, start + width) that the best-first rule keeps, by start.

    The best score comes first, of equal ones the first start; a window that overlaps one already
    kept goes.
    """
    order = np.lexsort((starts, -scores))
    held: dict[int, int] = {}  # start by stretch of `width` bp: no two kept ones share a stretch
    kept = []
    for row, start in zip(order.tolist(), starts[order].tolist(), strict=True):
        place = start // width
        if (
            place in held
            or start - held.get(place - 1, start - width) < width
            or held.get(place + 1, start + width) - start < width
        ):
            continue
        held[place] = start
        kept.append(row)
    rows = np.array(kept, np.int64)
    return rows[np.argsort(starts[rows], kind="stable")]
