"""The sections of the page that stand behind the verdicts, each with its panels and caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cislens.report.figures import curves, layers, maps, ranks
from cislens.report.inputs import ReportInput
from cislens.report.manifest import Table
from cislens.report.panels import Panel
from cislens.report.words import counted, grouped, interval

_FOUND = ("warn", "fail")
_KINDS = ("trained", "random", "onehot", "composition")


@dataclass(frozen=True)
class Section:
    """A section of the page; without panels and tables it says what is absent.

    Attributes:
        key: its anchor.
        size: of the panels: small, three side by side; wide; or neither.
        folded: whether tables are folded that have no panels above them.
    """

    key: str
    title: str
    caption: str
    absent: str
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    size: str = ""
    folded: bool = False

    @property
    def empty(self) -> bool:
        return not self.panels and not self.tables


def sections(run: ReportInput) -> list[Section]:
    """Every section behind the verdicts, in the order of the page."""
    return [
        Section("controls", "Beside its controls", _CONTROLS,
                "There is no trained arm to set beside its controls.", _controls(run)),
        Section("ranks", "Ranks over tasks", _RANKS, "Ranks need two tasks or more.",
                _ranks(run)),
        Section("labels", "Label efficiency", _LABELS,
                "This bench was not run with fewer labels (settings.labels).",
                _labels(run), _label_table(run)),
        Section("layers", "Layers and poolings", _LAYERS,
                "No arm had a choice of layers (settings.layers).", _layers(run)),
        Section("maps", "Maps of the embeddings", _MAPS,
                "No features of this bench were kept.", _maps(run), size="small"),
        Section("calibration", "Calibration", _CALIBRATION,
                "There is no task of two classes or of one measured value.",
                _calibration(run), _calibration_table(run)),
        Section("cost", "Cost against quality", _COST, "No costs were recorded.", _cost(run)),
        Section("leakage", "Leakage and shortcuts", _LEAKAGE, "The tasks were not audited.",
                (), _audits(run)),
    ]  # fmt: skip


_CONTROLS = (
    "For every task the trained arm, the same network untrained, and the strongest baseline of "
    "each kind on validation, all on one axis. What the trained arm has beyond base composition "
    "and beyond random weights is what training gave."
)
_RANKS = (
    "Mean rank over the tasks, 1 being best, with its 95 % interval over resampled examples, "
    "seeds and tasks, and the share of draws in which the arm has the best mean rank. Arms "
    "joined by an upright bar at the right are not told apart."
)
_LABELS = (
    "Test score against the number of training examples, with 95 % intervals. Subsets are "
    "balanced, nested, drawn anew for each seed and the same for all arms; validation shrinks "
    "with them. AULC is the area under the curve over the logarithm of the number of examples, "
    "divided by its width."
)
_LAYERS = (
    "Score on validation with the first seed of every layer and pooling. The framed one was "
    "taken for all seeds; test examples played no part."
)
_MAPS = (
    "Test examples in the plane, colored by label: the trained arm, the same network untrained, "
    "and counts of words of up to five bases. The axes are found on training examples, and test "
    "labels color the points and nothing else. A map shows what lies near what; it proves "
    "nothing, and classes that mix here may still be told apart by a head, which sees all axes."
)
_CALIBRATION = (
    "Bins hold equal numbers of test examples; the upright distance to the diagonal is what a "
    "probability is off by. The expected calibration error (ECE) is its mean, the Brier score "
    "the mean squared error of the probability. Of measured values the table has slope and "
    "intercept of the label on the score, 1 and 0 where scores mean what they say."
)
_COST = (
    "Test score against the time that embedding, tuning, training and predicting took together. "
    "Embedding is charged in full to each task."
)
_LEAKAGE = (
    "What an audit of each task found. A failed check of leakage withholds a gain; shortcuts say "
    "what length, composition or coordinates alone give away."
)


def _controls(run: ReportInput) -> list[Panel]:
    panels = []
    scores = run.primary_scores
    trained = scores.filter(pl.col("kind") == "trained")["arm"].unique(maintain_order=True)
    for arm in trained:
        for metric in scores["metric"].unique(maintain_order=True):
            rows = [
                row
                for task, found in run.tasks()
                if found == metric
                for row in _beside(run, scores, task, metric, arm)
            ]
            if rows:
                frame = pl.DataFrame(rows, infer_schema_length=None)
                count = counted(frame["task"].n_unique(), "task")
                panels.append(Panel(arm, f"{metric}, {count}", ranks.controls(frame)))
    return panels


def _beside(
    run: ReportInput, scores: pl.DataFrame, task: str, metric: str, arm: str
) -> list[Mapping[str, Any]]:
    """The arm and those that its verdicts hold it against."""
    rivals = run.verdicts.filter(
        pl.col("task") == task, pl.col("metric") == metric, pl.col("arm") == arm
    )["baseline"].to_list()
    mine = scores.filter(
        pl.col("task") == task, pl.col("metric") == metric, pl.col("arm").is_in([arm, *rivals]),
        pl.col("low").is_finite(), pl.col("high").is_finite(),
    )  # fmt: skip
    order = {kind: place for place, kind in enumerate(_KINDS)}
    return sorted(mine.iter_rows(named=True), key=lambda row: order[row["kind"]])


def _ranks(run: ReportInput) -> list[Panel]:
    table = run.ranks
    if table is None or table.is_empty() or int(table["tasks"].to_numpy().max()) < 2:
        return []
    tasks = counted(int(table["tasks"].to_numpy().max()), "task")
    return [Panel("Mean rank", f"{counted(len(table), 'arm')}, {tasks}",
                  ranks.critical_difference(table))]  # fmt: skip


def _labels(run: ReportInput) -> list[Panel]:
    return [
        Panel(task, rows["metric"][0], curves.efficiency(_notable(run, task, rows)))
        for task, rows in _by_task(run.efficiency)
    ]


def _notable(run: ReportInput, task: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The trained arms and the arms that they are held against: more lines cannot be read."""
    mine = run.verdicts.filter(pl.col("task") == task)
    shown = [*mine["arm"], *mine["baseline"]]
    kept = rows.filter(pl.col("arm").is_in(shown))
    return kept if len(kept) else rows


def _label_table(run: ReportInput) -> list[Table]:
    if run.label_areas is None or run.label_areas.is_empty():
        return []
    rows = [
        (row["task"], row["arm"], interval(row["aulc"], row["low"], row["high"]),
         _matched(row["n_match"]))
        for row in run.label_areas.iter_rows(named=True)
    ]  # fmt: skip
    columns = ("Task", "Arm", "AULC [95 % interval]", "Labels to match the strongest one-hot arm")
    return [Table("Area under the curve", columns, rows)]


def _matched(count: float | None) -> str:
    if count is None or count == float("inf"):
        return "more than there are"
    return grouped(count)


def _layers(run: ReportInput) -> list[Panel]:
    return [
        Panel(task, f"{arm}, {rows['metric'][0]} on validation", layers.layer_map(rows))
        for task, whole in _by_task(run.layers)
        for arm in whole["arm"].unique(maintain_order=True)
        if run.kind(arm) == "trained"
        for rows in [whole.filter(pl.col("arm") == arm)]
    ]


def _maps(run: ReportInput) -> list[Panel]:
    return [
        Panel(
            f"{each.task}: {each.arm}",
            each.said if each.classes else f"{each.said}; {each.target}",
            maps.embedding_map(
                each.rows, each.classes, f"{each.method} of {each.arm} on {each.task}"
            ),
        )
        for each in run.maps
    ]


def _calibration(run: ReportInput) -> list[Panel]:
    if run.calibration is None:
        return []
    classes = run.calibration.filter(pl.col("brier").is_not_null())
    return [
        Panel(task, "probability of class 1", curves.reliability(_notable(run, task, rows)))
        for task, rows in _by_task(classes)
    ]


def _calibration_table(run: ReportInput) -> list[Table]:
    if run.calibration is None or run.calibration.is_empty():
        return []
    whole = run.calibration.unique(["task", "arm"], keep="first", maintain_order=True)
    measures = ("brier", "ece", "slope", "intercept")
    rows = [
        (row["task"], row["arm"], *(
            interval(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"))
            for name in measures
        ))
        for row in whole.iter_rows(named=True)
    ]  # fmt: skip
    columns = ("Task", "Arm", "Brier", "ECE", "Slope", "Intercept")
    return [Table("Calibration of every arm", columns, rows)]


def _cost(run: ReportInput) -> list[Panel]:
    if run.costs is None or run.costs.is_empty():
        return []
    seconds = run.costs.group_by("task", "arm").agg(seconds=pl.col("wall_s").sum())
    panels = []
    for task, metric in run.tasks():
        rows = run.primary_scores.filter(
            pl.col("task") == task, pl.col("metric") == metric, pl.col("low").is_finite()
        ).join(seconds, on=["task", "arm"], how="inner", maintain_order="left")
        if len(rows):
            panels.append(Panel(task, metric, ranks.cost_against_score(rows)))
    return panels


def _audits(run: ReportInput) -> list[Table]:
    rows = [
        (audit["task"], audit["verdict"], check["name"], check["verdict"], check["found"])
        for audit in run.audits
        for check in audit["checks"]
        if check["verdict"] in _FOUND
    ]
    passed = [
        (audit["task"], audit["verdict"], counted(len(audit["checks"]), "check"), "pass", "")
        for audit in run.audits
        if not any(check["verdict"] in _FOUND for check in audit["checks"])
    ]
    if not rows and not passed:
        return []
    return [Table("Audit", ("Task", "Audit", "Check", "Result", "Found"), [*rows, *passed])]


def _by_task(frame: pl.DataFrame | None) -> list[tuple[str, pl.DataFrame]]:
    if frame is None or frame.is_empty():
        return []
    tasks = frame["task"].unique(maintain_order=True)
    return [(str(task), frame.filter(pl.col("task") == task)) for task in tasks]
