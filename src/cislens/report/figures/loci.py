"""Measured against predicted tracks over one locus."""

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
from cislens.report.inputs import Locus, LocusTrack, Values
from cislens.report.words import kilobases, number

_WIDTH, _TRACK, _NAME, _LANE, _FOOT, _SIDE = 480, 66, 17, 15, 38, 10


def correlation(track: LocusTrack) -> float:
    """Pearson r over the locus's bins; NaN where one side is constant."""
    measured, predicted = (np.asarray(v, dtype=float) for v in (track.measured, track.predicted))
    known = np.isfinite(measured) & np.isfinite(predicted)
    measured, predicted = measured[known], predicted[known]
    if len(measured) < 2 or np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    return float(np.corrcoef(measured, predicted)[0, 1])


def locus_panel(locus: Locus) -> Picture:
    """Tracks stacked, each with the measured signal upwards and the prediction mirrored below.

    Both halves of a track share one scale, whose top is printed.
    """
    lanes, rows = _lanes(locus)
    notes = _LANE * rows + 8 if rows else 0
    height = len(locus.tracks) * (_TRACK + _NAME) + notes + _FOOT
    with canvas(_WIDTH, height) as figure:
        inner = 1 - 2 * _SIDE / _WIDTH
        for index, track in enumerate(locus.tracks):
            base = height - (index + 1) * (_TRACK + _NAME)
            axes = figure.add_axes((_SIDE / _WIDTH, base / height, inner, _TRACK / height))
            _mirrored(axes, locus, track)
        axis = figure.add_axes((_SIDE / _WIDTH, _FOOT / height, inner, max(notes, 1) / height))
        axis.set(xlim=(locus.start, locus.end), ylim=(_LANE * max(rows, 1), 0), yticks=[])
        for lane, start, end, text in lanes:
            _annotation(axis, lane, start, end, text)
        axis.xaxis.set_major_formatter(lambda value, _: kilobases(round(value)))
        axis.locator_params(axis="x", nbins=5)
        axis.tick_params(labelsize=10.5)
        axis.set_xlabel(f"position on {plain(locus.chrom)} (kb)", fontsize=10.5,
                        color=color("muted"))  # fmt: skip
        said = "; ".join(f"{track.name}: r = {number(correlation(track), 2)}"
                         for track in locus.tracks)  # fmt: skip
        where = f"{locus.chrom}:{locus.start}-{locus.end} ({locus.species})"
        return picture(figure, plain(f"Measured and predicted tracks over {where}. {said}."))


def _mirrored(axes: Axes, locus: Locus, track: LocusTrack) -> None:
    edges = locus.start + locus.bin_size * np.arange(locus.bins + 1)
    measured, predicted = (_filled(values) for values in (track.measured, track.predicted))
    top = max(float(measured.max(initial=0)), float(predicted.max(initial=0)), 1e-9)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(-1.04 * top, 1.04 * top), xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    for values, role in ((measured, "measured"), (-predicted, "predicted")):
        axes.stairs(values, edges, fill=True, color=color(role), lw=0)
    axes.axhline(0, color=color("muted"), lw=0.8)
    r = f"r = {number(correlation(track), 2)}"
    scale = f"0\u2013{top:.3g} {plain(track.unit)}"
    taken = text_width(r, 11.5) + text_width(scale, 10.5) + 36
    name = shortened(track.name, _WIDTH - 2 * _SIDE - taken, 11.5)
    axes.annotate(name, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
                  fontsize=11.5, fontweight="bold")  # fmt: skip
    axes.annotate(r, (1, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
                  fontsize=11.5, ha="right")  # fmt: skip
    axes.annotate(scale, (1, 1), (-text_width(r, 11.5) - 16, 3), xycoords="axes fraction",
                  textcoords="offset points", fontsize=10.5, ha="right",
                  color=color("muted"))  # fmt: skip


def _filled(values: Values) -> Values:
    filled: Values = np.nan_to_num(np.asarray(values, dtype=float), nan=0.0)
    return filled


def _lanes(locus: Locus, most: int = 3) -> tuple[list[tuple[int, int, int, str]], int]:
    """(lane, start, end, label) of what the locus overlaps, packed without overlaps."""
    if locus.annotations is None:
        return [], 0
    inside = locus.annotations.filter(
        (pl.col("chrom") == locus.chrom)
        & (pl.col("end") > locus.start)
        & (pl.col("start") < locus.end)
    ).sort("start", "end")
    per_pixel = max(locus.end - locus.start, 1) / (_WIDTH - 2 * _SIDE)
    packed: list[tuple[int, int, int, str]] = []
    free = [float("-inf")] * most
    for row in inside.iter_rows(named=True):
        start, end = max(row["start"], locus.start), min(row["end"], locus.end)
        arrow = {"+": " \u203a", "-": " \u2039"}.get(str(row.get("strand")), "")
        name = str(row.get("name") or "")
        text = plain(name + arrow) if name not in ("", ".") else ""
        reach = end + per_pixel * (text_width(text, 10) + 10 if text else 3)
        if reach > locus.end and text:
            text, reach = "", end + 3 * per_pixel
        lane = next((lane for lane in range(most) if free[lane] <= start), None)
        if lane is not None:
            free[lane] = reach
            packed.append((lane, start, end, text))
    return packed, max((lane + 1 for lane, *_ in packed), default=0)


def _annotation(axes: Axes, lane: int, start: int, end: int, text: str) -> None:
    top = lane * _LANE
    axes.add_patch(Rectangle((start, top + 4), end - start, 6, lw=0, fc=color("muted")))
    if text:
        axes.annotate(text, (end, top + 7), (4, 0), textcoords="offset points", fontsize=10,
                      va="center", color=color("muted"))  # fmt: skip
