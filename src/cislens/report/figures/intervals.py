"""Points with intervals, one row per arm: scores against chance, and paired differences."""

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import matplotlib.ticker
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cislens.report.figures.canvas import (
    Picture,
    canvas,
    color,
    picture,
    plain,
    shortened,
    text_width,
)
from cislens.report.words import interval, outcome

_WIDTH, _ROW, _BAR, _FOOT, _SIDE = 360, 46, 19, 26, 4
_MARKER = {"trained": "o", "random": "D", "onehot": "s", "composition": "v"}


@dataclass(frozen=True)
class Row:
    """One arm: its interval, the numbers printed beside its name, and a band behind it.

    A `strong` row is drawn heavier: it is what the panel is about.
    """

    name: str
    kind: str
    point: float
    low: float
    high: float
    numbers: str
    strong: bool
    band: tuple[float, float] | None = None


def forest(
    rows: pl.DataFrame, kinds: dict[str, str], main: AbstractSet[str], limits: tuple[float, float]
) -> Picture:
    """Paired differences of one task: interval per arm, zero line, band of what is undetectable.

    Args:
        rows: verdict rows of one (task, metric), in the order to draw.
        kinds: part that each arm plays.
        main: baselines that the panel is about.
        limits: range of the axis; an interval that leaves it ends in an arrow.
    """
    several_arms, several_rivals = (rows[name].n_unique() > 1 for name in ("arm", "baseline"))

    def rival(name: str) -> str:
        return "its untrained twin" if kinds[name] == "random" else name

    drawn = [
        Row(
            name=" ".join(
                ([row["arm"]] if several_arms or not several_rivals else [])
                + ([f"vs {rival(row['baseline'])}"] if several_rivals else [])
            ),
            kind=kinds[row["arm"]],
            point=row["difference"], low=row["diff_low"], high=row["diff_high"],
            numbers=interval(row["difference"], row["diff_low"], row["diff_high"], signed=True),
            strong=row["baseline"] in main,
            band=(-row["mde"], row["mde"]) if _known(row["mde"]) else None,
        )
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    said = "; ".join(
        f"{drawn[i].name}: {drawn[i].numbers}, {outcome(row).label}"
        for i, row in enumerate(rows.iter_rows(named=True))
    )
    task, metric = rows.select("task", "metric").row(0)
    alt = f"Paired differences in {metric} for {task}, arm minus baseline. {said}."
    return _panel(drawn, limits, plain(alt), zero=True, data=rows)


def scores(rows: pl.DataFrame, limits: tuple[float, float]) -> Picture:
    """Test scores of one task: interval per arm and the range that chance gives.

    Args:
        rows: score rows of one (task, metric), in the order to draw.
        limits: range of the axis.
    """
    has_null = {"null_low", "null_high"} <= set(rows.columns)
    drawn = []
    for row in rows.iter_rows(named=True):
        null = (row["null_low"], row["null_high"]) if has_null else None
        drawn.append(
            Row(
                name=row["arm"], kind=row["kind"],
                point=row["point"], low=row["low"], high=row["high"],
                numbers=interval(row["point"], row["low"], row["high"]),
                strong=row["kind"] == "trained",
                band=null if null and all(_known(end) for end in null) else None,
            )
        )  # fmt: skip
    task, metric = rows.select("task", "metric").row(0)
    said = "; ".join(f"{row.name}: {row.numbers}" for row in drawn)
    return _panel(
        drawn, limits, plain(f"{metric} of every arm on {task}. {said}."), zero=False, data=rows
    )


def forest_limits(rows: pl.DataFrame, main: pl.DataFrame) -> tuple[float, float]:
    """An axis that shows the main rows and every MDE whole; the others may leave it."""
    shown = main if len(main) else rows
    ends = shown.select("diff_low", "diff_high", "difference").to_numpy().ravel()
    mde = rows["mde"].to_numpy().astype(float)
    low, high = _range([*ends, *mde, *-mde, 0.0])
    reach = 1.6 * max(-low, high)
    everything = rows.select("diff_low", "diff_high").to_numpy().ravel()
    all_low, all_high = _range([*everything, low, high])
    return max(all_low, -reach), min(all_high, reach)


def score_limits(rows: pl.DataFrame) -> tuple[float, float]:
    """An axis that shows every interval and null range whole."""
    ends = [name for name in ("low", "high", "point", "null_low", "null_high")
            if name in rows.columns]  # fmt: skip
    return _range(rows.select(ends).to_numpy().astype(float).ravel())


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _range(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    known = np.asarray([value for value in values if _known(value)], dtype=float)
    if not known.size:
        return -1.0, 1.0
    low, high = float(known.min()), float(known.max())
    pad = 0.06 * (high - low) or 0.05
    return low - pad, high + pad


def _panel(
    rows: Sequence[Row], limits: tuple[float, float], alt: str, zero: bool, data: pl.DataFrame
) -> Picture:
    """Name and numbers on a line of text, the interval below it across the whole width."""
    height = _ROW * len(rows) + _FOOT
    with canvas(_WIDTH, height) as figure:
        box = (_SIDE / _WIDTH, _FOOT / height, 1 - 2 * _SIDE / _WIDTH, 1 - _FOOT / height)
        axes = figure.add_axes(box)
        axes.set(xlim=limits, ylim=(_ROW * len(rows), 0), yticks=[])
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.tick_params(axis="x", labelsize=11.5)
        for index, row in enumerate(rows):
            _row(axes, row, _ROW * index, limits, zero)
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value, signed=zero))
        return picture(figure, alt, data)


def _tick(value: float, signed: bool) -> str:
    text = f"{value:+.4g}" if signed and value else f"{value:.4g}"
    return text.replace("-", "\u2212")


def _row(axes: Axes, row: Row, top: float, limits: tuple[float, float], zero: bool) -> None:
    bar_top, middle = top + _ROW - _BAR - 3, top + _ROW - _BAR / 2 - 3
    left, right = limits
    edge = axes.get_yaxis_transform()
    room = _WIDTH - 2 * _SIDE - 10 - text_width(row.numbers, 12)
    name = shortened(row.name, room, 12.5, row.strong)
    axes.text(0, bar_top - 5, name, fontsize=12.5, transform=edge, va="baseline",
              fontweight="bold" if row.strong else "normal")  # fmt: skip
    axes.text(1, bar_top - 5, row.numbers, fontsize=12, transform=edge, ha="right", va="baseline",
              color=color("ink" if row.strong else "muted"))  # fmt: skip
    if row.band:
        low, high = max(row.band[0], left), min(row.band[1], right)
        if high > low:
            axes.add_patch(Rectangle((low, bar_top), high - low, _BAR, lw=0, fc=color("band")))
    if zero:
        axes.plot([0, 0], [bar_top - 1, bar_top + _BAR + 1], color=color("muted"), lw=1)
    if not _known(row.point):
        return
    tone = color(row.kind)
    if _known(row.low) and _known(row.high):
        ends = np.clip([row.low, row.high], left, right)
        if row.high > left and row.low < right:
            axes.plot(ends, [middle, middle], color=tone, lw=3 if row.strong else 2,
                      solid_capstyle="butt")  # fmt: skip
        for value, end, mark in ((row.low, left, "<"), (row.high, right, ">")):
            if (value < left and mark == "<") or (value > right and mark == ">"):
                axes.plot(end, middle, mark, color=tone, ms=8, mew=0, clip_on=False)
    if left <= row.point <= right:
        axes.plot(row.point, middle, _MARKER[row.kind], color=tone, ms=9 if row.strong else 7,
                  mec=color("paper"), mew=1.5, clip_on=False)  # fmt: skip
