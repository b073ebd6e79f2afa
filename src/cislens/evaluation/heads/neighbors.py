"""Nearest neighbors: what the geometry of a representation tells without a fitted weight.

Shapes: N training examples, M examples to score, D features, K neighbors, T outputs or classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.evaluation.heads.design import require_finite, standardization
from cislens.evaluation.heads.labels import SOLVERS
from cislens.evaluation.metrics import Array, as_columns, metric_draws

NEIGHBORS = (5, 10, 20, 50, 100)
_AT_ONCE = 2**24  # similarities held in memory
_NEAREST = 1e-3  # cosine distances below this are taken for it


@dataclass(frozen=True)
class NeighborHead:
    """Labels of the k training examples with the most similar features (cosine), averaged.

    A neighbor counts by its weight / its distance; one more, at the mean of these, has the mean
    label of all training examples. Scores are log-odds (classes: log shares), or values of the
    target.
    """

    k: int
    valid_metric: float
    solver: str
    mean_D: Array
    scale_D: Array
    unit_ND: npt.NDArray[np.float32]
    y_NT: Array
    weight_N: Array

    @property
    def parameters(self) -> int:
        """None are fitted; the training examples themselves are kept."""
        return 0

    def scores(self, x_ND: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """(M, T) scores."""
        near = _nearest(_unit(np.asarray(x_ND), self.mean_D, self.scale_D), self.unit_ND, self.k)
        return _averaged(*near, self.y_NT, self.weight_N, self.solver)


def fit_neighbors(
    kind: str,
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    x_valid: npt.ArrayLike,
    y_valid: npt.ArrayLike,
    metric: str,
    neighbors: Sequence[int] = NEIGHBORS,
    weights: npt.ArrayLike | None = None,
    classes: int = 0,
) -> NeighborHead:
    """Keep the training examples, choose k on the validation examples.

    Args:
        kind: a kind of task, or a solver, as for `fit_linear`.
        y_train: (N,) or (N, T); 0 or 1, the number of a class, or values. NaN is left out.
        neighbors: values of k; those beyond N are N.
        weights: (N,) of the training examples; all 1 if None.
        classes: how many a multiclass target has, though some may not be among the labels.

    Raises:
        CislensError: for features that are not finite, or an unknown kind.
    """
    if kind not in SOLVERS:
        raise CislensError(f"no neighbors head for {kind!r}; there are {', '.join(SOLVERS)}.")
    x, other = np.asarray(x_train), np.asarray(x_valid)
    require_finite(x, "training features")
    require_finite(other, "validation features")
    solver, y = SOLVERS[kind], as_columns(y_train)
    weight_N = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if solver == "softmax":
        seen = int(max(y.max(), as_columns(y_valid).max())) + 1
        y = np.eye(max(classes, seen))[y[:, 0].astype(int)]
    mean_D, scale_D = standardization(x)
    unit_ND = _unit(x, mean_D, scale_D)
    sizes = sorted({min(k, len(x)) for k in neighbors})
    rows, near = _nearest(_unit(other, mean_D, scale_D), unit_ND, sizes[-1])
    labels, ones = as_columns(y_valid), np.ones((1, len(other)))
    best, chosen = -np.inf, sizes[0]
    for k in sizes:
        scores = _averaged(rows[:, :k], near[:, :k], y, weight_N, solver).astype(np.float64)
        value = float(metric_draws(metric, labels, scores, ones)[0])
        if value > best:
            best, chosen = value, k
    return NeighborHead(chosen, best, solver, mean_D, scale_D, unit_ND, y, weight_N)


def _unit(x_ND: npt.NDArray[np.floating], mean_D: Array, scale_D: Array) -> npt.NDArray[np.float32]:
    standard = (x_ND.astype(np.float32) - mean_D.astype(np.float32)) * scale_D.astype(np.float32)
    norm = np.linalg.norm(standard, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = (standard / np.where(norm > 0, norm, 1)).astype(np.float32)
    return unit


def _nearest(
    unit_MD: npt.NDArray[np.float32], unit_ND: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.int64], Array]:
    """Rows (M, k) of the most similar training examples, nearest first, and their weights."""
    rows = np.empty((len(unit_MD), k), dtype=np.int64)
    similar = np.empty((len(unit_MD), k))
    step = max(1, _AT_ONCE // len(unit_ND))
    for start in range(0, len(unit_MD), step):
        part = slice(start, start + step)
        cosine = unit_MD[part] @ unit_ND.T
        some = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(cosine, some, 1), axis=1, kind="stable")
        rows[part] = np.take_along_axis(some, order, 1)
        similar[part] = np.take_along_axis(cosine, rows[part], 1)
    return rows, 1 / np.maximum(1 - similar, _NEAREST)


def _averaged(
    rows: npt.NDArray[np.int64], near: Array, y_NT: Array, weight_N: Array, solver: str
) -> npt.NDArray[np.float32]:
    """Scores (M, T) from the neighbors' labels."""
    labels, weight = y_NT[rows], near * weight_N[rows]
    counted = np.isfinite(labels) * weight[:, :, None]
    known = np.isfinite(y_NT) * weight_N[:, None]
    usual_T = (known * np.nan_to_num(y_NT)).sum(0) / np.maximum(known.sum(0), 1e-300)
    # Neighbors of no weight leave the mean label.
    usual_weight = np.maximum(weight.mean(1), 1e-300)[:, None]
    total = (counted * np.nan_to_num(labels)).sum(1) + usual_weight * usual_T
    mean = total / (counted.sum(1) + usual_weight)
    if solver != "ridge":
        mean = np.clip(mean, 1e-9, 1 - 1e-9)
        mean = np.log(mean) if solver == "softmax" else np.log(mean / (1 - mean))
    scores: npt.NDArray[np.float32] = mean.astype(np.float32)
    return scores
