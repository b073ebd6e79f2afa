"""Every track once: how well an arm predicts it against how well a baseline does."""

from collections.abc import Sequence

import matplotlib.ticker
import numpy as np
import polars as pl

from cislens.report.figures.canvas import (
    SERIES,
    Picture,
    canvas,
    color,
    picture,
    plain,
    shortened,
)
from cislens.report.words import counted

_WIDTH, _PLOT, _LEFT, _TOP, _LINE = 360, 300, 48, 8, 20
_MARKS = ("o", "s", "D", "^", "v")


def against_baseline(rows: pl.DataFrame, arm: str, baseline: str, metric: str) -> Picture:
    """One mark per track, above the diagonal where the arm is better, and a legend of groups.

    Args:
        rows: group, x (the baseline's value) and y (the arm's), one row per track.
    """
    rows = rows.filter(pl.col("x").is_finite(), pl.col("y").is_finite())
    groups: Sequence[str] = rows["group"].unique(maintain_order=True).to_list()
    foot = _LINE * max(1, len(groups))
    height = _TOP + _PLOT + 44 + foot
    low, high = _limits(rows)
    with canvas(_WIDTH, height) as figure:
        axes = figure.add_axes(
            (_LEFT / _WIDTH, 1 - (_TOP + _PLOT) / height, (_WIDTH - _LEFT - 12) / _WIDTH,
             _PLOT / height)
        )  # fmt: skip
        axes.set(xlim=(low, high), ylim=(low, high))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.grid(color=color("grid"), lw=0.6)
        axes.plot([low, high], [low, high], color=color("muted"), lw=1)
        axes.text(0.5, -34 / _PLOT, shortened(f"{baseline}, {metric}", 280), ha="center",
                  va="top", transform=axes.transAxes, color=color("muted"))  # fmt: skip
        axes.text(0.02, 0.98, shortened(f"above: {arm} is better", 280), va="top",
                  transform=axes.transAxes, color=color("muted"))  # fmt: skip
        legend = figure.add_axes((0, 0, 1, foot / height))
        legend.set(xlim=(0, _WIDTH), ylim=(foot, 0))
        legend.set_axis_off()
        for number, group in enumerate(groups):
            mine = rows.filter(pl.col("group") == group)
            tone = color(SERIES[number % len(SERIES)])
            mark = _MARKS[(number // len(SERIES) + number) % len(_MARKS)]
            axes.plot(mine["x"].to_numpy(), mine["y"].to_numpy(), mark, color=tone, ms=6,
                      mec=color("paper"), mew=0.8)  # fmt: skip
            middle = _LINE * (number + 0.5)
            legend.plot(_LEFT, middle, mark, color=tone, ms=7)
            text = f"{group}, {counted(len(mine), 'track')}"
            legend.text(_LEFT + 14, middle, shortened(text, _WIDTH - _LEFT - 20), va="center")
        better = int((rows["y"] > rows["x"]).sum())
        alt = (
            f"{metric} of {arm} against {baseline}, one mark per track; {arm} is higher on "
            f"{better} of {len(rows)}."
        )
        return picture(figure, plain(alt), rows)


def _limits(rows: pl.DataFrame) -> tuple[float, float]:
    values = rows.select("x", "y").to_numpy().astype(float).ravel()
    if not values.size:
        return 0.0, 1.0
    low, high = float(np.min(values)), float(np.max(values))
    pad = 0.06 * (high - low) or 0.05
    return low - pad, high + pad
