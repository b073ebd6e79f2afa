"""What a report is made from, whatever run or result store it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest

Values = npt.NDArray[np.floating[Any]]

# The parts that arms play: the subject, its untrained twin, and the two kinds of baseline.
KINDS = ("trained", "random", "onehot", "composition")

VERDICT_COLUMNS = (
    "task", "metric", "arm", "point", "low", "high", "baseline",
    "difference", "diff_low", "diff_high", "p_holm", "mde", "verdict",
)  # fmt: skip
SCORE_COLUMNS = ("task", "metric", "arm", "kind", "point", "low", "high")
TRAINING_COLUMNS = ("step", "split", "metric", "value")


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
    outside the locus is not drawn. `title` says why the locus is shown. `sequence` holds its bases
    and `chrom_size` the length of its chromosome, where they are known: a browser needs them.
    """

    species: str
    chrom: str
    start: int
    bin_size: int
    tracks: Sequence[LocusTrack]
    annotations: pl.DataFrame | None = None
    annotated_as: str = "genes"
    title: str = ""
    sequence: str = ""
    chrom_size: int = 0

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
    """Where the routers of one part of a model, encoder or decoder, sent their tokens.

    X layer, S species, G group of tracks, E expert.

    Attributes:
        layers, species, groups: names; only a decoder has groups.
        load_XE: share of the routed slots that each expert received; rows sum to 1.
        species_XSE, group_XGE: share of each species' or group's gate weight that each expert
            got; rows sum to 1, or to 0 where a species was absent.
        top_k: experts that serve one token.
        entropy_X: of each router over ln n, 1 undecided and 0 certain; empty if not recorded.
        decoder: the same of the decoder, where this is of an encoder.
    """

    layers: Sequence[str]
    species: Sequence[str]
    load_XE: Values
    species_XSE: Values
    top_k: int
    entropy_X: Sequence[float] = ()
    groups: Sequence[str] = ()
    group_XGE: Values | None = None
    decoder: "ExpertUse | None" = None

    def __post_init__(self) -> None:
        experts, layers = np.shape(self.load_XE)[-1], len(self.layers)
        held = [
            ("load_XE", self.load_XE, (layers, experts)),
            ("species_XSE", self.species_XSE, (layers, len(self.species), experts)),
        ]
        if self.group_XGE is not None:
            held.append(("group_XGE", self.group_XGE, (layers, len(self.groups), experts)))
        for name, values, expected in held:
            if np.shape(values) != expected:
                raise CislensError(
                    f"expert use: {name} has shape {np.shape(values)}, expected {expected} for "
                    f"{layers} layers, {len(self.species)} species and {len(self.groups)} groups."
                )
            sums = np.asarray(values, dtype=float).sum(-1)
            whole = np.isclose(sums, 1, atol=1e-3) | (np.isclose(sums, 0) & (len(expected) == 3))
            if not whole.all() or np.min(values) < 0:
                raise CislensError(
                    f"expert use: {name} must hold shares that sum to 1 over the experts; found "
                    f"sums from {sums.min():.4g} to {sums.max():.4g}."
                )


@dataclass(frozen=True)
class EmbeddingMap:
    """Test examples of a task, as one arm places them in the plane.

    Attributes:
        kind: the part that the arm plays.
        method: PCA or UMAP; `said` is what its axes are.
        classes: names of the classes; empty where labels are values.
        target: what the label is.
        rows: example_id, label, x, y.
    """

    task: str
    arm: str
    kind: str
    method: str
    said: str
    classes: Sequence[str]
    target: str
    rows: pl.DataFrame


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows; a part that is None or empty is left out, and the page says so.

    verdicts: one row per comparison (task, arm, baseline). `task, metric, arm, point, low, high`
        (the arm's test score and its 95 % interval), `baseline, difference, diff_low, diff_high`
        (arm minus baseline, paired), `p_holm`, `mde` (minimum detectable effect), `verdict`
        (text that opens with gain, loss, equivalent or "no detectable gain"; empty for a side
        comparison, whose outcome is then read off p and interval); optional `n_test` (examples)
        and `blocks` (independent groups behind the interval).
    scores: one row per (task, metric, arm): `kind` is trained, random (same net, untrained),
        onehot or composition; `point, low, high`; optional `null_low, null_high` (95 % range
        under permuted labels) and `primary` (false: in the table only, not drawn).
    ranks: one row per arm: `arm, kind, tasks, mean_rank, low, high, p_best, cliques` (numbers of
        the groups of arms that are not told apart).
    efficiency: `task, metric, arm, kind, labels, point, low, high`: scores with fewer labels.
    label_areas: `task, arm, aulc, low, high, n_match`.
    layers: `task, metric, arm, layer, pooling, valid_score, chosen`, from input to output.
    calibration: a row per bin: `task, arm, kind, predicted, observed, low, high` and, with `_low`
        and `_high`, `brier, ece` of classes (null for values), `slope, intercept` of values.
    maps: test examples in the plane, of each task and arm.
    costs: `task, arm, stage, wall_s`.
    audits: of each task `task, verdict, checks`, a check being `name, verdict, found`.
    training: the run folder's metrics, one row per logged number: `step, split` (train or
        valid), `metric, value`. `name/species` is the metric of one species.
    manifest: printed as it is. `summary` (mapping) is set as the page's first facts, `splits` and
        `licences` (lists of mappings) become tables, `dropped` (mapping reason -> count) and
        `interval` (sentence) go to the methods; the rest is listed at the end.
    notes: sentences for the methods section.
    """

    title: str
    verdicts: pl.DataFrame
    scores: pl.DataFrame
    ranks: pl.DataFrame | None = None
    efficiency: pl.DataFrame | None = None
    label_areas: pl.DataFrame | None = None
    layers: pl.DataFrame | None = None
    calibration: pl.DataFrame | None = None
    costs: pl.DataFrame | None = None
    audits: Sequence[Mapping[str, Any]] = ()
    training: pl.DataFrame | None = None
    maps: Sequence[EmbeddingMap] = ()
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
        """The part an arm plays; one without a score counts as a one-hot baseline."""
        found = self.scores.filter(pl.col("arm") == arm)["kind"]
        return str(found[0]) if len(found) else "onehot"

    @property
    def primary_scores(self) -> pl.DataFrame:
        """The scores in each task's own metric."""
        return self.scores.filter("primary") if "primary" in self.scores.columns else self.scores

    def tasks(self) -> list[tuple[str, str]]:
        """(task, metric) in the order of the verdicts, then of the scores."""
        frames = (self.verdicts, self.primary_scores)
        keys = pl.concat([frame.select("task", "metric") for frame in frames])
        return [(str(a), str(b)) for a, b in keys.unique(maintain_order=True).rows()]


def _require(frame: pl.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise CislensError(
            f"{what} table: no column {', '.join(missing)}; found {', '.join(frame.columns)}; "
            f"expected {', '.join(columns)}."
        )
