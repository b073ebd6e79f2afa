"""Sequence logos of attributions as SVG, drawn by logomaker (extra `interpret`).

Dimensions: 4 channel A, C, G, T, L base.
"""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.effects.attribution.files import Maps
from cislens.errors import CislensError
from cislens.extras import extra
from cislens.files import atomic_path

LOGO_WIDTH = 120  # bp that are shown
_PEAK = 21  # bp whose summed contribution tells where a window is strongest
_STYLE: Any = {
    "svg.hashsalt": "cislens", "svg.fonttype": "path", "font.family": "DejaVu Sans",
    "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def strongest(contributions_L: Maps, width: int = LOGO_WIDTH) -> tuple[int, float]:
    """Start of the `width` bp around the 21 bp with the largest |sum|, and that |sum|.

    The stretch lies inside the window; it begins at 0 if the window is not longer than it.
    """
    length = len(contributions_L)
    peak = min(_PEAK, length)
    summed = np.concatenate([[0.0], np.cumsum(contributions_L, dtype=np.float64)])
    sums = np.abs(summed[peak:] - summed[:-peak])
    best = int(sums.argmax())
    start = best + peak // 2 - width // 2
    return max(0, min(start, length - width)), float(sums[best])


def write_logo(
    path: str | os.PathLike[str],
    contributions_4L: npt.NDArray[np.floating[Any]],
    *,
    first: int,
    title: str,
    unit: str = "contribution",
) -> None:
    """One SVG with a letter a base, as high as what it contributes; below the axis if negative.

    The same input gives the same bytes. Text is drawn as paths and needs no font.

    Args:
        contributions_4L: zero but at the base that is there, or hypothetical scores of all four.
        first: 0-based genome position of the first base; the axis counts from 1, as browsers do.

    Raises:
        CislensError: without logomaker, for another shape, or a value that is not finite.
    """
    logomaker = extra("logomaker", "interpret")
    pandas = extra("pandas", "interpret")
    import matplotlib
    from matplotlib.figure import Figure

    if contributions_4L.ndim != 2 or len(contributions_4L) != 4 or not contributions_4L.size:
        raise CislensError(f"a logo is drawn of shape (4, L), not {contributions_4L.shape}.")
    if not np.isfinite(contributions_4L).all():
        raise CislensError(f"{title}: a contribution is not finite; it has no height.")
    length = contributions_4L.shape[1]
    table = pandas.DataFrame(contributions_4L.T.astype(np.float64), columns=list("ACGT"))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(max(4.0, 0.12 * length + 1), 2.2))
        axes = figure.add_subplot()
        logomaker.Logo(table, ax=axes, color_scheme="classic")
        _label(axes, first, length, title, unit)
        figure.tight_layout()
        with atomic_path(path) as aside:
            nothing = dict.fromkeys(("Date", "Creator"))
            figure.savefig(aside, format="svg", metadata=nothing)


def _label(axes: Any, first: int, length: int, title: str, unit: str) -> None:
    step = max(10, (length // 60) * 10)
    shown = [at for at in range(length) if (first + at + 1) % step == 0] or [0]
    axes.set_xticks(shown, [f"{first + at + 1:,}" for at in shown])
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left")
