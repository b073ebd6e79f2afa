"""Arms on an axis: mean rank over tasks, cost against score, and controls side by side."""

import matplotlib.ticker
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from cislens.report.figures.canvas import (
    Picture,
    canvas,
    color,
    picture,
    plain,
    shortened,
    text_width,
)
from cislens.report.words import number

_WIDTH, _ROW, _HEAD, _FOOT, _SIDE = 360, 30, 8, 30, 4
_NAME, _BEST, _CLIQUE = 122, 68, 10
_MARKER = {"trained": "o", "random": "D", "onehot": "s", "composition": "v"}


def critical_difference(rows: pl.DataFrame) -> Picture:
    """Mean rank of every arm with its interval; arms joined by a bar are not told apart.

    Args:
        rows: arm, kind, mean_rank, low, high, p_best, cliques (numbers of the groups of arms
            that the arm belongs to), best first.
    """
    rows = rows.sort("mean_rank", maintain_order=True)
    groups = sorted({group for cliques in rows["cliques"].to_list() for group in cliques or []})
    right = _BEST + _CLIQUE * len(groups) + 8
    height = _HEAD + _ROW * len(rows) + _FOOT
    with canvas(_WIDTH, height) as figure:
        axes = figure.add_axes(
            (_NAME / _WIDTH, _FOOT / height, 1 - (_NAME + right) / _WIDTH,
             1 - (_FOOT + _HEAD) / height)
        )  # fmt: skip
        axes.set(xlim=(0.7, len(rows) + 0.3), ylim=(_ROW * len(rows), 0), yticks=[])
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        axes.grid(axis="x", color=color("grid"), lw=0.8)
        scale = (_WIDTH - _NAME - right) / (len(rows) - 0.4)
        for index, row in enumerate(rows.iter_rows(named=True)):
            middle, tone = _ROW * (index + 0.5), color(row["kind"])
            axes.plot([row["low"], row["high"]], [middle] * 2, color=tone, lw=3,
                      solid_capstyle="butt")  # fmt: skip
            axes.plot(row["mean_rank"], middle, _MARKER[row["kind"]], color=tone, ms=8,
                      mec=color("paper"), mew=1.5)  # fmt: skip
            axes.text(0.7 - (_NAME - _SIDE) / scale, middle,
                      shortened(row["arm"], _NAME - 14, 12), fontsize=12, va="center",
                      fontweight="bold" if row["kind"] == "trained" else "normal")  # fmt: skip
            axes.text(1, middle, f"  best {100 * row['p_best']:.0f} %", fontsize=11.5,
                      va="center", transform=axes.get_yaxis_transform(),
                      color=color("muted"))  # fmt: skip
        for place, group in enumerate(groups):
            members = [i for i, cliques in enumerate(rows["cliques"].to_list()) if group in cliques]
            x = len(rows) + 0.3 + (_BEST + _CLIQUE * (place + 0.5)) / scale
            ends = [_ROW * (members[0] + 0.2), _ROW * (members[-1] + 0.8)]
            axes.plot([x, x], ends, color=color("ink"), lw=4, clip_on=False)
        said = "; ".join(
            f"{row['arm']}: mean rank {number(row['mean_rank'], 1)} "
            f"[{number(row['low'], 1)}, {number(row['high'], 1)}], best in "
            f"{100 * row['p_best']:.0f} % of draws"
            for row in rows.iter_rows(named=True)
        )
        return picture(figure, plain(f"Mean rank over the tasks, 1 is best. {said}."), rows)


def cost_against_score(rows: pl.DataFrame) -> Picture:
    """Score of every arm of a task against the seconds it took, on a logarithmic axis.

    Arms are numbered, best score first, and named below.

    Args:
        rows: arm, kind, seconds, point, low, high of one task.
    """
    rows = rows.sort("point", descending=True, maintain_order=True)
    left, line = 46, 18
    foot = 48 + line * len(rows)
    height = 200 + foot
    with canvas(_WIDTH, height) as figure:
        wide, high = _WIDTH - left - 14, height - foot - 16
        axes = figure.add_axes((left / _WIDTH, foot / height, wide / _WIDTH, high / height))
        axes.set_xscale("log")
        seconds = np.maximum(rows["seconds"].to_numpy(), 1e-3)
        axes.set_xlim(seconds.min() / 1.5, seconds.max() * 2)
        for row, at in zip(rows.iter_rows(named=True), seconds, strict=True):
            tone = color(row["kind"])
            axes.plot([at] * 2, [row["low"], row["high"]], color=tone, lw=2)
            axes.plot(at, row["point"], _MARKER[row["kind"]], color=tone, ms=7, mew=0)
        axes.set_ylim(axes.get_ylim())  # settled before labels are placed
        places: list[tuple[float, float]] = []
        for index, row in enumerate(rows.iter_rows(named=True)):
            x, y = axes.transData.transform((seconds[index], row["point"])) * 72 / figure.dpi
            places.append(_free((x + 8, y), places))
            axes.annotate(str(index + 1), places[-1], xycoords="figure points", fontsize=11,
                          color=color(row["kind"]), va="center", annotation_clip=False)  # fmt: skip
            _name_below(figure, f"{index + 1}  {row['arm']}", row["kind"],
                        foot - 48 - line * (index + 0.5), height)  # fmt: skip
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.grid(color=color("grid"), lw=0.8)
        axes.tick_params(labelsize=11)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.set_xlabel("seconds, all seeds", fontsize=11.5, color=color("muted"))
        said = "; ".join(
            f"{row['arm']}: {number(row['point'])} in {row['seconds']:.3g} s"
            for row in rows.iter_rows(named=True)
        )
        return picture(figure, plain(f"{rows['metric'][0]} against cost. {said}."), rows)


def _free(place: tuple[float, float], taken: list[tuple[float, float]]) -> tuple[float, float]:
    """The place, moved up until no label lies there."""
    x, y = place
    while any(abs(x - other_x) < 18 and abs(y - other_y) < 14 for other_x, other_y in taken):
        y += 3
    return x, y


def _name_below(figure: Figure, text: str, kind: str, height: float, whole: float) -> None:
    figure.text(46 / _WIDTH, height / whole, shortened(text, _WIDTH - 60, 11.5), fontsize=11.5,
                va="center", color=color(kind))  # fmt: skip


def controls(rows: pl.DataFrame) -> Picture:
    """One row per task: the trained arm, its twin and the best baseline of each kind on one axis.

    Args:
        rows: task, arm, kind, point, low, high; at most one row per task and kind.
    """
    tasks = rows["task"].unique(maintain_order=True).to_list()
    width, name = _WIDTH, 122
    height = _HEAD + _ROW * len(tasks) + _FOOT
    with canvas(width, height) as figure:
        axes = figure.add_axes(
            (name / width, _FOOT / height, 1 - (name + 12) / width, 1 - (_FOOT + _HEAD) / height)
        )
        ends = rows.select("low", "high").to_numpy().ravel()
        pad = 0.04 * float(np.ptp(ends)) or 0.05
        axes.set(xlim=(ends.min() - pad, ends.max() + pad), ylim=(_ROW * len(tasks), 0), yticks=[])
        axes.grid(axis="x", color=color("grid"), lw=0.8)
        axes.tick_params(labelsize=11)
        for index, task in enumerate(tasks):
            middle = _ROW * (index + 0.5)
            label = shortened(task, name - 12, 12)
            axes.annotate(label, (0, middle), (-8 - text_width(label, 12), 0), fontsize=12,
                          xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                          va="center", annotation_clip=False)  # fmt: skip
            axes.axhline(_ROW * (index + 1), color=color("grid"), lw=0.8)
            for offset, row in enumerate(rows.filter(pl.col("task") == task).iter_rows(named=True)):
                height_here, tone = middle - 8 + 5 * offset, color(row["kind"])
                axes.plot([row["low"], row["high"]], [height_here] * 2, color=tone, lw=1.6)
                axes.plot(row["point"], height_here, _MARKER[row["kind"]], color=tone, ms=6, mew=0)
        said = "; ".join(
            f"{row['task']}, {row['arm']}: {number(row['point'])}"
            for row in rows.iter_rows(named=True)
        )
        return picture(figure, plain(f"Score beside its controls. {said}."), rows)
