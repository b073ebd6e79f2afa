"""Labels told by length, GC content, N and case, or strand alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cislens.evaluation.audit.predictors import NOTHING_TO_FIT, can_fit, linear, look_up
from cislens.evaluation.audit.report import Check, by_class, skipped
from cislens.evaluation.audit.scoring import Score, score, scored_check
from cislens.evaluation.audit.table import AuditTable, Floats
from cislens.genome.minimizers import Ints

_NAMES = ("length only", "GC only", "N and case only", "strand only")
_MEASURE = "accuracy or correlation on the judged rows"
# Below this length every length is its own bin.
_EXACT_BELOW = 60
_GC_STEP, _CASE_STEP = 0.02, 0.05


@dataclass(frozen=True)
class Shortcut:
    """What a predictor may use: keys of look-up tables (n,), and features (n, D) or None."""

    name: str
    tables: Sequence[tuple[str, Ints]]
    features: Floats | None
    why: str = ""


def shortcut_checks(table: AuditTable, seed: int) -> list[Check]:
    """The best of look-up table and linear model on each shortcut."""
    rows = table.fitting(seed)
    found = []
    for name, made in zip(_NAMES, (_length, _gc, _case, _strand), strict=True):
        shortcut = made(table)
        if isinstance(shortcut, str):
            found.append(skipped(name, "shortcut", _MEASURE, shortcut))
        elif not can_fit(table, rows):
            found.append(skipped(name, "shortcut", _MEASURE, NOTHING_TO_FIT))
        else:
            found.append(_check(table, rows, shortcut, seed))
    return found


def length_bins(lengths: Ints) -> Ints:
    """Bins of an eighth of an octave, `round(8 log2 L)`; below 60 bp every length its own."""
    eighths = np.round(8 * np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return np.where(lengths < _EXACT_BELOW, -1 - lengths, eighths)


def _check(
    table: AuditTable, rows: tuple[Ints, Ints, Ints], shortcut: Shortcut, seed: int
) -> Check:
    fitted = np.concatenate(rows[:2])  # a table has nothing to choose
    if table.judged:
        fitted = table.of("train")
    predicted = {name: look_up(table, fitted, rows[2], keys) for name, keys in shortcut.tables}
    if shortcut.features is not None:
        model = "logistic" if table.classes else "ridge"
        predicted[model] = linear(table, rows, shortcut.features, seed)[0]
    scores: dict[str, Score] = {
        name: score(table, rows[2], values, seed) for name, values in predicted.items()
    }
    best = max(scores, key=lambda name: scores[name].value)
    right = np.zeros(len(table))
    if table.classes:
        right[rows[2]] = predicted[best].argmax(1) == table.y_NT[rows[2], 0]
    return scored_check(
        shortcut.name, "shortcut", scores[best], why=shortcut.why,
        classes=by_class(table, right, rows[2]),
        detail={"best predictor": best, **{name: each.value for name, each in scores.items()}},
    )  # fmt: skip


def _length(table: AuditTable) -> Shortcut | str:
    lengths = table.lengths
    if lengths is None:
        return "the table has no sequences and no intervals"
    if np.ptp(lengths) == 0:
        return f"every row has {lengths[0]} bp"
    features = np.stack([lengths, np.log(np.maximum(lengths, 1))], 1).astype(np.float64)
    tables = [("table of exact lengths", lengths), ("table of 1/8 octaves", length_bins(lengths))]
    return Shortcut("length only", tables, features)


def _gc(table: AuditTable) -> Shortcut | str:
    counts = table.base_counts
    if counts is None:
        return "the table has no sequences (give --genome to look them up)"
    gc = counts[:, 1:3].sum(1) / np.maximum(counts[:, :4].sum(1), 1)
    features = np.stack([gc, (gc - 0.5) ** 2], 1)
    bins = np.floor(gc / _GC_STEP + 1e-9).astype(np.int64)
    return Shortcut("GC only", [(f"table of steps of {_GC_STEP}", bins)], features)


def _case(table: AuditTable) -> Shortcut | str:
    counts = table.base_counts
    if counts is None:
        return "the table has no sequences (give --genome to look them up)"
    uncalled = counts[:, 4] / np.maximum(counts.sum(1), 1)
    soft = np.zeros(len(table)) if table.soft is None else table.soft
    if not uncalled.any() and not soft.any():
        return "there is no N and no lower case"
    features = np.stack([uncalled, soft, uncalled > 0, soft > 0], 1).astype(np.float64)
    steps = np.ceil(features[:, :2] / _CASE_STEP - 1e-9).astype(np.int64)
    keys = steps[:, 0] * 1000 + steps[:, 1]
    return Shortcut("N and case only", [(f"table of steps of {_CASE_STEP}", keys)], features)


def _strand(table: AuditTable) -> Shortcut | str:
    if table.strand is None:
        return "the table has no strand"
    keys = np.unique(table.strand, return_inverse=True)[1]
    if keys.max() == 0:
        return f"every row has strand {table.strand[0]!r}"
    return Shortcut("strand only", [("table of strands", keys)], None)
