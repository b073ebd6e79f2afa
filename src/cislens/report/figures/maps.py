"""Examples as points of a plane: what lies near what, colored by label."""

from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from cislens.report.figures.canvas import (
    SERIES,
    Picture,
    canvas,
    color,
    picture,
    plain,
    shortened,
)
from cislens.report.inputs import Values
from cislens.report.words import counted, number

_SIDE, _LINE, _DOT = 300, 20, 5.0
_CAPS: tuple[Literal["round", "projecting"], ...] = ("round", "projecting")
# Values are drawn in so many steps, the lowest pale and the highest full.
_STEPS = 5


def embedding_map(rows: pl.DataFrame, classes: Sequence[str], what: str) -> Picture:
    """One point per example; the few far from all others are drawn at the edge of the frame.

    Args:
        rows: x, y, label (number of a class, or a value), and columns to be taken along.
        classes: names of the classes; empty where labels are values.
        what: of what the map is, for the alt text.
    """
    x_N, y_N, label_N = (rows[name].to_numpy().astype(float) for name in ("x", "y", "label"))
    groups = _classes(label_N, classes) if classes else _steps(label_N)
    low_2, high_2 = zip(_reach(x_N), _reach(y_N), strict=True)
    far = int((
        (x_N < low_2[0]) | (x_N > high_2[0]) | (y_N < low_2[1]) | (y_N > high_2[1])
    ).sum())  # fmt: skip
    x_N, y_N = np.clip(x_N, low_2[0], high_2[0]), np.clip(y_N, low_2[1], high_2[1])
    beyond = f"{far} beyond the frame, at its edge" if far else ""
    foot = _LINE * (len(groups) + bool(far)) + 6
    height = _SIDE + foot
    with canvas(_SIDE, height) as figure, matplotlib.rc_context({"path.simplify": False}):
        axes = figure.add_axes((0, foot / height, 1, _SIDE / height))
        axes.set(xlim=_padded(low_2[0], high_2[0]), ylim=_padded(low_2[1], high_2[1]),
                 xticks=[], yticks=[])  # fmt: skip
        for spine in axes.spines.values():
            spine.set_visible(True)
        for place, (_, inside_N, role, alpha) in enumerate(groups):
            _dots(axes, x_N[inside_N], y_N[inside_N], role, alpha, _CAPS[place % len(_CAPS)]
                  if classes else "round")  # fmt: skip
        _key(figure, groups, beyond, foot, height, bool(classes))
        said = ", ".join(f"{name}: {int(inside_N.sum())}" for name, inside_N, *_ in groups)
        said = "; ".join(filter(None, (said, beyond)))
        return picture(figure, plain(f"{what}, {counted(len(rows), 'example')}; {said}."), rows)


_Group = tuple[str, "np.ndarray", str, float]


def _classes(label_N: Values, classes: Sequence[str]) -> list[_Group]:
    return [
        (name, label_N == index, SERIES[index % len(SERIES)], 0.75)
        for index, name in enumerate(classes)
    ]


def _steps(label_N: Values) -> list[_Group]:
    """Values in steps of equal numbers."""
    known = label_N[np.isfinite(label_N)]
    if not len(known):
        return []
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _STEPS + 1)))
    step_N = np.clip(np.searchsorted(edges, label_N, "right") - 1, 0, max(0, len(edges) - 2))
    groups: list[_Group] = []
    for step in range(max(1, len(edges) - 1)):
        last = min(step + 1, len(edges) - 1)
        name = f"{number(float(edges[step]), 2)} to {number(float(edges[last]), 2)}"
        inside_N = np.isfinite(label_N) & (step_N == step)
        groups.append((name, inside_N, "heat", 0.15 + 0.85 * step / max(1, len(edges) - 2)))
    return groups


def _dots(
    axes: Axes, x_N: Values, y_N: Values, role: str, alpha: float,
    cap: Literal["round", "projecting"],
) -> None:  # fmt: skip
    """All points of a group as one path of strokes without length, whose caps are the dots."""
    if not len(x_N):
        return
    points = np.repeat(np.stack([x_N, y_N], axis=1), 2, axis=0)
    path = Path(points, [Path.MOVETO, Path.LINETO] * len(x_N))
    axes.add_patch(PathPatch(path, fill=False, ec=color(role), lw=_DOT, alpha=alpha,
                             capstyle=cap))  # fmt: skip


def _key(
    figure: Figure, groups: list[_Group], beyond: str, foot: int, height: int, classes: bool
) -> None:
    axes = figure.add_axes((0, 0, 1, foot / height))
    axes.set(xlim=(0, _SIDE), ylim=(foot, 0))
    axes.set_axis_off()
    for place, (name, inside_N, role, alpha) in enumerate(groups):
        middle = _LINE * (place + 0.5) + 4
        cap = _CAPS[place % len(_CAPS)] if classes else "round"
        _dots(axes, np.array([6.0]), np.array([middle]), role, alpha, cap)
        text = f"{name}, {int(inside_N.sum())}"
        axes.text(16, middle, shortened(text, _SIDE - 20, 11.5), fontsize=11.5, va="center")
    middle = _LINE * (len(groups) + 0.5) + 4
    axes.text(0, middle, beyond, fontsize=11.5, va="center", color=color("muted"))


def _reach(values_N: Values) -> tuple[float, float]:
    """From the least to the largest value, but for those far from the middle 96 %."""
    if not len(values_N):
        return 0.0, 0.0
    low, high = np.quantile(values_N, (0.02, 0.98))
    most = 0.75 * (high - low) or np.inf
    return float(max(values_N.min(), low - most)), float(min(values_N.max(), high + most))


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.05 * (high - low) or 1.0
    return low - pad, high + pad
