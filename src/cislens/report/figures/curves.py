"""Lines over a common axis: score against labels, observed against predicted."""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.ticker
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cislens.report.figures.canvas import Picture, canvas, color, picture, plain, shortened
from cislens.report.words import interval, number

_WIDTH, _HEIGHT = 360, 252
_LEFT, _TOP, _FOOT, _RIGHT = 46, 10, 42, 12
_KEY = 18
_DASH = {"trained": "-", "random": (0, (3, 1.5)), "onehot": "-", "composition": (0, (1, 1))}
_MARKER = {"trained": "o", "random": "D", "onehot": "s", "composition": "v"}


@dataclass(frozen=True)
class _Line:
    """One arm: positions, values and the ends of their intervals."""

    name: str
    kind: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def efficiency(rows: pl.DataFrame) -> Picture:
    """Test score against the number of training examples, one line per arm.

    Args:
        rows: arm, kind, labels, point, low, high of one task.
    """
    lines = [_line(rows, arm, "labels", "point") for arm in _arms(rows)]
    metric = rows["metric"][0]

    def dress(axes: Axes) -> None:
        axes.set_xscale("log")
        counts = sorted(rows["labels"].unique().to_list())
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(counts))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("training examples", fontsize=11.5, color=color("muted"))

    said = "; ".join(
        f"{line.name}: {interval(line.y[0], line.low[0], line.high[0])} with "
        f"{line.x[0]:,.0f}, {interval(line.y[-1], line.low[-1], line.high[-1])} with "
        f"{line.x[-1]:,.0f}"
        for line in lines
    )
    return _drawn(lines, rows, dress, f"{metric} against the number of training examples. {said}.")


def reliability(rows: pl.DataFrame) -> Picture:
    """How often what was given a probability came true, beside the diagonal of a calibrated arm.

    Args:
        rows: arm, kind, predicted, observed, low, high of one task, a row per bin.
    """
    lines = [_line(rows, arm, "predicted", "observed") for arm in _arms(rows)]

    def dress(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=color("muted"), lw=1, zorder=0)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xlabel("predicted probability", fontsize=11.5, color=color("muted"))

    worst = {line.name: float(np.abs(line.y - line.x).max()) for line in lines}
    said = "; ".join(f"{name}: at most {number(gap)} off" for name, gap in worst.items())
    return _drawn(lines, rows, dress, f"Observed share against predicted probability. {said}.")


def _arms(rows: pl.DataFrame) -> list[str]:
    return [str(arm) for arm in rows["arm"].unique(maintain_order=True)]


def _line(rows: pl.DataFrame, arm: str, x: str, y: str) -> _Line:
    mine = rows.filter(pl.col("arm") == arm).sort(x)
    columns = [mine[name].cast(pl.Float64).to_numpy() for name in (x, y, "low", "high")]
    return _Line(plain(arm), str(mine["kind"][0]), *columns)


def _drawn(
    lines: list[_Line], rows: pl.DataFrame, dress: Callable[[Axes], None], alt: str
) -> Picture:
    height = _HEIGHT + _KEY * len(lines)
    with canvas(_WIDTH, height) as figure:
        foot = _FOOT + _KEY * len(lines)
        axes = figure.add_axes(
            (_LEFT / _WIDTH, foot / height, 1 - (_LEFT + _RIGHT) / _WIDTH,
             1 - (foot + _TOP) / height)
        )  # fmt: skip
        for line in lines:
            tone = color(line.kind)
            axes.fill_between(line.x, line.low, line.high, color=tone, alpha=0.13, lw=0)
            axes.plot(line.x, line.y, color=tone, ls=_DASH[line.kind], marker=_MARKER[line.kind],
                      lw=2.2 if line.kind == "trained" else 1.4, ms=5, mew=0)  # fmt: skip
        axes.grid(axis="y", color=color("grid"), lw=0.8)
        axes.tick_params(labelsize=11)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        dress(axes)
        _key(figure, lines, height)
        return picture(figure, plain(alt), rows)


def _key(figure: Figure, lines: list[_Line], height: float) -> None:
    """A line of text per arm below the axes, with its mark."""
    axes = figure.add_axes((0, 0, 1, _KEY * len(lines) / height))
    axes.set(xlim=(0, _WIDTH), ylim=(_KEY * len(lines), 0))
    axes.set_axis_off()
    for index, line in enumerate(lines):
        middle, tone = _KEY * (index + 0.5), color(line.kind)
        axes.plot([_LEFT, _LEFT + 26], [middle, middle], color=tone, ls=_DASH[line.kind], lw=2)
        axes.plot(_LEFT + 13, middle, _MARKER[line.kind], color=tone, ms=6, mew=0)
        axes.text(_LEFT + 34, middle, shortened(line.name, _WIDTH - _LEFT - 40, 11.5),
                  fontsize=11.5, va="center")  # fmt: skip
