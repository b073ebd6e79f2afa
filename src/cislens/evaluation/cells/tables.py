"""The two tables of an evaluation of cell types.

`cells.parquet`: `part, metric, arm, kind, value, low, high, seeds, pairs, cells, open, blocks`,
a row for each part, metric and arm. `differences.parquet`: `part, metric, arm, baseline,
difference, diff_low, diff_high, se, df, p, p_holm, mde, outcome`; Holm's correction is over all
parts and comparisons of a trained arm and metric, `mde` the difference that would be found with
80 % power.

Dimensions: N pair, G block, B draw.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.evaluation.cells.examples import Pairs
from cislens.evaluation.metrics import Array, check_scores, metric_draws
from cislens.evaluation.multiplicity import ALPHA, holm, minimum_detectable
from cislens.evaluation.statistics import Predictions, Resampled, resample_measure

METRICS = ("auroc", "auprc")
CELL_MEAN, STRONGEST = "cell-mean", "cell-mean+neighbors"
BASELINES = ("composition", "kmers", "motifs", CELL_MEAN, "neighbors", STRONGEST)
KINDS = ("trained", "sequence", "random", "added")  # of `own_arms`

# Of each part, arm by arm, the logits (N, 1) of every seed.
Scores = Mapping[str, Mapping[str, Sequence[npt.NDArray[np.float32]]]]


def own_arms(name: str) -> tuple[str, str, str, str]:
    """A trained arm, its sequence part, its untrained twin, and it beside `STRONGEST`."""
    return name, f"{name}-sequence", f"{name}-random", f"{name}+{STRONGEST}"


def _comparisons(name: str) -> list[tuple[str, str]]:
    """A trained arm against what it should beat, and what it adds to the strongest baseline."""
    _, sequence, random, added = own_arms(name)
    return [(name, random), (name, sequence), (name, STRONGEST), (added, STRONGEST)]


def within_cells(
    scores: Mapping[str, Sequence[npt.NDArray[np.float32]]], pairs: Pairs, metric: str, draws: int,
    seed: int,
) -> Resampled:  # fmt: skip
    """The mean over cell types of a metric over the regions of each, resampled by blocks.

    Cell types have different shares of open regions; over all pairs together an arm could score
    by telling cell types apart without telling regions apart.
    """
    predictions = Predictions(
        tuple(scores),
        np.stack([np.stack(list(each)) for each in scores.values()]),
        pairs.open_N[:, None].astype(np.float64),
        pairs.block_N,
    )
    of_cell = [np.flatnonzero(pairs.cell_N == cell) for cell in pairs.cells]

    def measure(s_NT: Array, w_BG: Array) -> Array:
        check_scores(metric, s_NT)
        values = [
            metric_draws(
                metric, predictions.y_NT[at], s_NT[at], w_BG, block_N=predictions.block_N[at]
            )
            for at in of_cell
        ]
        return np.asarray(np.mean(values, axis=0))

    return resample_measure(predictions, measure, metric, draws, seed)


def make_tables(
    scores: Scores, judged: Mapping[str, Pairs], runs: Mapping[str, int], draws: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Scores and differences; `runs` is the number of runs of each trained arm."""
    kinds = {arm: kind for name in runs for arm, kind in zip(own_arms(name), KINDS, strict=True)}
    seeds = {arm: count for name, count in runs.items() for arm in own_arms(name)}
    values: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for part, pairs in judged.items():
        for metric in METRICS:
            found = within_cells(scores[part], pairs, metric, draws, seed)
            here = {"part": part, "metric": metric}
            for arm in scores[part]:
                value = found.value(arm)
                values.append(
                    {
                        **here, "arm": arm, "kind": kinds.get(arm, "baseline"),
                        "value": value.point, "low": value.low, "high": value.high,
                        "seeds": seeds.get(arm, 1), "pairs": len(pairs),
                        "cells": len(pairs.cells), "open": pairs.open, "blocks": found.blocks,
                    }
                )  # fmt: skip
            for name, (arm, baseline) in ((n, pair) for n in runs for pair in _comparisons(n)):
                gap = found.difference(arm, baseline)
                differences.append({**here, "of": name, "arm": arm, "baseline": baseline,
                                    "difference": gap.point, "diff_low": gap.low,
                                    "diff_high": gap.high, "se": gap.se, "df": float(gap.df),
                                    "p": gap.p})  # fmt: skip
    # A p-value has a least value, that of the number of draws: over all arms and both metrics
    # together, nothing could be found with many arms.
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in differences:
        families.setdefault((row.pop("of"), row["metric"]), []).append(row)
    for family in families.values():
        adjusted = holm([row["p"] for row in family]).tolist()
        for row, p in zip(family, adjusted, strict=True):
            row["p_holm"] = p
            row["mde"] = minimum_detectable(row["se"], len(family), row["df"])
            row["outcome"] = _outcome(row)
    return pl.DataFrame(values), pl.DataFrame(differences)


def _outcome(row: Mapping[str, Any]) -> str:
    """gain, loss or none: clear of zero after Holm's correction."""
    if row["p_holm"] >= ALPHA or row["diff_low"] <= 0 <= row["diff_high"]:
        return "none"
    return "gain" if row["difference"] > 0 else "loss"
