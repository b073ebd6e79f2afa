"""Curves of a training run: one quantity per panel, training thin, validation bold."""

from collections.abc import Mapping
from itertools import pairwise

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
    text_width,
)
from cislens.report.words import number

_WIDTH, _HEIGHT, _LINE = 360, 226, 15
_LEFT, _TOP, _FOOT = 46, 10, 42


def curve(rows: pl.DataFrame, metric: str, limits: Mapping[str, float] | None = None) -> Picture:
    """One metric against the step; a line per split and species.

    Args:
        rows: step, split, species (null: all of them together), value.
        metric: its name, for the alt text.
        limits: values by name, each a dotted level line across the panel.
    """
    limits = limits or {}
    rows = rows.filter(pl.col("value").is_finite()).sort("step", maintain_order=True)
    groups = rows.partition_by("species", "split", maintain_order=True, as_dict=True)
    species = sorted({str(name) for name, _ in groups if name is not None})
    ends, said = [], []
    labels = {key: _label(*key) for key in groups}
    margin = min(
        130.0, 14 + max((text_width(text, 11.5, bold=True) for text in labels.values()), default=0)
    )
    with canvas(_WIDTH, _HEIGHT) as figure:
        wide, high = _WIDTH - _LEFT - margin, _HEIGHT - _TOP - _FOOT
        axes = figure.add_axes((_LEFT / _WIDTH, _FOOT / _HEIGHT, wide / _WIDTH, high / _HEIGHT))
        for key, group in sorted(groups.items(), key=lambda item: (item[0][1], str(item[0][0]))):
            name, split = key
            tone = color(SERIES[species.index(str(name)) % len(SERIES)] if name else "series-1")
            valid = split == "valid"
            step, value = group["step"].to_numpy(), group["value"].to_numpy()
            axes.plot(step, value, color=tone, lw=2.2 if valid else 1.2,
                      alpha=1 if valid else 0.55, ls="-" if valid else (0, (3, 1.5)),
                      marker="o" if valid and len(step) < 25 else "", ms=4)  # fmt: skip
            ends.append((float(value[-1]), labels[key], tone, valid))
            said.append(f"{labels[key]} ends at {number(float(value[-1]))}")
        for index, (name, limit) in enumerate(limits.items()):
            axes.axhline(limit, color=color("random"), lw=1.4, ls=(0, (1.5, 2)))
            axes.annotate(
                name, (0.35 * index, limit), (3, 3), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", fontsize=10.5, color=color("random"),
            )  # fmt: skip
            said.append(f"{name} at {number(limit)}")
        axes.grid(axis="y", color=color("grid"), lw=0.8)
        axes.tick_params(labelsize=11.5)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.set_xlabel("training step", fontsize=11.5, color=color("muted"))
        low, top = axes.get_ylim()
        for (_, text, tone, valid), place in zip(ends, _spread(ends, low, top, high), strict=True):
            axes.annotate(
                shortened(text, margin - 12, 11.5, valid), (1, place), (8, 0), fontsize=11.5,
                color=tone, xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                va="center", fontweight="bold" if valid else "normal", annotation_clip=False,
            )  # fmt: skip
        return picture(
            figure, plain(f"{metric} against the training step. {'; '.join(said)}."), rows
        )


def _label(species: object, split: object) -> str:
    return f"{species} {split}" if species is not None else str(split)


def _spread(
    ends: list[tuple[float, str, str, bool]], low: float, top: float, pixels: float
) -> list[float]:
    """Heights of the line labels: at the line's end, pushed apart until none overlap."""
    gap = _LINE * (top - low) / pixels
    order = np.argsort([end[0] for end in ends], kind="stable")
    places = np.clip([end[0] for end in ends], low, top)
    for before, after in pairwise(order):
        places[after] = max(places[after], places[before] + gap)
    if len(order) and places[order[-1]] > top:
        places[order[-1]] = top
        for after, before in pairwise(order[::-1]):
            places[before] = min(places[before], places[after] - gap)
    return [float(place) for place in places]
