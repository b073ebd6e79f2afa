"""The verdict table in the terminal: the same rows and digits as on the page, in 80 columns."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cislens.report.inputs import ReportInput
from cislens.report.words import (
    EQUIVALENT,
    GAIN,
    LOSS,
    NONE,
    headline,
    interval,
    main_comparisons,
    number,
    outcome,
    p_value,
)

_TONE = {GAIN: "bold green", LOSS: "bold red", EQUIVALENT: "cyan", NONE: "yellow"}


def verdict_table(run: ReportInput) -> RenderableType:
    """The headline and the main verdicts, to be printed with a rich console."""
    rows = main_comparisons(run)
    lines = [Text(_ascii(sentence), style="bold") for sentence in headline(run)]
    if rows.is_empty():
        return Group(*lines)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="dim")
    for name, wrap in (("Task", True), ("Verdict", True), ("Difference", False), ("Score", False)):
        table.add_column(f"{name}\n[95 %]" if not wrap else name, no_wrap=not wrap,
                         overflow="fold")  # fmt: skip
    table.add_column("p\nMDE", no_wrap=True, justify="right")
    for row in rows.iter_rows(named=True):
        verdict = outcome(row)
        call = Text(verdict.label, style=_TONE[verdict.outcome])
        for suffix in verdict.suffixes:
            call.append(f"\n{suffix}", style="red")
        task = Text(_ascii(row["task"]), style="bold")
        task.append(f"\n{_ascii(row['metric'])}", style="not bold dim")
        task.append(f"\n{_ascii(row['arm'])} vs {_ascii(row['baseline'])}", style="not bold dim")
        table.add_row(
            task, call,
            _stacked(interval(row["difference"], row["diff_low"], row["diff_high"], signed=True)),
            _stacked(interval(row["point"], row["low"], row["high"])),
            _ascii(f"{p_value(row['p_holm'])}\n{number(row['mde'])}"),
        )  # fmt: skip
    return Group(*lines, Text(""), table)


def _stacked(numbers: str) -> Text:
    """The point on one line, its interval on the next."""
    return Text(_ascii(numbers).replace(" [", "\n[", 1))


def _ascii(text: object) -> str:
    """Terminals differ in what they can draw; minus and dash are written with ASCII."""
    return str(text).replace("\u2212", "-").replace("\u2013", "-")
