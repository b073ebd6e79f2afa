"""Validation score of every layer and pooling of an encoder."""

import numpy as np
import polars as pl
from matplotlib.patches import Rectangle

from cislens.report.figures.canvas import Picture, canvas, color, picture, plain, shortened
from cislens.report.words import number

_WIDTH, _ROW, _HEAD, _NAME = 360, 28, 26, 74


def layer_map(rows: pl.DataFrame) -> Picture:
    """A cell per layer and pooling, the stronger the better; the chosen one is framed.

    Args:
        rows: layer, pooling, valid_score, chosen of one arm and task, from input to output.
    """
    layers = rows["layer"].unique(maintain_order=True).to_list()
    poolings = rows["pooling"].unique(maintain_order=True).to_list()
    scores = rows["valid_score"].to_numpy()
    low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
    cell = (_WIDTH - _NAME - 4) / len(poolings)
    height = _HEAD + _ROW * len(layers) + 4
    with canvas(_WIDTH, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _WIDTH), ylim=(height, 0))
        axes.set_axis_off()
        for column, pooling in enumerate(poolings):
            axes.text(_NAME + (column + 0.5) * cell, _HEAD - 8, shortened(pooling, cell - 4),
                      ha="center", fontsize=11.5, color=color("muted"))  # fmt: skip
        for index, layer in enumerate(layers):
            axes.text(0, _HEAD + (index + 0.5) * _ROW, shortened(layer, _NAME - 8), va="center",
                      fontsize=12)  # fmt: skip
        for row in rows.iter_rows(named=True):
            corner = (
                _NAME + poolings.index(row["pooling"]) * cell + 1,
                _HEAD + layers.index(row["layer"]) * _ROW + 1,
            )
            strength = (row["valid_score"] - low) / (high - low) if high > low else 0.5
            axes.add_patch(Rectangle(corner, cell - 2, _ROW - 2, lw=0, fc=color("grid"),
                                     alpha=0.35))  # fmt: skip
            axes.add_patch(Rectangle(corner, cell - 2, _ROW - 2, lw=0, fc=color("heat"),
                                     alpha=strength))  # fmt: skip
            if row["chosen"]:
                axes.add_patch(Rectangle(corner, cell - 2, _ROW - 2, lw=2.5, fill=False,
                                         ec=color("ink")))  # fmt: skip
            axes.text(corner[0] + cell / 2 - 1, corner[1] + _ROW / 2 - 1,
                      number(row["valid_score"]), ha="center", va="center", fontsize=11.5,
                      color=color("on-heat" if strength > 0.6 else "ink"))  # fmt: skip
        best = rows.filter("chosen").row(0, named=True)
        said = (
            f"Validation score of {len(layers)} layers and {len(poolings)} poolings, from "
            f"{number(low)} to {number(high)}; chosen: {best['layer']}, {best['pooling']}, "
            f"{number(best['valid_score'])}."
        )
        return picture(figure, plain(said), rows)
