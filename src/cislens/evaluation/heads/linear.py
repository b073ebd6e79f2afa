"""Linear heads with nested regularization: ridge, logistic and softmax regression.

Features are standardized on the training examples. The strength of the penalty is chosen by the
task's metric, on validation examples or on folds of blocks, from one path of values, strong to
weak. Labels that were not measured (NaN) are left out, output by output.

Shapes: N examples, D features, T outputs or classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError, nearest
from cislens.evaluation.heads.design import Design, affine_scores, require_finite
from cislens.evaluation.heads.logistic import Problems
from cislens.evaluation.heads.ridge import ridge_paths
from cislens.evaluation.metrics import Array, as_columns, metric_draws
from cislens.genome.splits import balanced_folds

ALPHAS = np.logspace(6, -4, 25)
# The solver of each kind of task. A variant or attribution task names its solver, because its
# labels may be classes or values.
SOLVERS = {
    "binary": "logistic",
    "multilabel": "logistic",
    "multiclass": "softmax",
    "regression": "ridge",
    "multi_regression": "ridge",
    "splicing": "ridge",
    "logistic": "logistic",
    "softmax": "softmax",
    "ridge": "ridge",
}
_PATIENCE = 6  # values of alpha without a better metric before an iterative path ends
# Loss per example that may be left, and steps: along the path, and at its end.
_ROUGH, _FINE = (1e-7, 100), {np.float64: (1e-13, 1000), np.float32: (1e-9, 200)}


@dataclass(frozen=True)
class LinearHead:
    """A fitted head; scores are logits for labels that are classes, else values of the target.

    Attributes:
        kind: of the solver: ridge, logistic or softmax.
        valid_metric: on validation, or its mean over the folds.
    """

    kind: str
    alpha: float
    valid_metric: float
    mean_D: Array
    scale_D: Array
    weight_DT: Array
    bias_T: Array

    @property
    def parameters(self) -> int:
        return self.weight_DT.size + self.bias_T.size

    def scores(self, x_ND: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """(N, T) scores."""
        weight_DT = self.scale_D[:, None] * self.weight_DT
        return affine_scores(x_ND, self.mean_D, weight_DT, self.bias_T)


@dataclass(frozen=True)
class _Step:
    """Solutions at one penalty: weights (G, K, T) of the coordinates, biases (G, T)."""

    alpha: float
    weight: Array
    bias: Array


def fit_linear(
    kind: str,
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    x_valid: npt.ArrayLike,
    y_valid: npt.ArrayLike,
    metric: str,
    weights: npt.ArrayLike | None = None,
    alphas: Array = ALPHAS,
) -> LinearHead:
    """Fit on the training examples, choose alpha on the validation examples.

    Minimizes `sum_i w_i loss_i + alpha / 2 |weights|^2` (logistic, softmax) or
    `sum_i w_i residual_i^2 + alpha |weights|^2` (ridge), the intercept free, as scikit-learn's
    `LogisticRegression(C=1/alpha)` and `Ridge(alpha)` do. Of equal validation metrics the stronger
    penalty wins.

    Args:
        kind: a kind of task, or the solver itself ("ridge", "logistic", "softmax").
        x_train: (N, D) features; constant ones get no weight.
        y_train: (N,) or (N, T); 0 or 1, the number of a class, or values. NaN is left out.
        metric: name of the metric that ranks the penalties.
        weights: (N,) of the training examples; all 1 if None.

    Raises:
        CislensError: for features that are not finite, labels that the kind does not know, or
            training labels of one class only.
    """
    labels = _Labels(kind, y_train, y_valid, weights)
    design = Design(x_train)
    labels.require(design.examples)
    x_valid, y_valid = np.asarray(x_valid), as_columns(y_valid)
    require_finite(x_valid, "validation features")
    path = _Path(labels, design, [slice(0, design.examples)], alphas)
    z_valid, ones = design.coordinates_of(x_valid), np.ones((1, len(y_valid)))

    def value(step: _Step) -> float:
        scores = z_valid @ step.weight[-1] + step.bias[-1]
        return float(metric_draws(metric, y_valid, scores, ones)[0])

    step = path.finish(_best(path, value)[0])
    return _head(labels.solver, design, step, value(step))


def fit_linear_cv(
    kind: str,
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    blocks: Sequence[object] | npt.NDArray[np.generic],
    metric: str,
    folds: int = 5,
    weights: npt.ArrayLike | None = None,
    alphas: Array = ALPHAS,
) -> LinearHead:
    """As `fit_linear`, alpha chosen by the mean of the metric over folds of whole blocks.

    Features are standardized once, on all training examples, which needs no labels.

    Args:
        blocks: (N,) block of each example; a block is never on both sides of a fold.

    Raises:
        CislensError: also if there are fewer blocks than folds.
    """
    labels = _Labels(kind, y_train, None, weights)
    labels.require(len(np.asarray(x_train)))
    fold_N = fold_of_blocks(blocks, folds, labels.strata)
    order_N = np.argsort(fold_N, kind="stable")
    design, labels = Design(x_train, order_N), labels.take(order_N)
    bounds = np.searchsorted(fold_N[order_N], np.arange(folds + 1))
    parts = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
    path = _Path(labels, design, parts, alphas)

    def value(step: _Step) -> float:
        values = []
        for fit, part in enumerate(parts):
            scores = design.times(step.weight[fit], part) + step.bias[fit]
            ones = np.ones((1, len(scores)))
            values.append(metric_draws(metric, labels.y[part], scores.astype(np.float64), ones)[0])
        defined = np.isfinite(values)
        return float(np.mean(np.array(values)[defined])) if defined.any() else float("nan")

    step, found = _best(path, value)
    return _head(labels.solver, design, path.finish(step), found)


def fold_of_blocks(
    blocks: Sequence[object] | npt.NDArray[np.generic],
    folds: int,
    strata: npt.NDArray[np.generic] | None = None,
) -> npt.NDArray[np.int64]:
    """Fold 0 .. `folds` - 1 of each example: whole blocks, balanced in size and strata."""
    _, block_N = np.unique(np.asarray(blocks), return_inverse=True)
    if folds < 2 or block_N.max() + 1 < folds:
        raise CislensError(
            f"{folds} folds of whole blocks were asked for and there are {block_N.max() + 1} "
            "blocks; ask for 2 folds or more, and not for more than there are blocks."
        )
    named = balanced_folds(block_N, {str(i): 1 / folds for i in range(folds)}, 0, strata)
    return named.astype(np.int64)


class _Labels:
    """Labels as the solver wants them: finite, with weight 0 where they were missing."""

    def __init__(
        self,
        kind: str,
        y: npt.ArrayLike,
        other: npt.ArrayLike | None,
        weights: npt.ArrayLike | None,
    ) -> None:
        if kind not in SOLVERS:
            raise CislensError(f"no linear head for {kind!r}. {nearest(kind, SOLVERS)}")
        self.solver = SOLVERS[kind]
        self.y = as_columns(y)
        observed = np.isfinite(self.y)
        weight_N = np.ones(len(self.y)) if weights is None else np.asarray(weights, np.float64)
        if (
            weight_N.shape != (len(self.y),)
            or not np.isfinite(weight_N).all()
            or weight_N.min() < 0
        ):
            raise CislensError(
                f"weights of examples must be {len(self.y)} finite numbers, none below 0."
            )
        self.w_NT = observed * weight_N[:, None]
        self.filled = np.where(observed, self.y, 0.0)
        seen = self.filled if other is None else np.append(self.filled, np.nan_to_num(other))
        self.classes = int(seen.max()) + 1 if self.solver == "softmax" else 0

    def require(self, examples: int) -> None:
        """Refuse labels that are not one row per example, or not of this kind, or of one class."""
        if len(self.y) != examples:
            raise CislensError(f"{examples} examples have {len(self.y)} rows of labels.")
        if self.solver == "ridge":
            return
        taken = self.filled[self.w_NT > 0]
        known = np.arange(max(2, self.classes))
        if not np.isin(taken, known).all() or (self.classes and self.y.shape[1] > 1):
            wanted = "one column of class numbers from 0" if self.classes else "0 or 1"
            raise CislensError(
                f"labels of a {self.solver} head are {wanted}; found "
                f"{np.unique(taken)[:5].tolist()} in {self.y.shape[1]} column(s)."
            )
        if len(np.unique(taken)) < 2:
            raise CislensError(
                f"all {len(taken)} training labels are of one class; a {self.solver} head needs "
                "examples of at least two."
            )

    @property
    def strata(self) -> npt.NDArray[np.generic] | None:
        """Labels to balance folds by: classes of a single output."""
        return self.filled[:, 0] if self.solver != "ridge" and self.y.shape[1] == 1 else None

    def take(self, order_N: npt.NDArray[np.integer]) -> "_Labels":
        self.y, self.w_NT, self.filled = (a[order_N] for a in (self.y, self.w_NT, self.filled))
        return self


class _Path:
    """Solutions for each penalty, strong to weak; one fit per fold if there are several parts."""

    def __init__(
        self, labels: _Labels, design: Design, parts: Sequence[slice], alphas: Array
    ) -> None:
        self.design, self.labels, self.parts = design, labels, parts
        self.alphas = np.sort(np.asarray(alphas, dtype=np.float64))[::-1]
        self.iterative = labels.solver != "ridge"
        if self.iterative:
            self.fits = len(parts) + 1 if len(parts) > 1 else 1
            self.problems = self._problems()

    def __iter__(self) -> Iterator[_Step]:
        labels = self.labels
        if not self.iterative:
            weight, bias = ridge_paths(
                self.design, labels.filled, labels.w_NT, self.parts, self.alphas
            )
            for a, alpha in enumerate(self.alphas):
                yield _Step(float(alpha), weight[:, a], bias[:, a])
            return
        theta = self.problems.start()
        for alpha in self.alphas:
            theta = self.problems.minimize(theta, float(alpha), *_ROUGH)
            by_fit = theta.reshape(len(theta), self.fits, -1)
            yield _Step(float(alpha), by_fit[:-1].swapaxes(0, 1), by_fit[-1])

    def finish(self, step: _Step) -> _Step:
        """The last fit alone, iterated to the end."""
        if not self.iterative:
            return _Step(step.alpha, step.weight[-1:], step.bias[-1:])
        problems = self.problems.last(self.problems.count // self.fits)
        theta = np.concatenate([step.weight[-1], step.bias[-1:]])
        theta = theta.reshape(len(theta), problems.count, -1)
        theta = problems.minimize(theta, step.alpha, *_FINE[self.design.dtype])
        theta = theta.reshape(1, len(theta), -1)
        return _Step(step.alpha, theta[:, :-1], theta[:, -1])

    def _problems(self) -> Problems:
        """Problems fit by fit, and in a fit output by output (logistic) or one (softmax)."""
        labels, fits = self.labels, self.fits
        w_NGT = np.repeat(labels.w_NT[:, None].astype(self.design.dtype), fits, axis=1)
        for fit, part in enumerate(self.parts[: fits - 1]):
            w_NGT[part, fit] = 0
        w_NP = w_NGT.reshape(len(w_NGT), -1)
        if labels.classes:
            return Problems(self.design, np.eye(labels.classes)[labels.filled.astype(int)], w_NP)
        return Problems(self.design, np.tile(labels.filled, (1, fits))[:, :, None], w_NP)


def _head(solver: str, design: Design, step: _Step, found: float) -> LinearHead:
    weight_DT, bias_T = design.lift(step.weight[-1]), step.bias[-1]
    return LinearHead(solver, step.alpha, found, design.mean_D, design.scale_D, weight_DT, bias_T)


def _best(path: _Path, value: Callable[[_Step], float]) -> tuple[_Step, float]:
    """The step with the best value; of equal ones the first, with the strongest penalty."""
    best: tuple[_Step, float] | None = None
    waited = 0
    for step in path:
        found = value(step)
        if best is None or found > best[1] or not np.isfinite(best[1]):
            best, waited = (step, found), 0
        else:
            waited += 1
        if path.iterative and waited >= _PATIENCE:
            break
    assert best is not None
    return best
