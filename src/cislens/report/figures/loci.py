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

_WIDTH, _TRACK, _NAME, _LANE, _FOOT, _SIDE = 400, 60, 18, 16, 40, 4

# lane, start, end, label, whether the label stands before the bar
_Mark = tuple[int, int, int, str, bool]


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
        for mark in lanes:
            _annotation(axis, *mark)
        axis.xaxis.set_major_formatter(lambda value, _: kilobases(round(value)))
        axis.locator_params(axis="x", nbins=5)
        axis.tick_params(labelsize=11)
        axis.set_xlabel(f"position on {plain(locus.chrom)} (kb)", fontsize=11,
                        color=color("muted"))  # fmt: skip
        said = "; ".join(f"{track.name}: r = {number(correlation(track), 2)}"
                         for track in locus.tracks)  # fmt: skip
        where = f"{locus.chrom}:{locus.start}-{locus.end} ({locus.species})"
        alt = plain(f"Measured and predicted tracks over {where}. {said}.")
        return picture(figure, alt, _table(locus))


def _table(locus: Locus) -> pl.DataFrame:
    """A row per bin and track, coordinates 0-based and half-open."""
    starts = locus.start + locus.bin_size * np.arange(locus.bins)
    return pl.concat(
        pl.DataFrame({"chrom": locus.chrom, "start": starts, "end": starts + locus.bin_size,
                      "track": track.name, "measured": np.asarray(track.measured, dtype=float),
                      "predicted": np.asarray(track.predicted, dtype=float)})
        for track in locus.tracks
    )  # fmt: skip


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
    taken = text_width(r, 12) + text_width(scale, 11) + 36
    name = shortened(track.name, _WIDTH - 2 * _SIDE - taken, 12, bold=True)
    axes.annotate(name, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
                  fontsize=12, fontweight="bold")  # fmt: skip
    axes.annotate(r, (1, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
                  fontsize=12, ha="right")  # fmt: skip
    axes.annotate(scale, (1, 1), (-text_width(r, 12) - 16, 3), xycoords="axes fraction",
                  textcoords="offset points", fontsize=11, ha="right",
                  color=color("muted"))  # fmt: skip


def _filled(values: Values) -> Values:
    filled: Values = np.nan_to_num(np.asarray(values, dtype=float), nan=0.0)
    return filled


def _lanes(locus: Locus, most: int = 3) -> tuple[list[_Mark], int]:
    """What the locus overlaps, packed into lanes so that nothing lies on another."""
    if locus.annotations is None:
        return [], 0
    inside = locus.annotations.filter(
        (pl.col("chrom") == locus.chrom)
        & (pl.col("end") > locus.start)
        & (pl.col("start") < locus.end)
    ).sort("start", "end")
    per_pixel = max(locus.end - locus.start, 1) / (_WIDTH - 2 * _SIDE)
    packed: list[_Mark] = []
    free = [float("-inf")] * most
    for row in inside.iter_rows(named=True):
        start, end = max(row["start"], locus.start), min(row["end"], locus.end)
        arrow = {"+": " \u203a", "-": " \u2039"}.get(str(row.get("strand")), "")
        name = str(row.get("name") or "")
        text = plain(name + arrow) if name not in ("", ".") else ""
        room = round(per_pixel * (text_width(text, 11) + 10)) if text else 0
        # The name stands right of the bar, or left of it at the locus's right edge.
        before = room if end + room > locus.end else 0
        left, reach = start - before, end + (3 * per_pixel if before else room)
        lane = next((lane for lane in range(most) if free[lane] <= left), None)
        if lane is not None:
            free[lane] = reach
            packed.append((lane, start, end, text, bool(before)))
    return packed, max((lane + 1 for lane, *_ in packed), default=0)


def _annotation(axes: Axes, lane: int, start: int, end: int, text: str, before: bool) -> None:
    top = lane * _LANE
    axes.add_patch(Rectangle((start, top + 4), end - start, 6, lw=0, fc=color("muted")))
    if text:
        axes.annotate(text, (start if before else end, top + 7), (-4 if before else 4, 0),
                      textcoords="offset points", fontsize=11, va="center",
                      ha="right" if before else "left", color=color("muted"))  # fmt: skip
