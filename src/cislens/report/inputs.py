"""What a report is made from, whatever run or result store it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest

Values = npt.NDArray[np.floating[Any]]

KINDS = ("trained", "random", "baseline")

VERDICT_COLUMNS = (
    "task", "metric", "arm", "point", "low", "high", "baseline",
    "difference", "diff_low", "diff_high", "p_holm", "mde", "verdict",
)  # fmt: skip
SCORE_COLUMNS = ("task", "metric", "arm", "kind", "point", "low", "high")
TRAINING_COLUMNS = ("step", "part", "metric", "value")


@dataclass(frozen=True)
class LocusTrack:
    """One track over a locus: measured and predicted values per bin, in the same unit."""

    name: str
    measured: Values
    predicted: Values
    unit: str = "signal per base"


@dataclass(frozen=True)
class Locus:
    """A region held out from training, with its tracks side by side.

    `start` is 0-based; bin i covers `start + i * bin_size` to `start + (i + 1) * bin_size`.
    `annotations` has the columns chrom, start, end and, where known, name and strand; what lies
    outside the locus is not drawn. `title` says why the locus is shown.
    """

    species: str
    chrom: str
    start: int
    bin_size: int
    tracks: Sequence[LocusTrack]
    annotations: pl.DataFrame | None = None
    annotated_as: str = "genes"
    title: str = ""

    def __post_init__(self) -> None:
        for track in self.tracks:
            shapes = {np.shape(track.measured), np.shape(track.predicted), (self.bins,)}
            if len(shapes) > 1:
                raise CislensError(
                    f"locus {self.chrom}:{self.start}, track {track.name!r}: measured "
                    f"{np.shape(track.measured)} and predicted {np.shape(track.predicted)} must "
                    f"both be one value for each of the locus's {self.bins} bins."
                )

    @property
    def bins(self) -> int:
        """Number of bins, taken from the first track."""
        return int(np.size(self.tracks[0].measured)) if self.tracks else 0

    @property
    def end(self) -> int:
        """Last covered base + 1."""
        return self.start + self.bins * self.bin_size


@dataclass(frozen=True)
class ExpertUse:
    """Where the router sent its tokens.

    `load` has shape (layers, species, experts): the share of a species' routed tokens that each
    expert took; every (layer, species) row sums to 1. `top_k` experts serve each token.
    """

    layers: Sequence[str]
    species: Sequence[str]
    load: Values
    top_k: int = 1

    def __post_init__(self) -> None:
        load = np.asarray(self.load)
        if load.ndim != 3 or load.shape[:2] != (len(self.layers), len(self.species)):
            raise CislensError(
                f"expert load has shape {load.shape}; expected (layers {len(self.layers)}, "
                f"species {len(self.species)}, experts)."
            )
        sums = load.sum(-1)
        if not np.allclose(sums, 1, atol=1e-3) or (load < 0).any():
            raise CislensError(
                "expert load must be non-negative and sum to 1 over the experts of every "
                f"(layer, species); found sums from {sums.min():.4g} to {sums.max():.4g}."
            )


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows; a part that is None or empty is left out, and the page says so.

    verdicts: one row per comparison (task, arm, baseline). `task, metric, arm, point, low, high`
        (the arm's test score and its 95 % interval), `baseline, difference, diff_low, diff_high`
        (arm minus baseline, paired), `p_holm`, `mde` (minimum detectable effect), `verdict`
        (text that opens with gain, loss, equivalent or "no detectable gain").
    scores: one row per (task, metric, arm): `kind` is trained, random (same net, untrained) or
        baseline; `point, low, high`; optional `null_low, null_high` (95 % range under permuted
        labels), `n` (test examples), `blocks` (independent groups behind the interval).
    training: tidy, one row per logged number: `step, part` (train or valid), `metric, value` and
        optional `species`. Metrics drawn: loss, pearson_pooled, pearson_window, and every one
        that starts with balance.
    manifest: printed as it is. `summary` (mapping) is set as the page's first facts, `splits` and
        `licences` (lists of mappings) become tables, `dropped` (mapping reason -> count) and
        `interval` (sentence) go to the methods; the rest is listed at the end.
    notes: sentences for the methods section.
    """

    title: str
    verdicts: pl.DataFrame
    scores: pl.DataFrame
    training: pl.DataFrame | None = None
    loci: Sequence[Locus] = ()
    experts: ExpertUse | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        _require(self.verdicts, VERDICT_COLUMNS, "verdicts")
        _require(self.scores, SCORE_COLUMNS, "scores")
        if self.training is not None:
            _require(self.training, TRAINING_COLUMNS, "training")
        for kind in self.scores["kind"].unique().sort():
            if kind not in KINDS:
                raise CislensError(f"scores: unknown kind {kind!r}. {nearest(str(kind), KINDS)}")

    def kind(self, arm: str) -> str:
        """trained, random or baseline; an arm without a score counts as baseline."""
        found = self.scores.filter(pl.col("arm") == arm)["kind"]
        return str(found[0]) if len(found) else "baseline"

    def tasks(self) -> list[tuple[str, str]]:
        """(task, metric) in the order of the verdicts, then of the scores."""
        keys = pl.concat([frame.select("task", "metric") for frame in (self.verdicts, self.scores)])
        return [(str(a), str(b)) for a, b in keys.unique(maintain_order=True).rows()]


def _require(frame: pl.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise CislensError(
            f"{what} table: no column {', '.join(missing)}; found {', '.join(frame.columns)}; "
            f"expected {', '.join(columns)}."
        )
