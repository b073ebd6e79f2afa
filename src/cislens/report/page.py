"""The report of a bench as one self-contained page: no network, light, dark and print."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from cislens.files import write_atomic
from cislens.report import templates
from cislens.report.browser import embedded, views_of_loci
from cislens.report.downloads import frame_csv
from cislens.report.evidence import sections
from cislens.report.inputs import KINDS, ReportInput
from cislens.report.manifest import Table, facts, groups, table
from cislens.report.monitors import monitor_panels
from cislens.report.panels import curve_panels, expert_panels, forests, locus_panels, score_panels
from cislens.report.words import (
    MARKS,
    counted,
    grouped,
    headline,
    interval,
    main_comparisons,
    number,
    other_comparisons,
    outcome,
    p_value,
)

_EVIDENCE = (
    ("controls", "Controls"), ("ranks", "Ranks"), ("labels", "Label efficiency"),
    ("layers", "Layers"), ("maps", "Embedding maps"), ("calibration", "Calibration"),
    ("cost", "Cost"), ("leakage", "Leakage"),
)  # fmt: skip
CONTENTS = (
    ("verdicts", "Verdicts"), ("differences", "Paired differences"),
    ("scores", "Scores of every arm"), *_EVIDENCE, ("training", "Training"),
    ("tracks", "Tracks"), ("experts", "Expert use"),
    ("methods", "Data and methods"), ("manifest", "Manifest, licences"),
)  # fmt: skip
_KIND_WORDS = {
    "trained": "trained", "random": "same net, untrained", "onehot": "one-hot baseline",
    "composition": "composition baseline",
}  # fmt: skip


def write_report(run: ReportInput, out_html: str | os.PathLike[str]) -> Path:
    """Write the report of a run as one HTML file, atomically; the same input gives the same bytes.

    Returns:
        The path that was written.
    """
    path = Path(out_html)
    write_atomic(path, render(run))
    return path


def render(run: ReportInput) -> str:
    """The report's HTML text."""
    main, side = main_comparisons(run), other_comparisons(run)
    others = _comparison_rows(run, side)
    intervals = run.manifest.get("interval")
    browser = (
        embedded(views_of_loci(run.loci)) if any(locus.sequence for locus in run.loci) else None
    )
    return templates.render(
        "page.html.j2",
        allowed=browser.allowed if browser else (),
        browser=browser,
        title=run.title,
        headline=headline(run),
        facts=facts(run.manifest),
        sections=CONTENTS,
        skip="verdicts",
        main_rows=_comparison_rows(run, main),
        main_csv=frame_csv(main),
        other_rows=others,
        other_csv=frame_csv(side),
        other_label=f"{counted(len(others), 'more comparison')}: untrained twin, composition",
        kinds=[(kind, _KIND_WORDS[kind]) for kind in KINDS if kind in set(run.scores["kind"])],
        forests=forests(run),
        forest_caption=_FOREST,
        score_panels=score_panels(run),
        score_caption=_SCORES,
        score_table=_score_table(run),
        evidence=sections(run),
        curves=[*curve_panels(run), *monitor_panels(run.training)],
        loci=locus_panels(run),
        locus_caption=_LOCI,
        experts=expert_panels(run),
        expert_caption=_experts(run),
        interval_note=intervals or _NO_INTERVAL_NOTE,
        notes=list(run.notes),
        splits=_listed(run.manifest, "splits", "Splits"),
        dropped=_dropped(run.manifest),
        licences=_listed(run.manifest, "licences", "Licences"),
        manifest=groups(run.manifest),
    )


_FOREST = (
    "Each row is an arm's score minus that of what it is held against, paired on the same test "
    "examples: the mark is the difference, the bar its 95 % interval, the upright line zero, "
    "and the pale band the differences that this test would often miss (below the MDE). A bar "
    "clear of the upright line is a difference; an arrow marks a bar that leaves the axis. The "
    "number of test examples stands under each title."
)
_SCORES = (
    "Test score of every arm with its 95 % interval, best first; the pale band is where scores "
    "fall when labels are permuted, so an arm inside its band is not told apart from chance. "
    "Intervals of two arms may overlap although their paired difference is clear: compare arms "
    "above, not here."
)
_LOCI = (
    "Regions held out from training. Measured signal grows upwards, the prediction is mirrored "
    "downwards on the same scale, whose top is printed at each track; r is the Pearson "
    "correlation over the bins of that panel alone. A few loci show what the model draws; they "
    "are no measure of how well it does. Positions in titles are 1-based, as browsers take them."
)
_NO_INTERVAL_NOTE = "The manifest does not say what the intervals cover."


def _experts(run: ReportInput) -> str:
    served = f"{counted(run.experts.top_k, 'expert')} of " if run.experts else ""
    total = run.experts.load_XE.shape[-1] if run.experts else 0
    return (
        "The router sends each bin, in a decoder each assay group of a bin, to "
        f"{served}{total} experts. A cell is the share, in percent, "
        "that an expert took; a row sums to 100. The effective number of "
        f"experts is exp(entropy) of a row: {total} when all are used alike, 1 when one takes "
        "everything. Rows that differ between species show experts that specialize."
    )


def _comparison_rows(run: ReportInput, frame: pl.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for row in frame.iter_rows(named=True):
        verdict = outcome(row)
        examples = row.get("n_test")
        count = "" if examples is None else f"n {grouped(examples)}"
        whole = interval(row["difference"], row["diff_low"], row["diff_high"], signed=True)
        point, _, ends = whole.partition(" ")
        held = run.scores.filter(
            pl.col("task") == row["task"],
            pl.col("metric") == row["metric"],
            pl.col("arm") == row["baseline"],
        )
        rival = held.select("point", "low", "high").row(0) if len(held) else (None,) * 3
        rows.append(
            {
                "task": row["task"], "metric": row["metric"], "n": count,
                "arm": row["arm"], "baseline": row["baseline"],
                "outcome": verdict.outcome, "label": verdict.label,
                "mark": MARKS[verdict.outcome], "suffixes": verdict.suffixes,
                "difference": point, "difference_ends": ends,
                "score": interval(row["point"], row["low"], row["high"]),
                "baseline_score": interval(*rival) if len(held) else "\u2013",
                "p": p_value(row["p_holm"]), "mde": number(row["mde"]),
            }
        )  # fmt: skip
    return rows


def _score_table(run: ReportInput) -> Table:
    rows = []
    for row in run.scores.iter_rows(named=True):
        null = (row.get("null_low"), row.get("null_high"))
        chance = f"{number(null[0])} to {number(null[1])}" if None not in null else "\u2013"
        rows.append(
            (
                row["task"], row["metric"], row["arm"], _KIND_WORDS[row["kind"]],
                interval(row["point"], row["low"], row["high"]), chance,
            )
        )  # fmt: skip
    columns = ("Task", "Metric", "Arm", "Kind", "Score [95 % interval]", "By chance")
    return Table("Scores", columns, rows)


def _listed(manifest: Mapping[str, Any], key: str, title: str) -> Table | None:
    rows: Sequence[Mapping[str, Any]] = manifest.get(key) or ()
    return table(title, rows) if rows else None


def _dropped(manifest: Mapping[str, Any]) -> Table | None:
    counts: Mapping[str, Any] = manifest.get("dropped") or {}
    rows = [(reason, str(count)) for reason, count in counts.items()]
    return Table("Dropped", ("Reason", "Count"), rows) if rows else None
