"""How the router spreads its tokens over the experts."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.patches import Rectangle

from cislens.report.figures.canvas import Picture, canvas, color, picture, plain, shortened
from cislens.report.inputs import Values
from cislens.report.words import number

_WIDTH, _ROW, _HEAD, _NAME, _RIGHT = 360, 32, 26, 92, 72


def effective_experts(load: Values) -> Values:
    """exp(entropy) of the load over its last axis: E when even, 1 when one expert takes all.

    NaN for a row of zeros.
    """
    share = np.asarray(load, dtype=float)
    with np.errstate(invalid="ignore"):
        share = share / share.sum(-1, keepdims=True)
    logs = np.log(np.where(share == 0, 1.0, share))
    effective: Values = np.exp(-(share * logs).sum(-1))
    return effective


def information(share_RE: Values) -> float:
    """Mutual information in nats of row and expert; rows weigh the same, those of zeros nothing."""
    share = np.asarray(share_RE, dtype=float)
    sums = share.sum(-1, keepdims=True)
    share = share[sums[:, 0] > 0] / sums[sums[:, 0] > 0]
    even = share.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(share > 0, share * np.log(share / even), 0.0)
    return max(0.0, float(parts.sum(-1).mean())) if len(share) else 0.0


def load_map(rows: Sequence[str], load: Values, what: str) -> Picture:
    """Share of the tokens that each expert takes, one row per layer or species.

    Args:
        rows: names of the rows: layers, species or groups of tracks.
        load: (rows, experts), each row summing to 1.
        what: what a row is, for the alt text.
    """
    load = np.asarray(load, dtype=float)
    experts = load.shape[1]
    height = _HEAD + _ROW * len(rows) + 4
    cell = (_WIDTH - _NAME - _RIGHT) / experts
    effective = effective_experts(load)
    with canvas(_WIDTH, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _WIDTH), ylim=(height, 0))
        axes.set_axis_off()
        top_share = max(float(load.max()), 1e-9)
        for column in range(experts):
            if experts <= 16 or column % 4 == 0:
                axes.text(_NAME + (column + 0.5) * cell, _HEAD - 8, str(column + 1), ha="center",
                          fontsize=11.5, color=color("muted"))  # fmt: skip
        axes.text(_WIDTH, _HEAD - 8, "effective", ha="right", fontsize=11.5, color=color("muted"))
        for index, name in enumerate(rows):
            top = _HEAD + index * _ROW
            middle = top + _ROW / 2
            axes.text(0, middle, shortened(name, _NAME - 8, 12.5), va="center", fontsize=12.5)
            for column, share in enumerate(load[index]):
                strength = float(share) / top_share
                place = (_NAME + column * cell + 1, top + 1)
                axes.add_patch(Rectangle(place, cell - 2, _ROW - 2, lw=0, fc=color("grid"),
                                         alpha=0.35))  # fmt: skip
                axes.add_patch(Rectangle(place, cell - 2, _ROW - 2, lw=0, fc=color("heat"),
                                         alpha=strength))  # fmt: skip
                if cell >= 24:
                    axes.text(place[0] + cell / 2 - 1, middle, f"{100 * share:.0f}", ha="center",
                              va="center", fontsize=11.5,
                              color=color("on-heat" if strength > 0.6 else "ink"))  # fmt: skip
            axes.text(_WIDTH, middle, f"{number(effective[index], 1)} of {experts}", ha="right",
                      va="center", fontsize=11.5)  # fmt: skip
        said = "; ".join(f"{name}: {number(value, 1)} effective experts of {experts}"
                         for name, value in zip(rows, effective, strict=True))  # fmt: skip
        data = pl.DataFrame(
            [
                {what: plain(name), "expert": expert, "share": float(share)}
                for name, row in zip(rows, load, strict=True)
                for expert, share in enumerate(row, 1)
            ]
        )
        alt = f"Load per expert in percent, one row per {what}. {said}."
        return picture(figure, plain(alt), data)
