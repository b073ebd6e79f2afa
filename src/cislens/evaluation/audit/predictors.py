"""Predictors that a shortcut needs no more than: a table of what was seen, or a linear model."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cislens.evaluation.audit.table import AuditTable, Floats
from cislens.evaluation.heads.linear import fit_linear
from cislens.genome.minimizers import Ints
from cislens.randomness import generator

_MOST_FITTED = 20_000
_FEWEST = 10
# Where one class holds more of the rows, accuracy hardly moves and AUROC is judged instead.
ONE_CLASS_RULES = 2 / 3
NOTHING_TO_FIT = "there are too few rows, or labels that do not vary, to fit a predictor on"


def can_fit(table: AuditTable, rows: Sequence[Ints]) -> bool:
    """Whether every part has enough rows, and labels that vary."""
    return all(
        len(part) >= _FEWEST and np.nanmax(table.y_NT[part]) > np.nanmin(table.y_NT[part])
        for part in rows
    )


def targets(table: AuditTable, rows: Ints) -> Floats:
    """One column per class (0 or 1), or the values, of some rows."""
    y = table.y_NT[rows]
    if not table.classes:
        return y
    hot: Floats = (y == np.arange(len(table.classes))).astype(np.float64)
    return hot


def class_shares(table: AuditTable, rows: Ints) -> Floats:
    """The share of every class among some rows; of one class where labels are values."""
    number = table.y_NT[rows, 0].astype(np.int64) if table.classes else np.zeros(1, np.int64)
    counts = np.bincount(number, minlength=max(len(table.classes), 1))
    shares: Floats = counts / counts.sum()
    return shares


def look_up(table: AuditTable, fitted: Ints, scored: Ints, keys: Ints) -> Floats:
    """The mean target of the fitted rows with the same key (n,), else of all of them.

    Every mean takes the overall one in as one more, tiny, row, which decides ties.
    """
    y = targets(table, fitted)
    known = np.isfinite(y)
    overall = np.where(known, y, 0).sum(0) / np.maximum(known.sum(0), 1)
    _values, key = np.unique(keys, return_inverse=True)
    slots = int(key.max()) + 1
    found = np.empty((len(scored), y.shape[1]))
    for column in range(y.shape[1]):
        mine = fitted[known[:, column]]
        total = np.bincount(key[mine], y[known[:, column], column], slots)
        count = np.bincount(key[mine], minlength=slots)
        tie = 1e-6
        mean = (total + tie * overall[column]) / (count + tie)
        found[:, column] = mean[key[scored]]
    return found


def linear(
    table: AuditTable,
    rows: tuple[Ints, Ints, Ints],
    features: npt.ArrayLike,
    seed: int,
) -> tuple[Floats, float]:
    """Scores (scored, C or T) of a logistic or ridge model, and its metric on the chosen part.

    Args:
        rows: to fit on, to choose the penalty on, to score on; at most 20,000 are fitted.
        features: (n, D).
    """
    x = np.asarray(features)
    rng = generator(seed, "audit", "linear")
    fitted, chosen = (rng.permutation(part)[:_MOST_FITTED] for part in rows[:2])
    y, held = table.y_NT[fitted], table.y_NT[chosen]
    # A rank metric would not notice a penalty so strong that every row gets the same class.
    two, even = len(table.classes) == 2, class_shares(table, chosen).max() <= ONE_CLASS_RULES
    if not table.classes:
        head = fit_linear("ridge", x[fitted], y, x[chosen], held, "pearson")
    elif two:
        metric = "mcc" if even else "auroc"
        head = fit_linear("logistic", x[fitted], y, x[chosen], held, metric)
    else:
        metric = "accuracy" if even else "macro_auroc"
        head = fit_linear("softmax", x[fitted], y, x[chosen], held, metric)
    scores = head.scores(x[rows[2]]).astype(np.float64)
    if two:
        scores = np.concatenate([-scores, scores], axis=1)
    return scores, head.valid_metric


def ridge_correlation(
    table: AuditTable, rows: tuple[Ints, Ints, Ints], features: npt.ArrayLike
) -> float:
    """How well ridge predicts the classes or values of the chosen part: the mean correlation.

    Its whole path of penalties costs one rotation, so that features can be compared quickly.
    """
    x = np.asarray(features)
    fitted, chosen, _scored = rows
    y, held = targets(table, fitted), targets(table, chosen)
    return fit_linear("ridge", x[fitted], y, x[chosen], held, "pearson").valid_metric
