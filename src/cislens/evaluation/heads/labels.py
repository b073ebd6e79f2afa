"""Labels of a kind of task as the solver of its linear head takes them.

Shapes: N examples, T outputs.
"""

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError, nearest
from cislens.evaluation.metrics import Array, as_columns

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


class SolverLabels:
    """Labels as the solver wants them: finite, with weight 0 where they were missing.

    Attributes:
        solver: logistic, softmax or ridge.
        y: (N, T) as given.
        filled: (N, T) with 0 for what is missing.
        w_NT: weights, 0 for what is missing.
        classes: their number for softmax, at least that of all labels that are given, else 0.
    """

    def __init__(
        self,
        kind: str,
        y: npt.ArrayLike,
        other: npt.ArrayLike | None,
        weights: npt.ArrayLike | None,
        classes: int = 0,
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
        self.classes = max(classes, int(seen.max()) + 1) if self.solver == "softmax" else 0

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

    def unit(self) -> tuple[Array, Array]:
        """Mean and standard deviation of the values of each output; 0 and 1 for classes."""
        if self.solver != "ridge":
            return np.zeros(1), np.ones(1)
        total_T = np.maximum(self.w_NT.sum(0), 1e-300)
        mean_T = (self.w_NT * self.filled).sum(0) / total_T
        spread_T = np.sqrt((self.w_NT * (self.filled - mean_T) ** 2).sum(0) / total_T)
        return mean_T, np.where(spread_T > 0, spread_T, 1.0)

    def take(self, order_N: npt.NDArray[np.integer]) -> "SolverLabels":
        """Bring the examples into another order."""
        self.y, self.w_NT, self.filled = (a[order_N] for a in (self.y, self.w_NT, self.filled))
        return self
