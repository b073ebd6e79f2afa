"""How the values of a column are spread."""

import matplotlib.ticker
import numpy as np
import polars as pl

from cislens.report.figures.canvas import Picture, canvas, color, picture, plain
from cislens.report.inputs import Values
from cislens.report.words import counted

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 360, 220, 46, 10, 42


def histogram(values_N: Values, what: str, even: bool = False, bins: int = 20) -> Picture:
    """Counts of values in bins of one width.

    Args:
        even: draw what an even spread would give, as p-values have where nothing is true.
    """
    known = np.asarray(values_N, dtype=float)
    known = known[np.isfinite(known)]
    limits = (0.0, 1.0) if even else None
    counts, edges = np.histogram(known, bins=bins, range=limits)
    with canvas(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_axes(
            (_LEFT / _WIDTH, _FOOT / _HEIGHT, 1 - (_LEFT + 12) / _WIDTH,
             1 - (_FOOT + _TOP) / _HEIGHT)
        )  # fmt: skip
        axes.stairs(counts, edges, fill=True, color=color("heat"), lw=0)
        if even:
            axes.axhline(len(known) / bins, color=color("random"), lw=1.4, ls=(0, (1.5, 2)))
        axes.grid(axis="y", color=color("grid"), lw=0.8)
        axes.tick_params(labelsize=11)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.set_xlabel(plain(what), fontsize=11.5, color=color("muted"))
        data = pl.DataFrame({"from": edges[:-1], "to": edges[1:], "count": counts})
        said = f"Histogram of {what} of {counted(len(known), 'variant')}"
        top = int(counts.argmax()) if len(known) else 0
        peak = f", most between {edges[top]:.3g} and {edges[top + 1]:.3g}" if len(known) else ""
        return picture(figure, plain(f"{said}{peak}."), data)
