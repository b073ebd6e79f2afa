"""Background regions that look like the positives by everything but their function."""

import logging
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial import cKDTree

from cislens.errors import CislensError
from cislens.genome import codes as dna
from cislens.genome.codes import Codes, gc_content
from cislens.genome.intervals import Spans
from cislens.genome.reference import Genome
from cislens.randomness import generator

logger = logging.getLogger("cislens")

COVARIATES = ("gc", "cpg_oe", "repeat_frac")
# Largest difference allowed to a matched pair, in the order of COVARIATES; widened up to 8-fold.
_CALIPERS = np.array([0.02, 0.1, 0.1])
_WIDEST = 8.0
# Random regions per positive; more are drawn where fewer do not balance.
_POOLS = (20, 80, 320)
_POOL_AT_LEAST = 500
_NEIGHBORS = 128
_MOST_UNCALLED = 0.05
_LARGEST_DIFFERENCE = 0.1
_BASES_AT_ONCE = 1 << 24

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Background:
    """Matched background regions and how well they match.

    Attributes:
        intervals: `chrom,start,end,positive[,strand]`, disjoint; `positive` is the row number of
            the positive a region was matched to, whose width and strand it has. Positives
            without a match within the widest caliper do not occur.
        balance: one row per covariate with the means of positives and background and the
            standardized mean differences to the unmatched (`before`) and the matched (`after`)
            background.
    """

    intervals: pl.DataFrame
    balance: pl.DataFrame


def matched_background(
    genome: Genome,
    positives: pl.DataFrame,
    seed: int,
    exclude: pl.DataFrame | None = None,
) -> Background:
    """One background region per positive: same chromosome, same width, alike in composition.

    From 20 random regions per positive (more where these do not balance), none within one width
    of a positive, none over an interval of `exclude`, none with more than 5 % N, each positive
    takes the nearest free one by GC content, CpG observed/expected and soft-masked fraction
    (calipers 0.02, 0.1, 0.1, widened up to eightfold), in random order, without replacement.

    Raises:
        CislensError: if nothing is left to draw from, or a standardized mean difference stays
            above 0.1.
    """
    if positives.is_empty():
        raise CislensError("a matched background needs at least one positive.")
    for per_positive in _POOLS:
        background = _match(genome, positives, seed, exclude, per_positive)
        worst = background.balance.sort(pl.col("after").abs()).row(-1, named=True)
        if abs(worst["after"]) <= _LARGEST_DIFFERENCE:
            break
    lost = len(positives) - len(background.intervals)
    if abs(worst["after"]) > _LARGEST_DIFFERENCE:
        raise CislensError(
            f"the background differs from the positives in {worst['covariate']} by "
            f"{worst['after']:.2f} standard deviations (at most {_LARGEST_DIFFERENCE} allowed, "
            f"{lost} positives without a match): {genome.path} holds too few free regions like "
            f"them. Use fewer positives, or exclude less."
        )
    if lost:
        logger.warning("%d of %d positives have no matching background", lost, len(positives))
    return background


def _match(
    genome: Genome,
    positives: pl.DataFrame,
    seed: int,
    exclude: pl.DataFrame | None,
    per_positive: int,
) -> Background:
    groups = positives.with_row_index("positive").with_columns(
        width=pl.col("end") - pl.col("start")
    )
    taken: list[tuple[int, str, int, int]] = []
    covariates: list[tuple[Floats, Floats, Floats]] = []
    for (chrom,), on_chrom in groups.group_by("chrom", maintain_order=True):
        place = _Place(genome, str(chrom), on_chrom, exclude, per_positive)
        for (length,), rows in on_chrom.group_by("width", maintain_order=True):
            width = int(length)
            found, *seen = place.match(rows, width, generator(seed, place.chrom, width))
            taken += [(row, place.chrom, start, start + width) for row, start in found]
            covariates.append((seen[0], seen[1], seen[2]))
    balance = _balance(*(np.concatenate(parts) for parts in zip(*covariates, strict=True)))
    return Background(_table(taken, positives), balance)


class _Place:
    """One chromosome: where regions may lie, and what they look like."""

    def __init__(
        self,
        genome: Genome,
        chrom: str,
        positives: pl.DataFrame,
        exclude: pl.DataFrame | None,
        per_positive: int,
    ) -> None:
        self.per_positive = per_positive
        self.genome, self.chrom = genome, chrom
        self.size = genome.size(chrom)
        self.masked = genome.soft_mask(chrom, 0, self.size)
        self.positives = Spans.of(positives)
        here = None if exclude is None else exclude.filter(pl.col("chrom") == chrom)
        self.excluded = None if here is None or here.is_empty() else Spans.of(here)
        self.used: list[tuple[int, int]] = []

    def match(
        self, rows: pl.DataFrame, width: int, rng: np.random.Generator
    ) -> tuple[list[tuple[int, int]], Floats, Floats, Floats]:
        """(row, start) of the matches; covariates of matched positives, matches and the pool."""
        if width > self.size:
            raise CislensError(
                f"a positive of {width} bp lies on {self.chrom}, which has {self.size} bp in "
                f"{self.genome.path}."
            )
        wanted, _uncalled = self.covariates(rows["start"].to_numpy(), width)
        starts, offered = self.pool(width, len(rows), rng)
        scaled = cKDTree(offered / _CALIPERS)
        _distance, near = scaled.query(
            wanted / _CALIPERS,
            k=np.arange(1, min(_NEIGHBORS, len(starts)) + 1),
            p=np.inf,
            distance_upper_bound=_WIDEST,
        )
        pairs: list[tuple[int, int]] = []
        for row in rng.permutation(len(rows)).tolist():
            for candidate in near[row].tolist():
                if candidate < len(starts) and self.take(int(starts[candidate]), width):
                    pairs.append((row, candidate))
                    break
        left = np.array([row for row, _ in pairs], np.int64)
        right = np.array([candidate for _, candidate in pairs], np.int64)
        numbers = rows["positive"].to_numpy()[left]
        found = list(zip(numbers.tolist(), starts[right].tolist(), strict=True))
        return found, wanted[left], offered[right], offered

    def pool(self, width: int, positives: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """Starts of free regions and their covariates."""
        size = max(self.per_positive * positives, _POOL_AT_LEAST)
        starts = np.empty(0, np.int64)
        for _attempt in range(20):
            drawn = rng.integers(0, self.size - width + 1, 2 * size)
            drawn = drawn[~self.positives.overlap(drawn - width, drawn + 2 * width)]
            if self.excluded is not None:
                drawn = drawn[~self.excluded.overlap(drawn, drawn + width)]
            starts = np.unique(np.concatenate([starts, drawn]))
            if len(starts) >= size:
                break
        starts = rng.permutation(starts)[:size]
        covariates, uncalled = self.covariates(starts, width)
        called = uncalled <= _MOST_UNCALLED
        if not called.any():
            raise CislensError(
                f"{self.genome.path}: {self.chrom} has no free region of {width} bp between the "
                f"positives to draw a background from."
            )
        return starts[called], covariates[called]

    def covariates(self, starts: Ints, width: int) -> tuple[Floats, Floats]:
        """COVARIATES (n, 3) and the fraction of N (n,) of windows."""
        values = np.empty((len(starts), len(COVARIATES)))
        uncalled = np.empty(len(starts))
        step = max(_BASES_AT_ONCE // max(width, 1), 1)
        masked = np.lib.stride_tricks.sliding_window_view(self.masked, width)
        for first in range(0, len(starts), step):
            part = slice(first, first + step)
            codes = self.genome.windows([self.chrom] * len(starts[part]), starts[part], width)
            values[part, 0] = gc_content(codes)
            values[part, 1] = cpg_observed_expected(codes)
            inside = np.clip(starts[part], 0, self.size - width)
            values[part, 2] = masked[inside].mean(1)
            uncalled[part] = (codes == dna.N).mean(1)
        return values, uncalled

    def take(self, start: int, width: int) -> bool:
        """Claim a region, if no claimed one overlaps it."""
        place = bisect_left(self.used, (start, start))
        before = place > 0 and self.used[place - 1][1] > start
        after = place < len(self.used) and self.used[place][0] < start + width
        if before or after:
            return False
        insort(self.used, (start, start + width))
        return True


def cpg_observed_expected(codes: Codes) -> Floats:
    """CpG count times called bases over C count times G count, of codes (n, L); 0 without C or G.

    Gardiner-Garden and Frommer, J Mol Biol 196 (1987), 261-282.
    """
    cytosine, guanine = codes == dna.C, codes == dna.G
    observed = (cytosine[:, :-1] & guanine[:, 1:]).sum(1)
    expected = cytosine.sum(1) * guanine.sum(1)
    ratio: Floats = observed * (codes != dna.N).sum(1) / np.maximum(expected, 1)
    return ratio


def standardized_difference(left: Floats, right: Floats) -> float:
    """(mean left - mean right) / pooled standard deviation; 0 for equal constants."""
    difference = float(left.mean() - right.mean())
    spread = float(np.sqrt((left.var() + right.var()) / 2))
    if spread < 1e-12:
        return 0.0 if abs(difference) < 1e-12 else float("inf") * np.sign(difference)
    return difference / spread


def _table(taken: Sequence[tuple[int, str, int, int]], positives: pl.DataFrame) -> pl.DataFrame:
    schema = {"positive": pl.Int64, "chrom": pl.String, "start": pl.Int64, "end": pl.Int64}
    table = pl.DataFrame(taken, schema=schema, orient="row").sort("positive")
    columns = [pl.col("chrom"), pl.col("start"), pl.col("end"), pl.col("positive")]
    if "strand" in positives.columns:
        columns.append(positives["strand"].gather(table["positive"]).alias("strand"))  # type: ignore[arg-type]
    return table.select(columns)


def _balance(wanted: Floats, found: Floats, pool: Floats) -> pl.DataFrame:
    if not len(found):
        raise CislensError("no positive has a background region like it.")
    return pl.DataFrame(
        {
            "covariate": COVARIATES,
            "positives": wanted.mean(0),
            "background": found.mean(0),
            "before": [standardized_difference(wanted[:, i], pool[:, i]) for i in range(3)],
            "after": [standardized_difference(wanted[:, i], found[:, i]) for i in range(3)],
        }
    )
