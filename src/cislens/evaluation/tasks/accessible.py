"""Background of open chromatin: windows of accessible regions, alike to the positives.

A model that only knows where chromatin is open gains nothing against such a background.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.evaluation.tasks.background import PLACE, disjoint, labelled, positives_of
from cislens.evaluation.tasks.matching import Matched, match_controls
from cislens.genome.codes import N, gc_content
from cislens.genome.intervals import Spans, centered
from cislens.genome.reference import Genome
from cislens.randomness import generator

ACCESS = "accessibility"  # column of windows by which they are matched, where it is there
# Robust standard deviations of a covariate; of GC this is about two percent of the bases.
_CALIPER = 0.25
_LARGEST_DIFFERENCE = 0.1
_MOST_UNCALLED = 0.05

Report = dict[str, str | int | float]


def open_windows(
    genome: Genome, peaks: pl.DataFrame, width: int, avoid: pl.DataFrame
) -> pl.DataFrame:
    """Windows of `width` bp around open peaks that touch nothing of `avoid` (chrom,start,end)."""
    windows = centered(peaks, width, genome.chrom_sizes).unique(PLACE, keep="first")
    windows = windows.sort(PLACE)
    kept = np.ones(windows.height, bool)
    chrom = windows["chrom"].to_numpy()
    start, end = windows["start"].to_numpy(), windows["end"].to_numpy()
    for (name,), part in avoid.group_by("chrom"):
        mine = np.flatnonzero(chrom == name)
        kept[mine] = ~Spans.of(part).overlap(start[mine], end[mine])
    uncalled = (genome.windows(windows["chrom"], start, width) == N).mean(1)
    return windows.filter(pl.Series(kept & (uncalled <= _MOST_UNCALLED)))


def with_open_background(
    genome: Genome,
    everywhere: pl.DataFrame,
    candidates: pl.DataFrame,
    limit: int | None,
    seed: int,
    keep: tuple[str, ...] = (),
    natural: bool = False,
) -> tuple[pl.DataFrame, Report]:
    """Disjoint positives and for each the free open window most like it on its chromosome.

    Alike means: in GC content and, where both tables have the column `ACCESS`, in its logarithm,
    each within a quarter of a robust standard deviation, which is tighter than deciles. Positives
    without such a window are left out.

    Args:
        candidates: windows of `open_windows`; of those that overlap one is kept.
        keep: as in `background.with_background`.
        natural: keep what has no partner too, marked as `extra`: for a test at the ratio that
            open chromatin has.

    Raises:
        CislensError: if no window is left, or the classes still differ by more than a tenth of a
            standard deviation.
    """
    access = [ACCESS] if ACCESS in everywhere.columns else []
    positives, report = positives_of(everywhere, limit, seed, (*keep, *access))
    free = disjoint(candidates.sort("chrom", "start"))
    if free.is_empty():
        raise CislensError(
            "no open window is left to be a negative: all lie at sites or too near to a TSS; give "
            "more open regions."
        )
    both = pl.concat([positives, free.select(*PLACE, *access)], how="diagonal")
    positive = np.arange(both.height) < positives.height
    covariates, names = _covariates(both, genome)
    stratum = both["chrom"].rank("dense").to_numpy()
    matched = match_controls(covariates, positive, stratum, 1, _CALIPER, seed)
    has = matched.group >= 0
    report["open windows without a site"] = free.height
    report["positives without an open window like them"] = int((positive & ~has).sum())
    report |= _balance(matched, names)
    both = both.with_columns(
        label=pl.Series(positive.astype(np.int64)), extra=pl.Series(~has),
        pair=pl.Series(matched.group),
    ).drop(access)  # fmt: skip
    if "strand" in keep:
        both = _with_strands(both, seed)
    if natural:
        of = everywhere.height - int(report["overlapping positives left out"])
        rows = _thinned(both, positives.height / of, seed)
    else:
        rows = both.filter(~pl.col("extra")).drop("extra")
    rows = rows.drop("pair")
    return labelled(rows.filter(label=1), rows.filter(label=0)), report


def _balance(matched: Matched, names: list[str]) -> Report:
    report: Report = {}
    for covariate, before, after in zip(names, matched.before, matched.after, strict=True):
        report[f"standardized difference of {covariate} before"] = round(before, 4)
        report[f"standardized difference of {covariate}"] = round(after, 4)
        if abs(after) > _LARGEST_DIFFERENCE:
            raise CislensError(
                f"open windows differ from the positives in {covariate} by {after:.2f} standard "
                f"deviations (at most {_LARGEST_DIFFERENCE} allowed); give more open regions, or "
                "use fewer positives."
            )
    return report


def _with_strands(both: pl.DataFrame, seed: int) -> pl.DataFrame:
    """A negative is read on the strand of its positive, or on any if it has none."""
    strand, pair = both["strand"].to_numpy(), both["pair"].to_numpy()
    any_strand = generator(seed, "strands").choice(np.array(["+", "-"]), both.height)
    of_positive = np.where(pair >= 0, strand[np.maximum(pair, 0)], any_strand)
    own = np.where(both["label"].to_numpy() == 1, strand, of_positive)
    return both.with_columns(strand=pl.Series(own.tolist(), dtype=pl.String))


def _thinned(both: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """With so many negatives for each positive as before `share` of the positives was drawn."""
    negatives = both["label"].to_numpy() == 0
    spare = negatives & both["extra"].to_numpy()
    wanted = share * negatives.sum() - (negatives.sum() - spare.sum())
    chosen = generator(seed, "natural").random(both.height) < wanted / max(spare.sum(), 1)
    return both.filter(pl.Series(~spare | chosen))


def _covariates(rows: pl.DataFrame, genome: Genome) -> tuple[npt.NDArray[np.float64], list[str]]:
    width = int(rows["end"][0] - rows["start"][0])
    codes = genome.windows(rows["chrom"], rows["start"].to_numpy(), width)
    columns, names = [np.asarray(gc_content(codes), np.float64)], ["gc"]
    if ACCESS in rows.columns:
        columns.append(np.log1p(np.maximum(rows[ACCESS].to_numpy(), 0)))
        names.append(f"log {ACCESS}")
    return np.stack(columns, axis=1), names
