"""Numbers and verdicts in words, the same on the page and in the terminal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from cislens.report.inputs import ReportInput

# What a verdict's text opens with, the chip it becomes, and the chip's mark.
GAIN, LOSS, EQUIVALENT, NONE = "gain", "loss", "equivalent", "none"
LABELS = {GAIN: "gain", LOSS: "loss", EQUIVALENT: "equivalent", NONE: "no detectable gain"}
MARKS = {GAIN: "\u25b2", LOSS: "\u25bc", EQUIVALENT: "=", NONE: "\u25cb"}
# The key of a comparison, and whether it carries a verdict's text.
_PAIR = ["task", "metric", "arm", "baseline"]
_JUDGED = pl.col("verdict").fill_null("").str.strip_chars() != ""
SUFFIXES = ("composition-explained", "not pretraining", "leakage")


@dataclass(frozen=True)
class Verdict:
    """A verdict text taken apart: which of the four outcomes, and what weakens it."""

    outcome: str
    suffixes: tuple[str, ...]

    @property
    def label(self) -> str:
        """The outcome as a reader sees it."""
        return LABELS[self.outcome]


def read_verdict(text: str) -> Verdict:
    """Take a verdict text apart; an unknown opening counts as no detectable gain."""
    opening = text.strip().lower()
    outcome = next((name for name in (GAIN, LOSS, EQUIVALENT) if opening.startswith(name)), NONE)
    return Verdict(outcome, tuple(name for name in SUFFIXES if name in opening))


def outcome(row: Mapping[str, Any]) -> Verdict:
    """The verdict of a comparison; where it has no text, what p and interval say."""
    if str(row["verdict"] or "").strip():
        return read_verdict(row["verdict"])
    clear = row["p_holm"] is not None and row["p_holm"] < 0.05
    if clear and row["diff_low"] > 0:
        return Verdict(GAIN, ())
    return Verdict(LOSS if clear and row["diff_high"] < 0 else NONE, ())


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Fixed digits with a true minus sign; an absent or undefined value is a dash.

    A signed value keeps its sign when it rounds to zero: an end of -0.0003 is below zero.
    """
    if value is None or not math.isfinite(value):
        return "\u2013"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not signed and float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "\u2212")


def interval(
    point: float | None, low: float | None, high: float | None, signed: bool = False
) -> str:
    """`0.873 [0.850, 0.891]`; without both ends nothing is printed but a dash."""
    ends = [number(low, signed=signed), number(high, signed=signed)]
    if "\u2013" in ends:
        return "\u2013"
    return f"{number(point, signed=signed)} [{ends[0]}, {ends[1]}]"


def general(value: float) -> str:
    """A number of three digits at whatever scale, e.g. of attributions and small p-values."""
    return f"{value:.3g}".replace("-", "\u2212")


def p_value(value: float | None) -> str:
    """Three digits, and never a bare zero."""
    if value is not None and math.isfinite(value) and value < 0.001:
        return "<0.001"
    return number(value)


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 task`, `3 tasks`."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def grouped(count: float) -> str:
    """A whole number in groups of three: 12,345."""
    return f"{count:,.0f}"


def kilobases(position: int) -> str:
    """A coordinate in kb with its bases after the point."""
    return f"{position / 1000:,.3f}".rstrip("0").rstrip(".")


def main_comparisons(run: ReportInput) -> pl.DataFrame:
    """The rows that carry a verdict; where an arm has none in a task, all its rows there."""
    judged = run.verdicts.filter(_JUDGED)
    rest = run.verdicts.join(judged, on=["task", "metric", "arm"], how="anti")
    return _those(run, judged, rest)


def other_comparisons(run: ReportInput) -> pl.DataFrame:
    """The side comparisons, e.g. with the untrained twin."""
    return run.verdicts.join(main_comparisons(run), on=_PAIR, how="anti", maintain_order="left")


def headline(run: ReportInput) -> list[str]:
    """Plain sentences that say what came out, made from the verdicts alone.

    One sentence per arm and kind of baseline; then what weakens the result.
    """
    if run.verdicts.is_empty():
        return ["This run holds no comparison, so nothing is claimed."]
    sentences = []
    twin = pl.Series([run.kind(name) == "random" for name in run.verdicts["baseline"]])
    main = main_comparisons(run)
    for arm in run.verdicts["arm"].unique(maintain_order=True):
        judged = main.filter(pl.col("arm") == arm).join(
            run.verdicts.filter(twin), on=_PAIR, how="anti", maintain_order="left"
        )
        against = run.verdicts.filter(twin & (pl.col("arm") == arm))
        if len(judged):
            sentences.append(_outcomes(arm, judged, _rival(run, judged)))
        if len(against):
            sentences.append(_outcomes(arm, against, "its untrained twin"))
    return sentences + _cautions(main)


def _those(run: ReportInput, *parts: pl.DataFrame) -> pl.DataFrame:
    """The rows of `parts`, in the order of the run's verdicts."""
    wanted = pl.concat([part.select(_PAIR) for part in parts])
    return run.verdicts.join(wanted, on=_PAIR, how="semi", maintain_order="left")


def _rival(run: ReportInput, rows: pl.DataFrame) -> str:
    """What the baselines of these rows have in common."""
    names = rows["baseline"].unique(maintain_order=True).to_list()
    if len(names) == 1:
        return str(names[0])
    if all(run.kind(name) == "onehot" for name in names):
        return "the strongest one-hot baseline"
    return "the strongest baseline"


def _outcomes(arm: str, rows: pl.DataFrame, rival: str) -> str:
    found = [outcome(row).outcome for row in rows.iter_rows(named=True)]
    total = len(found)
    count = {name: found.count(name) for name in LABELS}
    if total == 1:
        single = {
            GAIN: "beats {rival}", LOSS: "does worse than {rival}",
            EQUIVALENT: "is equivalent to {rival}", NONE: "shows no detectable gain over {rival}",
        }  # fmt: skip
        return f"{arm} {single[found[0]].format(rival=rival)} on {rows['task'][0]}."
    if count[GAIN] == total:
        return f"{arm} beats {rival} on all {total} tasks."
    rest = []
    if count[LOSS]:
        rest.append(f"does worse on {count[LOSS]}")
    if count[EQUIVALENT]:
        rest.append(f"is equivalent on {count[EQUIVALENT]}")
    if count[NONE]:
        rest.append(f"shows no detectable gain on {count[NONE]}")
    opening = f"{arm} beats {rival} on {count[GAIN] or 'none'} of {counted(total, 'task')}"
    return f"{opening}; it {_listed(rest)}."


def _cautions(rows: pl.DataFrame) -> list[str]:
    meaning = {
        "composition-explained": "no gain over base composition is shown on",
        "not pretraining": "no gain over the untrained twin is shown on",
        "leakage": "a leakage check failed on",
    }
    sentences = []
    for suffix, words in meaning.items():
        hit = [task for task, text in rows.select("task", "verdict").rows()
               if suffix in read_verdict(text).suffixes]  # fmt: skip
        if hit:
            sentences.append(f"Caution: {words} {_listed(list(dict.fromkeys(hit)))}.")
    return sentences


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
