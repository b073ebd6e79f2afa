"""An evaluation of predicted tracks as one self-contained page, and as a table in the terminal."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table as Lines
from rich.text import Text

from cislens.evaluation.profiles.run import Evaluation
from cislens.evaluation.profiles.tables import ALL, BEST
from cislens.files import write_atomic
from cislens.report.figures import intervals
from cislens.report.figures.profiles import against_baseline
from cislens.report.manifest import Table, groups
from cislens.report.panels import Panel
from cislens.report.templates import render
from cislens.report.words import (
    GAIN,
    LABELS,
    LOSS,
    NONE,
    counted,
    grouped,
    interval,
    number,
    p_value,
)

_MAIN = "pearson_pooled"
_MEANING = {
    "pearson_pooled": "correlation of each track over all bins of all windows, so that differences "
    "between windows count; mean over tracks",
    "pearson_window": "correlation inside each window, mean over windows and tracks, so that only "
    "the shape counts; windows with a constant target are left out",
    "poisson_nll": "Poisson negative log-likelihood per bin without ln t!; lower is better",
    "pearson_log1p": "as pearson_pooled, of ln(1 + value); CAGE-like tracks only",
}
_SECTIONS = (
    ("scores", "Scores by group"), ("differences", "Paired differences"),
    ("tracks", "Every track"), ("methods", "Methods"),
    ("manifest", "Manifest"),
)  # fmt: skip
_KINDS = {"trained": "trained", "baseline": "composition"}
_TONE = {GAIN: "bold green", LOSS: "bold red", NONE: "yellow"}


def write_profiles(found: Evaluation, out_html: str | os.PathLike[str]) -> Path:
    """Write the page of an evaluation, atomically; the same input gives the same bytes."""
    path = Path(out_html)
    write_atomic(path, render_profiles(found))
    return path


def render_profiles(found: Evaluation) -> str:
    """The page's HTML text."""
    metrics = found.scores["metric"].unique(maintain_order=True).to_list()
    return render(
        "profiles.html.j2",
        sections=_SECTIONS,
        skip="scores",
        title="Predicted tracks of held-out windows"
        if found.facts["split"] == "test"
        else f"Predicted tracks of the {found.facts['split']} part",
        headline=headline(found),
        facts=_facts(found),
        forests=_score_panels(found),
        metrics=[(name, _MEANING[name], _score_table(found, name)) for name in metrics],
        differences=_difference_panels(found),
        difference_tables=[_difference_table(found, name) for name in metrics],
        scatters=_scatters(found),
        track_table=_track_table(found),
        seed_table=_seed_table(found),
        notes=found.notes,
        blocks=_blocks(found.facts["block_kinds"]),
        jackknife="jackknife" in found.scores["method"].to_list(),
        manifest=groups(found.facts),
    )


def headline(found: Evaluation) -> list[str]:
    """One plain sentence per species and trained arm, from pearson_pooled alone."""
    sentences = []
    rows = found.differences.filter(pl.col("metric") == _MAIN, pl.col("comparison") == BEST)
    for species in rows["species"].unique(maintain_order=True):
        for arm in rows["arm"].unique(maintain_order=True):
            mine = rows.filter(pl.col("species") == species, pl.col("arm") == arm)
            if mine.is_empty():
                continue
            by_group = mine.filter(pl.col("group") != ALL)
            total = mine.row(-1, named=True)
            count = {name: (by_group["outcome"] == name).sum() for name in (GAIN, LOSS)}
            of = counted(len(by_group), "assay group")
            better = f"It beats the best baseline in {count[GAIN]} of {of}"
            worse = f" and does worse in {count[LOSS]}" if count[LOSS] else ""
            sentences.append(
                f"{arm} reaches {_MAIN} {number(total['point'])} on {species}, "
                f"{total['baseline']} {number(total['point'] - total['difference'])}. "
                f"{better}{worse}."
            )
    return sentences or ["No track could be measured, so nothing is claimed."]


def terminal_table(found: Evaluation) -> RenderableType:
    """The headline and the groups' pearson_pooled, to be printed with a rich console."""
    lines = Lines(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Species", "Group", "Arm", "Score\n[95 %]", "Minus best\nbaseline", "p", ""):
        lines.add_column(name, overflow="fold")
    rows = found.differences.filter(pl.col("metric") == _MAIN, pl.col("comparison") == BEST)
    for row in rows.iter_rows(named=True):
        cells = (
            row["species"], row["group"], row["arm"],
            _or_point(row["point"], row["low"], row["high"]),
            _or_point(row["difference"], row["diff_low"], row["diff_high"], signed=True),
            p_value(row["p_holm"]),
        )  # fmt: skip
        outcome = str(row["outcome"])
        lines.add_row(*map(_ascii, cells), Text(LABELS[outcome], style=_TONE[outcome]))
    words = [Text(_ascii(sentence), style="bold") for sentence in headline(found)]
    return Group(*words, Text(""), lines)


def _facts(found: Evaluation) -> list[tuple[str, str]]:
    facts = found.facts
    per_species = [
        (species, f"{grouped(windows)} windows, {counted(facts['blocks'][species], 'block')}, "
         f"{counted(facts['tracks'][species], 'track')}")
        for species, windows in facts["windows"].items()
    ]  # fmt: skip
    return [("Part", facts["split"]), ("Averaged over", facts["average"]), *per_species]


def _blocks(kinds: Mapping[str, str]) -> str:
    """What blocks are, once if they are the same for all species."""
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return "; ".join(f"{species}: {kind}" for species, kind in kinds.items())


def _groups(found: Evaluation, metric: str) -> pl.DataFrame:
    """Rows of groups, over all seeds."""
    return found.scores.filter(
        pl.col("metric") == metric, pl.col("track") == ALL, pl.col("seed").is_null()
    )


def _score_panels(found: Evaluation) -> list[Panel]:
    rows = _groups(found, _MAIN).rename({"value": "point"})
    rows = rows.with_columns(
        kind=pl.col("kind").replace_strict(_KINDS), task=pl.col("species") + " " + pl.col("group")
    )
    panels = []
    for (species, group), mine in rows.group_by("species", "group", maintain_order=True):
        best = mine.sort("point", descending=True, maintain_order=True)
        title = f"{species}, {'all tracks' if group == ALL else group}"
        sub = f"{_MAIN}, {counted(mine['tracks'][0], 'track')}"
        picture = intervals.scores(best, intervals.score_limits(rows))
        panels.append(Panel(title, sub, picture))
    return panels


def _difference_panels(found: Evaluation) -> list[Panel]:
    rows = found.differences.filter(pl.col("metric") == _MAIN, pl.col("p").is_not_null())
    rows = rows.with_columns(
        task=pl.col("species") + " " + pl.col("group"),
        verdict=pl.col("outcome").replace({NONE: LABELS[NONE]}),
    )
    if rows.is_empty():
        return []
    names = {*rows["arm"], *rows["baseline"]}
    kinds = {
        arm: _KINDS[kind]
        for arm, kind in found.scores.select("arm", "kind").unique().rows()
        if arm in names
    }
    limits = intervals.forest_limits(rows, rows)
    panels = []
    for (species, group), mine in rows.group_by("species", "group", maintain_order=True):
        best = set(mine.filter(pl.col("comparison") == BEST)["baseline"])
        title = f"{species}, {'all tracks' if group == ALL else group}"
        sub = f"difference in {_MAIN}, {counted(mine['tracks'][0], 'track')}"
        panels.append(Panel(title, sub, intervals.forest(mine, kinds, best, limits)))
    return panels


def _scatters(found: Evaluation) -> list[Panel]:
    """A panel per species and arm: each track against the best baseline of the species."""
    tracks = found.scores.filter(
        pl.col("metric") == _MAIN, pl.col("track") != ALL, pl.col("seed").is_null()
    )
    held = found.differences.filter(pl.col("metric") == _MAIN, pl.col("comparison") == BEST)
    panels = []
    for (species, arm), rows in held.group_by("species", "arm", maintain_order=True):
        baseline = str(rows["baseline"][-1])
        mine = tracks.filter(pl.col("species") == species)
        both = mine.filter(pl.col("arm") == arm).select("group", "track", y="value").join(
            mine.filter(pl.col("arm") == baseline).select("track", x="value"), on="track",
            maintain_order="left",
        )  # fmt: skip
        if len(both):
            picture = against_baseline(both, str(arm), baseline, _MAIN)
            panels.append(Panel(f"{species}: {arm}", counted(len(both), "track"), picture))
    return panels


def _score_table(found: Evaluation, metric: str) -> Table:
    rows = _groups(found, metric)
    arms = rows["arm"].unique(maintain_order=True).to_list()
    listed = []
    for (species, group), mine in rows.group_by("species", "group", maintain_order=True):
        cells = {row["arm"]: row for row in mine.iter_rows(named=True)}
        values = [_cell(cells.get(arm), "value", "low", "high") for arm in arms]
        listed.append((f"{species}, {group}", str(mine["tracks"][0]), *values))
    return Table(metric, ("Group", "Tracks", *arms), listed)


def _difference_table(found: Evaluation, metric: str) -> Table:
    rows = [
        (
            f"{row['species']}, {row['group']}", row["arm"], f"{row['baseline']} "
            f"({row['comparison']})",
            _cell(row, "difference", "diff_low", "diff_high", signed=True),
            p_value(row["p_holm"]), number(row["mde"]), LABELS[row["outcome"]],
        )
        for row in found.differences.filter(pl.col("metric") == metric).iter_rows(named=True)
    ]  # fmt: skip
    columns = ("Group", "Arm", "Minus", "Difference [95 % interval]", "p (Holm)", "MDE", "Outcome")
    return Table(f"Differences in {metric}", columns, rows)


def _track_table(found: Evaluation) -> Table:
    tracks = found.scores.filter(
        pl.col("metric") == _MAIN, pl.col("track") != ALL, pl.col("seed").is_null()
    )
    arms = tracks["arm"].unique(maintain_order=True).to_list()
    rows = []
    for (species, track), mine in tracks.group_by("species", "track", maintain_order=True):
        cells = {row["arm"]: row for row in mine.iter_rows(named=True)}
        values = [_cell(cells.get(arm), "value", "low", "high") for arm in arms]
        rows.append((str(track), str(species), mine["group"][0], *values))
    return Table(f"{_MAIN} of every track", ("Track", "Species", "Group", *arms), rows)


def _seed_table(found: Evaluation) -> Table | None:
    rows = found.scores.filter(pl.col("track") == ALL, pl.col("seed").is_not_null())
    if rows.is_empty():
        return None
    listed = [
        (f"{row['species']}, {row['group']}", row["metric"], row["arm"], str(row["seed"]),
         number(row["value"]))
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    return Table("Every seed", ("Group", "Metric", "Arm", "Seed", "Value"), listed)


def _cell(
    row: Mapping[str, Any] | None, point: str, low: str, high: str, signed: bool = False
) -> str:
    if row is None:
        return number(None)
    return _or_point(row[point], row[low], row[high], signed=signed)


def _or_point(
    point: float | None, low: float | None, high: float | None, signed: bool = False
) -> str:
    """With the interval where there is one."""
    if low is None or high is None:
        return number(point, signed=signed)
    return interval(point, low, high, signed=signed)


def _ascii(text: object) -> str:
    return str(text).replace("\u2212", "-").replace("\u2013", "-")
