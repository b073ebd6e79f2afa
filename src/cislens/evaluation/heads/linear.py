"""Linear heads with nested regularization: ridge for measured values, logistic for two classes.

Features are standardized on the training examples. The strength of the penalty is chosen by the
task's metric on the validation examples from one path of values, strong to weak. The whole path
is cheap because the features are rotated once to their principal axes: there ridge is a division,
and the logistic problem is so well scaled that a few L-BFGS steps from the neighboring solution
reach the optimum.

Shapes: N examples, D features, K principal axes, T outputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, special

from cislens.evaluation.metrics import Array, as_columns, metric_draws

# Half-decades; features have unit variance, so the strongest leaves only their direction.
ALPHAS = np.logspace(6, -2, 17)
_Path = Iterator[tuple[Array, Array]]  # weights (K, T) and biases (T,) for each alpha
_PATIENCE = 6  # values of alpha without a better validation metric before the path ends


@dataclass(frozen=True)
class LinearHead:
    """A fitted head; scores are logits for `logistic`, values of the target for `ridge`."""

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
        standard = (np.asarray(x_ND, dtype=np.float64) - self.mean_D) * self.scale_D
        return (standard @ self.weight_DT + self.bias_T).astype(np.float32)


def fit_linear(
    kind: str,
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    x_valid: npt.ArrayLike,
    y_valid: npt.ArrayLike,
    metric: str,
    alphas: Array = ALPHAS,
) -> LinearHead:
    """Fit on the training examples, choose alpha on the validation examples.

    Minimizes `sum_i loss_i + alpha / 2 |w|^2` (logistic) or `sum_i residual_i^2 + alpha |w|^2`
    (ridge), the intercept free, as scikit-learn's `LogisticRegression(C=1/alpha)` and
    `Ridge(alpha)` do. Of equal validation metrics the stronger penalty wins.

    Args:
        kind: "ridge" or "logistic"; logistic takes labels 0 and 1.
        x_train: (N, D) features; constant ones get no weight.
        y_train: (N,) or (N, T) labels.
        metric: name of the metric that ranks the penalties.
    """
    x = np.asarray(x_train, dtype=np.float64)
    y, y_valid = as_columns(y_train), as_columns(y_valid)
    mean_D, deviation_D = x.mean(0), x.std(0)
    varies = deviation_D > 1e-7 * np.maximum(1.0, np.abs(mean_D))
    scale_D = np.where(varies, 1 / np.where(varies, deviation_D, 1), 0.0)
    standard = (x - mean_D) * scale_D
    v_DK, e_K = principal_axes(standard)
    z_NK = standard @ v_DK
    z_valid = ((np.asarray(x_valid, dtype=np.float64) - mean_D) * scale_D) @ v_DK
    path = _logistic_path if kind == "logistic" else _ridge_path
    best: tuple[float, float, Array, Array] | None = None
    waited = 0
    ones = np.ones((1, len(y_valid)))
    alphas = np.sort(alphas)[::-1]
    for alpha, (w_KT, bias_T) in zip(alphas, path(z_NK, e_K, y, alphas), strict=False):
        value = float(metric_draws(metric, y_valid, z_valid @ w_KT + bias_T, ones)[0])
        if best is None or value > best[1] or not np.isfinite(best[1]):
            best, waited = (float(alpha), value, w_KT, bias_T), 0
        else:
            waited += 1
        if waited >= _PATIENCE:
            break
    assert best is not None
    alpha, value, w_KT, bias_T = best
    return LinearHead(kind, alpha, value, mean_D, scale_D, v_DK @ w_KT, bias_T)


def principal_axes(x_ND: Array) -> tuple[Array, Array]:
    """Orthonormal axes (D, K) of centered features and the squared singular value of each."""
    examples, features = x_ND.shape
    if features <= examples:
        e, v = linalg.eigh(x_ND.T @ x_ND)
    else:
        e, u = linalg.eigh(x_ND @ x_ND.T)
        v = x_ND.T @ u
    keep = e > max(e[-1], 1e-300) * 1e-10
    v, e = v[:, keep], e[keep]
    return v if features <= examples else v / np.sqrt(e), e


def _ridge_path(z_NK: Array, e_K: Array, y: Array, alphas: Array) -> _Path:
    bias_T = y.mean(0)
    moment_KT = z_NK.T @ (y - bias_T)
    for alpha in alphas:
        yield moment_KT / (e_K + alpha)[:, None], bias_T


def _logistic_path(z_NK: Array, e_K: Array, y: Array, alphas: Array) -> _Path:
    sign = 2 * y[:, 0] - 1
    rate = np.clip(y.mean(), 1e-6, 1 - 1e-6)
    theta = np.append(np.zeros(len(e_K)), special.logit(rate))
    for alpha in alphas:
        # e/4 + alpha bounds the curvature along each axis, n/4 that of the intercept (Bohning and
        # Lindsay 1988, Ann. Inst. Stat. Math. 40:641); dividing by its root evens all axes out.
        scale = 1 / np.sqrt(np.append(e_K / 4 + alpha, len(y) / 4))

        def loss(q: Array, scale: Array = scale, alpha: float = alpha) -> tuple[float, Array]:
            theta = q * scale
            margin = sign * (z_NK @ theta[:-1] + theta[-1])
            slope = -sign * special.expit(-margin)
            value = np.logaddexp(0, -margin).sum() + alpha / 2 * theta[:-1] @ theta[:-1]
            gradient = np.append(z_NK.T @ slope + alpha * theta[:-1], slope.sum())
            return float(value), gradient * scale

        found = optimize.minimize(
            loss, theta / scale, jac=True, method="L-BFGS-B",
            options={"maxiter": 300, "ftol": 1e-12, "gtol": 1e-5},
        )  # fmt: skip
        theta = found.x * scale
        yield theta[:-1, None].copy(), theta[-1:].copy()
