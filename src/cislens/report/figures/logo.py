"""Sequence logos: a letter a base, as high as what it contributes."""

import math

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from cislens.report.figures.canvas import Picture, canvas, color, picture, plain, text_width
from cislens.report.inputs import Values

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 400, 150, 52, 14, 32
_ROLES = {"A": "series-3", "C": "series-1", "G": "series-5", "T": "series-2"}


def logo(bases: str, contribution_L: Values, chrom: str, first: int) -> Picture:
    """The letters of `bases`, below the axis where they count against the score.

    Args:
        bases: A, C, G, T; others are left out.
        contribution_L: of each base.
        first: 0-based position of the first one; the axis counts from 1.
    """
    values = np.nan_to_num(np.asarray(contribution_L, dtype=float))
    length = len(bases)
    with canvas(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_axes(
            (_LEFT / _WIDTH, _FOOT / _HEIGHT, 1 - (_LEFT + 4) / _WIDTH,
             1 - (_FOOT + _TOP) / _HEIGHT)
        )  # fmt: skip
        low, high = min(0.0, float(values.min(initial=0))), max(0.0, float(values.max(initial=0)))
        pad = 0.04 * (high - low) or 1.0
        axes.set(xlim=(0, max(length, 1)), ylim=(low - pad, high + pad))
        for base, role in _ROLES.items():
            _letters(axes, base, role, [i for i, found in enumerate(bases) if found == base],
                     values)  # fmt: skip
        axes.axhline(0, color=color("muted"), lw=0.8)
        axes.locator_params(axis="y", nbins=4)
        widest = text_width(f"{first + length:,}") + 12
        step = 10 * max(1, math.ceil(widest * max(length, 1) / (_WIDTH - _LEFT - 4) / 10))
        places = [at for at in range(length) if (first + at + 1) % step == 0]
        axes.set_xticks([at + 0.5 for at in places], [f"{first + at + 1:,}" for at in places])
        axes.tick_params(labelsize=11)
        data = pl.DataFrame(
            {"chrom": [chrom] * length, "position": range(first + 1, first + length + 1),
             "base": list(bases), "contribution": values}
        )  # fmt: skip
        strongest = int(np.abs(values).argmax()) if length else 0
        said = (
            f"Logo of {length} bases of {chrom} from position {first + 1:,}; the largest "
            f"contribution is {values[strongest]:.3g} of {bases[strongest]} at "
            f"{first + strongest + 1:,}. {bases}"
            if length
            else "An empty logo."
        )
        return picture(figure, plain(said), data)


def _letters(axes: Axes, base: str, role: str, places: list[int], values: Values) -> None:
    """All letters of one base as one path."""
    drawn = [place for place in places if values[place]]
    if not drawn:
        return
    shape = TextPath((0, 0), base, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = shape.get_extents()
    unit = Affine2D().translate(-box.x0, -box.y0).scale(0.92 / box.width, 1 / box.height)
    parts = [
        unit.frozen().transform_path(shape).transformed(
            Affine2D().scale(1, values[place]).translate(place + 0.04, 0)
        )
        for place in drawn
    ]  # fmt: skip
    axes.add_patch(PathPatch(Path.make_compound_path(*parts), lw=0, fc=color(role)))


def bases_of(one_hot_4L: npt.NDArray[np.int8]) -> str:
    """Letters of a one-hot sequence, N where there is none."""
    letters = np.array(list("ACGT"))[one_hot_4L.argmax(axis=0)]
    return "".join(np.where(one_hot_4L.any(axis=0), letters, "N").tolist())
