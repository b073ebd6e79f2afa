"""Ridge regression for all penalties at once: one eigendecomposition, then a division for each.

Sums over examples are kept per fold, so that the sums of a training part are those of all
examples less those of the fold that is held out. Outputs that miss the same labels share a Gram
matrix; what an output misses is left out of it.

Shapes: N examples, K coordinates, T outputs, G fits, A penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from cislens.evaluation.heads.design import Design
from cislens.evaluation.metrics import Array


@dataclass
class _Sums:
    """Weighted sums over some examples."""

    weight: float
    x_K: Array
    y_T: Array
    xx_KK: Array
    xy_KT: Array

    def less(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.weight - other.weight, self.x_K - other.x_K, self.y_T - other.y_T,
            self.xx_KK - other.xx_KK, self.xy_KT - other.xy_KT,
        )  # fmt: skip

    def add(self, other: "_Sums") -> None:
        self.weight += other.weight
        self.x_K += other.x_K
        self.y_T += other.y_T
        self.xx_KK += other.xx_KK
        self.xy_KT += other.xy_KT


def ridge_paths(
    design: Design, y_NT: Array, w_NT: Array, parts: Sequence[slice], alphas: Array
) -> tuple[Array, Array]:
    """Weights (G, A, K, T) and biases (G, A, T): minima of `sum w residual^2 + alpha |weight|^2`.

    Args:
        y_NT: finite values; what is missing has weight 0.
        parts: the folds, if there is more than one: fit g leaves out fold g, the last fit nothing.
    """
    folds = len(parts) if len(parts) > 1 else 0
    weight = np.zeros((folds + 1, len(alphas), design.coordinates, y_NT.shape[1]))
    bias = np.zeros((folds + 1, len(alphas), y_NT.shape[1]))
    _, group_T = np.unique(w_NT, axis=1, return_inverse=True)
    for group in range(int(group_T.max()) + 1):
        columns = np.flatnonzero(group_T == group)
        w_N, y = w_NT[:, columns[0]], y_NT[:, columns]
        center = (w_N @ y) / max(w_N.sum(), 1e-300)
        if not folds and (w_N == 1).all():
            weight[0][:, :, columns] = _divided(
                *design.axes(), design.transposed_times(y - center), alphas
            )
            bias[0][:, columns] = center
            continue
        sums = [_sums(design, y - center, w_N, part) for part in parts]
        whole = sums[0] if not folds else _sum(sums)
        for fit in range(folds + 1):
            taken = whole.less(sums[fit]) if fit < folds else whole
            weight[fit][:, :, columns], bias[fit][:, columns] = _solve(taken, alphas)
        bias[:, :, columns] += center
    return weight, bias


def _sums(design: Design, y_NT: Array, w_N: Array, part: slice) -> _Sums:
    k, outputs = design.coordinates, y_NT.shape[1]
    total = _Sums(0.0, np.zeros(k), np.zeros(outputs), np.zeros((k, k)), np.zeros((k, outputs)))
    for rows, block in design.blocks(part):
        taken = w_N[rows] > 0
        root = np.sqrt(w_N[rows])[taken, None]
        x = (block if taken.all() else block[taken]).astype(np.float64)
        if (root != 1).any():
            x *= root
        y = y_NT[rows][taken] * root
        weight = float((root**2).sum())
        total.add(_Sums(weight, root[:, 0] @ x, root[:, 0] @ y, x.T @ x, x.T @ y))
    return total


def _sum(parts: list[_Sums]) -> _Sums:
    first = parts[0]
    total = _Sums(
        first.weight, first.x_K.copy(), first.y_T.copy(), first.xx_KK.copy(), first.xy_KT.copy()
    )
    for part in parts[1:]:
        total.add(part)
    return total


def _solve(sums: _Sums, alphas: Array) -> tuple[Array, Array]:
    if sums.weight <= 0:
        return np.zeros((len(alphas), *sums.xy_KT.shape)), np.zeros((len(alphas), len(sums.y_T)))
    mean_K, mean_T = sums.x_K / sums.weight, sums.y_T / sums.weight
    gram = sums.xx_KK - np.outer(sums.x_K, mean_K)
    moment = sums.xy_KT - np.outer(sums.x_K, mean_T)
    e_K, v_KK = linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    weight_AKT = _divided(v_KK, np.maximum(e_K, 0), moment, alphas)
    return weight_AKT, mean_T - np.einsum("k,akt->at", mean_K, weight_AKT)


def _divided(v_KK: Array, e_K: Array, moment_KT: Array, alphas: Array) -> Array:
    """Solutions (A, K, T) of (V diag(e) V' + alpha) w = moment."""
    share_AK = 1 / (e_K + alphas[:, None])
    weight_AKT: Array = np.matmul(v_KK, share_AK[:, :, None] * (v_KK.T @ moment_KT))
    return weight_AKT
