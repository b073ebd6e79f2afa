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

from cislens.errors import CislensError
from cislens.evaluation.heads.descent import Problems
from cislens.evaluation.heads.design import Design, affine_scores, require_finite
from cislens.evaluation.heads.labels import SolverLabels
from cislens.evaluation.heads.ridge import ridge_paths
from cislens.evaluation.metrics import Array, as_columns, metric_draws
from cislens.genome.splits import balanced_folds

ALPHAS = np.logspace(6, -4, 25)
_MASKS = 3  # outputs that miss more patterns of labels than this are solved by iteration
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
    classes: int = 0,
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
        classes: how many a multiclass target has, though some may not be among the labels.

    Raises:
        CislensError: for features that are not finite, labels that the kind does not know, or
            training labels of one class only.
    """
    labels = SolverLabels(kind, y_train, y_valid, weights, classes)
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
    labels = SolverLabels(kind, y_train, None, weights)
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


class _Path:
    """Solutions for each penalty, strong to weak; one fit per fold if there are several parts."""

    def __init__(
        self, labels: SolverLabels, design: Design, parts: Sequence[slice], alphas: Array
    ) -> None:
        self.design, self.labels, self.parts = design, labels, parts
        self.alphas = np.sort(np.asarray(alphas, dtype=np.float64))[::-1]
        masks = len(np.unique(labels.w_NT > 0, axis=1).T) if labels.solver == "ridge" else 0
        self.iterative = labels.solver != "ridge" or masks > _MASKS
        if self.iterative:
            self.fits = len(parts) + 1 if len(parts) > 1 else 1
            self.center_T, self.spread_T = labels.unit()
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
            yield self._step(float(alpha), theta, self.fits)

    def finish(self, step: _Step) -> _Step:
        """The last fit alone, iterated to the end."""
        if not self.iterative:
            return _Step(step.alpha, step.weight[-1:], step.bias[-1:])
        problems = self.problems.last(self.problems.count // self.fits)
        bias_T = (step.bias[-1:] - self.center_T) / self.spread_T
        theta = np.concatenate([step.weight[-1] / self.spread_T, bias_T])
        theta = theta.reshape(len(theta), problems.count, theta.shape[1] // problems.count)
        theta = problems.minimize(theta, step.alpha, *_FINE[self.design.dtype])
        return self._step(step.alpha, theta, 1)

    def _step(self, alpha: float, theta: Array, fits: int) -> _Step:
        """Parameters by fit, in the unit of the labels."""
        by_fit = theta.reshape(len(theta), fits, theta[0].size // fits)
        weight = by_fit[:-1].swapaxes(0, 1) * self.spread_T
        return _Step(alpha, weight, by_fit[-1] * self.spread_T + self.center_T)

    def _problems(self) -> Problems:
        """Problems fit by fit, and in a fit output by output (logistic) or one (softmax)."""
        labels, fits = self.labels, self.fits
        w_NGT = np.repeat(labels.w_NT[:, None].astype(self.design.dtype), fits, axis=1)
        for fit, part in enumerate(self.parts[: fits - 1]):
            w_NGT[part, fit] = 0
        w_NP = w_NGT.reshape(len(w_NGT), -1)
        if labels.classes:
            return Problems(self.design, np.eye(labels.classes)[labels.filled.astype(int)], w_NP)
        y_NT = (labels.filled - self.center_T) / self.spread_T
        return Problems(
            self.design, np.tile(y_NT, (1, fits))[:, :, None], w_NP, labels.solver == "ridge"
        )


def _head(solver: str, design: Design, step: _Step, found: float) -> LinearHead:
    weight_DT, bias_T = design.lift(step.weight[-1]), step.bias[-1]
    return LinearHead(solver, step.alpha, found, design.mean_D, design.scale_D, weight_DT, bias_T)


def _best(path: _Path, value: Callable[[_Step], float]) -> tuple[_Step, float]:
    """The step with the best value; of equal ones the first, with the strongest penalty."""
    best: tuple[_Step, float] | None = None
    waited = 0
    for step in path:
        found = value(step)
        if best is None or found > best[1] or np.isfinite(found) > np.isfinite(best[1]):
            best, waited = (step, found), 0
        else:
            waited += 1
        if path.iterative and waited >= _PATIENCE:
            break
    assert best is not None
    return best
