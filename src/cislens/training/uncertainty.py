"""Intervals of a run's validation metrics, from the blocks that its windows lie in.

Blocks are left out one by one (the jackknife), species by species: what a metric varies by then
says how sure it is. That is what `cislens evaluate` does where blocks are few. The noise of
training is not in these intervals.

Legend: G block.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from scipy import stats

from cislens.nn.gathering import alone
from cislens.objectives.contract import Metrics, Objective
from cislens.training.stream import Place

LEVEL = 0.95
PARTS = 100  # of a species; of more blocks neighbors are left out together
_WHOLE = "pooled"  # vectors that are judged all together: no block has a part of its own in that
_NEAR = 0.1  # of the standard error: so far may a metric be from the value it had in training


def valid_intervals(
    objective: Objective,
    batches: Iterable[tuple[Place, Any]],
    values: Mapping[str, float | None],
    device: torch.device | str,
) -> dict[str, Any]:
    """Intervals of the metrics that do not depend on which windows share a batch.

    Args:
        objective: with the weights that are kept; it is moved to `device`.
        batches: of the validation part, each within one block of one species.
        values: of the metrics, as the run found them; what comes out otherwise block by block has
            no interval.

    Returns:
        Entries of the manifest: `valid_intervals`, [low, high] of the 95 % interval by metric, and
        `valid_blocks`, G of each species.
    """
    parts = _by_block(objective.to(device).eval(), batches, device)
    species: dict[str, list[Metrics]] = {
        name: _joined([parts[place] for place in group])
        for name, group in groupby(sorted(parts), key=lambda place: place[0])
    }
    blocks = {name: sum(place[0] == name for place in parts) for name in species}
    if not parts:
        return {"valid_intervals": {}, "valid_blocks": {}}
    metrics = [each for listed in species.values() for each in listed]
    whole, without = left_out(metrics)
    out: dict[str, list[dict[str, float]]] = {}
    for name, listed in species.items():
        out[name], without = without[: len(listed)], without[len(listed) :]
    bounds: dict[str, list[float]] = {}
    for metric, value in values.items():
        if value is None or metric not in whole:
            continue
        found = {
            name: [each.get(metric, float("nan")) for each in listed]
            for name, listed in out.items()
        }
        reach, error = jackknife(whole[metric], found)
        if abs(whole[metric] - value) <= _NEAR * error and np.isfinite(reach):
            bounds[metric] = [value - reach, value + reach]
    return {"valid_intervals": bounds, "valid_blocks": blocks}


def jackknife(whole: float, without: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Half the width of the 95 % interval, and the standard error; NaN if they cannot be told.

    Each species is a stratum of its own; the degrees of freedom are Satterthwaite's.

    Args:
        whole: the metric of all blocks; without: when each one is left out, by species.
    """
    variances, freedom = [], []
    for values in without.values():
        out_G = np.array(values)
        if np.allclose(out_G, whole, rtol=1e-9, atol=0.0):
            continue  # the metric is not of this species
        if len(out_G) < 2:
            return float("nan"), float("nan")
        variances.append(((out_G - out_G.mean()) ** 2).sum() * (len(out_G) - 1) / len(out_G))
        freedom.append(len(out_G) - 1)
    variance = float(np.sum(variances))
    if not variance > 0:
        return float("nan"), float("nan")
    df = variance**2 / float(np.sum(np.square(variances) / freedom))
    error = variance**0.5
    return float(stats.t(df).ppf((1 + LEVEL) / 2)) * error, error


def left_out(parts: Sequence[Metrics]) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The metrics of all parts together, and those without each of them."""
    before, after = _running(parts), _running(parts[::-1])[::-1]
    whole, without = before[-1].summary(), []
    for at in range(len(parts)):
        if at == 0:
            rest = after[1] if len(parts) > 1 else None
        else:
            rest = copy.deepcopy(before[at - 1])
            if at + 1 < len(parts):
                rest.merge(after[at + 1])
        without.append(dict.fromkeys(whole, float("nan")) if rest is None else rest.summary())
    return whole, without


def _running(parts: Sequence[Metrics]) -> list[Metrics]:
    """The first part, the first two together, and so on."""
    found = [copy.deepcopy(parts[0])]
    for part in parts[1:]:
        found.append(copy.deepcopy(found[-1]))
        found[-1].merge(part)
    return found


def _joined(parts: Sequence[Metrics]) -> list[Metrics]:
    """At most so many parts, each of neighboring blocks."""
    groups = np.array_split(np.arange(len(parts)), min(len(parts), PARTS))
    return [_running([parts[at] for at in group])[-1] for group in groups]


def _by_block(
    objective: Objective, batches: Iterable[tuple[Place, Any]], device: torch.device | str
) -> dict[Place, Metrics]:
    found: dict[Place, Metrics] = {}
    with torch.inference_mode(), alone():
        for place, batch in batches:
            here = batch.to(device)
            seen = {
                name: value
                for name, value in objective.loss(here).predictions.items()
                if not name.endswith(_WHOLE)
            }
            if place not in found:
                found[place] = objective.metrics()
            found[place].update(seen, getattr(here, "targets", None))
    return found
