"""The audit as one self-contained page, and as a table in the terminal."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as Lines
from rich.text import Text

from cislens import __version__
from cislens.evaluation.audit.report import AuditReport, Check
from cislens.files import write_atomic
from cislens.report.manifest import Table, table
from cislens.report.templates import render
from cislens.report.words import counted, grouped, number

_GROUPS = (
    ("leakage", "Leakage", "Rows of the judged parts that training has seen, or all but seen. "
     "A score on such rows measures memory."),
    ("labels", "Labels", "Rows that are there twice, and labels that contradict each other."),
    ("shortcut", "Shortcuts", "What a predictor reaches that knows nothing but the length, the GC "
     "content, N and case, or the strand: the better of a look-up table and a linear model, "
     "fitted on train and scored on the judged part."),
    ("confounder", "Confounders", "What simple sequence models reach. They are no defect of the "
     "data, but the bar for a model: its gain over them is what counts."),
    ("alleles", "Alleles", "Whether reference alleles are what the genome has."),
)  # fmt: skip
_MARKS = {"pass": "\u2713", "warn": "!", "fail": "\u2717", "skipped": "\u2013"}
_CHIPS = {"pass": "gain", "warn": "none", "fail": "loss", "skipped": "equivalent"}
_TONES = {"pass": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
_HEADLINES = {
    "pass": "The audit passed: nothing found that a score on this split should not be trusted for.",
    "warn": "The audit warns: read the marked checks before you trust a score on this split.",
    "fail": "The audit failed: scores on this split do not measure what they should.",
    "skipped": "Nothing could be checked.",
}


def write_audit(
    report: AuditReport, out_html: str | os.PathLike[str], before: AuditReport | None = None
) -> Path:
    """Write the page of an audit, atomically; the same report gives the same bytes.

    Args:
        before: the audit of the input that `report`'s table was made from.
    """
    path = Path(out_html)
    write_atomic(path, render_audit(report, before))
    return path


def render_audit(report: AuditReport, before: AuditReport | None = None) -> str:
    """The page's HTML text."""
    groups = [
        (key, title, text, rows)
        for key, title, text in _GROUPS
        if (rows := [_row(check, before) for check in report.checks if check.group == key])
    ]
    return render(
        "audit.html.j2",
        sections=[*((key, title) for key, title, _, _ in groups), ("input", "Input")],
        skip="checks",
        manifest=[],
        title=f"Audit of {report.name}",
        headline=headline(report),
        facts=_facts(report),
        groups=groups,
        after_fix=before is not None,
        counts=table("Rows", [{"part": part, **row} for part, row in report.counts.items()]),
        notes=report.notes,
    )


def headline(report: AuditReport) -> list[str]:
    """Plain sentences that say what came out."""
    sentences = [_HEADLINES[report.verdict]]
    for verdict, words in (("fail", "Failed"), ("warn", "Warned")):
        names = [check.name for check in report.checks if check.verdict == verdict]
        if names:
            sentences.append(f"{words}: {', '.join(names)}.")
    return sentences


def check_table(report: AuditReport) -> RenderableType:
    """The headline and all checks, to be printed with a rich console."""
    lines = Lines(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Check", "Verdict", "Value [95 %]", "Knowing nothing", "Remark"):
        lines.add_column(name, overflow="fold")
    for check in report.checks:
        if check.verdict == "skipped":
            cells = ("-", "-", check.why)
        else:
            cells = (_value(check), number(check.reference), check.why)
        lines.add_row(
            check.name, Text(check.verdict, style=_TONES[check.verdict]), *map(_ascii, cells)
        )
    words = [Text(_ascii(sentence), style="bold") for sentence in headline(report)]
    return Group(*words, Text(""), lines)


def _row(check: Check, before: AuditReport | None) -> dict[str, Any]:
    earlier = None if before is None else _earlier(check, before)
    return {
        "name": check.name, "verdict": check.verdict, "mark": _MARKS[check.verdict],
        "chip": _CHIPS[check.verdict], "measure": check.measure, "why": check.why,
        "value": _value(check), "reference": number(check.reference),
        "limits": _limits(check), "before": earlier,
        "detail": _table("Class", check.classes), "numbers": _table("Detail", check.detail),
    }  # fmt: skip


def _earlier(check: Check, before: AuditReport) -> str:
    same = [other for other in before.checks if other.name == check.name]
    return f"{_value(same[0])} ({same[0].verdict})" if same else "\u2013"


def _value(check: Check) -> str:
    if check.value is None:
        return "\u2013"
    if check.low is None or check.high is None:
        return number(check.value)
    return f"{number(check.value)} [{number(check.low)}, {number(check.high)}]"


def _limits(check: Check) -> str:
    base = check.reference or 0.0
    found = [
        f"{word} above {base + limit:.3g}"
        for word, limit in (("warns", check.warn), ("fails", check.fail))
        if limit is not None
    ]
    which = "interval " if check.reference is not None and found else ""
    return f"{which}{', '.join(found)}" if found else "not judged"


def _table(title: str, values: Mapping[str, Any]) -> Table | None:
    rows = [(str(name), _cell(value)) for name, value in values.items()]
    return Table(title, (title, "Value"), rows) if rows else None


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return grouped(value)
    return number(value, 4) if isinstance(value, float) else str(value)


def _facts(report: AuditReport) -> list[tuple[str, str]]:
    rows = sum(part["rows"] for part in report.counts.values())
    labels = (
        "values" if report.kind == "values" else counted(len(report.classes), "class", "classes")
    )
    return [
        ("Verdict", report.verdict), ("Leakage", report.leakage), ("Rows", grouped(rows)),
        ("Labels", labels), ("Split made by", report.design), ("Seed", str(report.seed)),
        ("cislens", __version__),
    ]  # fmt: skip


def _ascii(text: object) -> str:
    return str(text).replace("\u2212", "-").replace("\u2013", "-")
