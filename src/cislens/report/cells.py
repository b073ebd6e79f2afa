"""An evaluation of cell types as one self-contained page, and as a table in the terminal."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table as Lines
from rich.text import Text

from cislens.evaluation.cells.run import CellEvaluation
from cislens.evaluation.cells.tables import METRICS, STRONGEST, own_arms
from cislens.files import write_atomic
from cislens.report.figures import intervals
from cislens.report.manifest import Table, groups
from cislens.report.panels import Panel
from cislens.report.templates import render
from cislens.report.words import GAIN, LABELS, LOSS, NONE, counted, grouped, interval, p_value

_SECTIONS = (
    ("scores", "Scores"),
    ("differences", "Paired differences"),
    ("methods", "Methods"),
    ("manifest", "Manifest"),
)
_MAIN = METRICS[0]
_NAMES = {"auroc": "AUROC", "auprc": "AUPRC"}
# How the figures draw what plays each part.
_DRAWN = {"trained": "trained", "added": "trained", "random": "random", "sequence": "onehot",
          "baseline": "composition"}  # fmt: skip
_TONE = {GAIN: "bold green", LOSS: "bold red", NONE: "yellow"}


def write_cells(found: CellEvaluation, out_html: str | os.PathLike[str]) -> Path:
    """Write the page of an evaluation, atomically; the same input gives the same bytes."""
    path = Path(out_html)
    write_atomic(path, render_cells(found))
    return path


def render_cells(found: CellEvaluation) -> str:
    """The page's HTML text."""
    parts = _parts(found)
    new = "new regions and cell types" if len(parts) > 1 else parts[0]
    return render(
        "cells.html.j2",
        sections=_SECTIONS,
        skip="scores",
        title=f"Open or closed in {new}",
        headline=headline(found),
        facts=_facts(found),
        forests=[_score_panel(found, part) for part in parts],
        tables=[_score_table(found, part) for part in parts],
        differences=[_difference_panel(found, part) for part in parts],
        difference_tables=[_difference_table(found, metric) for metric in METRICS],
        notes=found.notes,
        manifest=groups(found.facts),
    )


def headline(found: CellEvaluation) -> list[str]:
    """Plain sentences per trained arm and part, from AUROC alone."""
    sentences = []
    for part in reversed(_parts(found)):
        scores = dict(_of(found.scores, part).select("arm", "value").iter_rows())
        for name in found.facts["arms"]:
            rows = {
                (row["arm"], row["baseline"]): row["outcome"]
                for row in _of(found.differences, part).iter_rows(named=True)
            }
            _, sequence, random, added = own_arms(name)
            whole = rows[name, STRONGEST]
            verb = {
                GAIN: "beats", LOSS: "does worse than", NONE: "shows no detectable gain over",
            }[whole]  # fmt: skip
            adds = {
                GAIN: "adds to it", LOSS: "makes it worse beside it",
                NONE: "adds nothing detectable to it",
            }[rows[added, STRONGEST]]  # fmt: skip
            against = [
                f"{verdict} {what}"
                for baseline, what in ((sequence, "its sequence part"), (random, "its random twin"))
                for verdict in [{GAIN: "better than", LOSS: "worse than",
                                 NONE: "not detectably better than"}[rows[name, baseline]]]
            ]  # fmt: skip
            sentences.append(
                f"{part.capitalize()}: {name} {verb} what other cell types and neighbors tell "
                f"(AUROC {scores[name]:.3f} against {scores[STRONGEST]:.3f}) and {adds}; it is "
                f"{' and '.join(against)}."
            )
    return sentences


def terminal_table(found: CellEvaluation) -> RenderableType:
    """The headline, the scores and the differences, to be printed with a rich console."""
    words: list[RenderableType] = [Text(text, style="bold") for text in headline(found)]
    for part in _parts(found):
        table = _score_table(found, part)
        lines = Lines(
            title=table.title, title_justify="left", box=None, pad_edge=False,
            padding=(0, 2, 0, 0), header_style="dim",
        )  # fmt: skip
        for name in (*table.columns[:3], "Minus strongest", "p"):
            lines.add_column(name, overflow="fold")
        lines.add_column("")
        rows = {
            row["arm"]: row
            for row in _of(found.differences, part).iter_rows(named=True)
            if row["baseline"] == STRONGEST
        }
        for arm, *values in table.rows:
            row, outcome = rows.get(arm), Text("")
            held = ["", ""]
            if row is not None:
                held = [_difference(row), p_value(row["p_holm"])]
                outcome = Text(LABELS[row["outcome"]], style=_TONE[row["outcome"]])
            lines.add_row(*map(_ascii, (arm, *values[:2], *held)), outcome)
        words += [Text(""), lines]
    return Group(*words)


def _facts(found: CellEvaluation) -> list[tuple[str, str]]:
    """What each part was judged on."""
    facts = []
    for part in _parts(found):
        row = _of(found.scores, part).row(0, named=True)
        names = found.facts["judged_cells"][part]
        cells = ", ".join(names) if len(names) <= 3 else counted(len(names), "cell type")
        facts.append(
            (part, f"{grouped(row['pairs'])} pairs in {cells}, {row['open']:.1%} open, "
             f"{counted(row['blocks'], 'block')}")
        )  # fmt: skip
    return facts


def _score_panel(found: CellEvaluation, part: str) -> Panel:
    rows = _of(found.scores, part).rename({"value": "point"})
    rows = rows.with_columns(kind=pl.col("kind").replace_strict(_DRAWN), task=pl.lit(part))
    best = rows.sort("point", descending=True, maintain_order=True)
    limits = intervals.score_limits(found.scores.filter(metric=_MAIN).rename({"value": "point"}))
    return Panel(_title(part), _NAMES[_MAIN], intervals.scores(best, limits))


def _difference_panel(found: CellEvaluation, part: str) -> Panel:
    kinds = {arm: _DRAWN[kind] for arm, kind in found.scores.select("arm", "kind").iter_rows()}
    every = found.differences.filter(metric=_MAIN).with_columns(
        task=pl.col("part"), verdict=pl.col("outcome").replace({NONE: LABELS[NONE]})
    )
    picture = intervals.forest(
        every.filter(part=part), kinds, {STRONGEST}, intervals.forest_limits(every, every)
    )
    return Panel(_title(part), f"difference in {_NAMES[_MAIN]}", picture)


def _score_table(found: CellEvaluation, part: str) -> Table:
    """Arms with both metrics, best first; the share of open regions stands beside AUPRC."""
    by_metric = {
        metric: {row["arm"]: row for row in _of(found.scores, part, metric).iter_rows(named=True)}
        for metric in METRICS
    }
    first = by_metric[_MAIN]
    share = next(iter(first.values()))["open"]
    arms = sorted(first, key=lambda arm: -first[arm]["value"])
    rows = [(arm, *(_value(by_metric[metric][arm]) for metric in METRICS)) for arm in arms]
    columns = ("Arm", "AUROC [95 %]", f"AUPRC [95 %], {share:.3f} without skill")
    return Table(_title(part), columns, rows)


def _difference_table(found: CellEvaluation, metric: str) -> Table:
    rows = [
        (row["part"], row["arm"], row["baseline"], _difference(row), p_value(row["p_holm"]),
         f"{row['mde']:.3f}", LABELS[row["outcome"]])
        for row in found.differences.filter(metric=metric).iter_rows(named=True)
    ]  # fmt: skip
    columns = ("Part", "Arm", "Minus", "Difference [95 % interval]", "p (Holm)", "MDE", "Outcome")
    return Table(f"Differences in {_NAMES[metric]}", columns, rows)


def _parts(found: CellEvaluation) -> list[str]:
    return found.scores["part"].unique(maintain_order=True).to_list()


def _of(table: pl.DataFrame, part: str, metric: str = _MAIN) -> pl.DataFrame:
    return table.filter(pl.col("part") == part, pl.col("metric") == metric)


def _title(part: str) -> str:
    return part.capitalize()


def _value(row: Mapping[str, Any]) -> str:
    return interval(row["value"], row["low"], row["high"])


def _difference(row: Mapping[str, Any]) -> str:
    return interval(row["difference"], row["diff_low"], row["diff_high"], signed=True)


def _ascii(text: object) -> str:
    return str(text).replace("\u2212", "-").replace("\u2013", "-")
