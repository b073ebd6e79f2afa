"""Training features, standardized, as the solvers of the linear heads read them: block by block.

More features than examples are first turned into as many coordinates as there are examples, which
changes no inner product and so no penalized fit. Products over the features run in float64 for
small problems and in float32 for large ones; sums over blocks and Gram matrices are float64.

Shapes: N examples, D features, K = min(D, N) coordinates, P columns of a product.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from cislens.errors import CislensError
from cislens.evaluation.metrics import Array

Floats = npt.NDArray[Any]  # float32 or float64
_EXACT = 2**22  # numbers in the features up to which everything is float64
_BLOCK = 2**22  # numbers in a block
_KEPT = 2**30  # numbers of standardized features that are kept in memory
_RANK = 1e-13  # eigenvalues below this share of the largest are rounding


class Design:
    """Standardized training features behind a few products.

    Args:
        x_ND: the features.
        order_N: rows in the order in which the examples are wanted, e.g. fold by fold.

    Attributes:
        mean_D: means of the training features.
        scale_D: 1 / standard deviation, 0 for constant features.

    Raises:
        CislensError: for features that are not a finite (N, D) table.
    """

    def __init__(self, x_ND: npt.ArrayLike, order_N: npt.NDArray[np.integer] | None = None) -> None:
        self._x_ND = _table(x_ND)
        self._order_N = order_N
        examples, features = self._x_ND.shape
        self.mean_D, self.scale_D = standardization(self._x_ND)
        self.dtype: type[np.float32] | type[np.float64] = (
            np.float64 if self._x_ND.size <= _EXACT else np.float32
        )
        self._kept_NK: Floats | None = None
        self._lift_NK: Array | None = None
        self._axes: tuple[Array, Array] | None = None
        if features > examples:
            e_K, u_NK = _eigen(self._kernel())
            self._kept_NK = (u_NK * np.sqrt(e_K)).astype(self.dtype)
            self._lift_NK = u_NK / np.sqrt(e_K)
            self._axes = np.eye(len(e_K)), e_K
        elif self._x_ND.size <= _KEPT:
            kept = np.empty(self._x_ND.shape, dtype=self.dtype)
            for rows in _slices(examples, features):
                kept[rows] = self._standard(rows)
            self._kept_NK = kept
        self.examples = examples
        self.coordinates = features if self._kept_NK is None else self._kept_NK.shape[1]

    def blocks(self, part: slice | None = None) -> Iterator[tuple[slice, Floats]]:
        """Rows, of all examples or of a part of them, and their coordinates (n, K)."""
        start, stop = (0, self.examples) if part is None else (part.start, part.stop)
        for some in _slices(stop - start, self.coordinates):
            rows = slice(start + some.start, start + some.stop)
            yield rows, self._standard(rows) if self._kept_NK is None else self._kept_NK[rows]

    def times(self, w_KP: Array, part: slice | None = None) -> Floats:
        """Coordinates of all examples, or of a part of them, times weights, (n, P)."""
        w = w_KP.astype(self.dtype)
        return np.concatenate([block @ w for _, block in self.blocks(part)])

    def transposed_times(self, s_NP: Floats) -> Array:
        """Transposed coordinates times a column per example, (K, P)."""
        total = np.zeros((self.coordinates, s_NP.shape[1]))
        for rows, block in self.blocks():
            total += block.T @ s_NP[rows]
        return total

    def axes(self) -> tuple[Array, Array]:
        """Principal axes (K, K) and the squared singular value of each."""
        if self._axes is None:
            gram = np.zeros((self.coordinates, self.coordinates))
            for _, block in self.blocks():
                wide = block.astype(np.float64)
                gram += wide.T @ wide
            e_K, v_KK = linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
            self._axes = v_KK, np.maximum(e_K, 0)
        return self._axes

    def coordinates_of(self, x_MD: Floats) -> Floats:
        """Coordinates (M, K) of other examples."""
        if self._lift_NK is None:
            other = np.empty(x_MD.shape, dtype=self.dtype)
            for rows in _slices(*x_MD.shape):
                other[rows] = (x_MD[rows].astype(np.float64) - self.mean_D) * self.scale_D
            return other
        products_MN = np.zeros((len(x_MD), self.examples))
        for columns in _slices(x_MD.shape[1], max(x_MD.shape[0], self.examples)):
            other = x_MD[:, columns].astype(np.float64) - self.mean_D[columns]
            other *= self.scale_D[columns]
            products_MN += other @ self._standard(slice(None), columns).T
        projected: Floats = (products_MN @ self._lift_NK).astype(self.dtype)
        return projected

    def lift(self, w_KP: Array) -> Array:
        """Weights of the coordinates as weights of the standardized features, (D, P)."""
        if self._lift_NK is None:
            return w_KP
        share_NP = self._lift_NK @ w_KP
        lifted = np.empty((self._x_ND.shape[1], w_KP.shape[1]))
        for columns in _slices(len(lifted), self.examples):
            lifted[columns] = self._standard(slice(None), columns).T @ share_NP
        return lifted

    def _standard(self, some: slice, columns: slice = slice(None)) -> Floats:
        rows = some if self._order_N is None else self._order_N[some]
        part = self._x_ND[rows, columns].astype(np.float64)
        part -= self.mean_D[columns]
        part *= self.scale_D[columns]
        return part.astype(self.dtype, copy=False)

    def _kernel(self) -> Array:
        examples, features = self._x_ND.shape
        kernel = np.zeros((examples, examples))
        for columns in _slices(features, examples):
            part = self._standard(slice(None), columns).astype(np.float64)
            kernel += part @ part.T
        return kernel


def affine_scores(
    x_ND: npt.ArrayLike, mean_D: Array, weight_DP: Array, bias_P: Array
) -> npt.NDArray[np.float32]:
    """(x - mean) weight + bias in float64, (N, P), without a float64 copy of all of x."""
    x = np.asarray(x_ND)
    scores = np.empty((len(x), weight_DP.shape[1]), dtype=np.float32)
    for rows in _slices(len(x), x.shape[1]):
        scores[rows] = (x[rows].astype(np.float64) - mean_D) @ weight_DP + bias_P
    return scores


def standardization(x_ND: Floats) -> tuple[Array, Array]:
    """Mean and 1 / standard deviation of each feature, (D,); 0 for constant features."""
    examples, features = x_ND.shape
    shift = x_ND[: min(examples, 1024)].mean(0, dtype=np.float64)
    sums, squares = np.zeros(features), np.zeros(features)
    for rows in _slices(examples, features):
        part = x_ND[rows].astype(np.float64) - shift
        sums += part.sum(0)
        squares += np.einsum("nd,nd->d", part, part)
    if not np.isfinite(sums).all():
        require_finite(x_ND, "training features")
    mean = sums / examples
    deviation = np.sqrt(np.maximum(squares / examples - mean**2, 0))
    varies = deviation > 1e-7 * np.maximum(1.0, np.abs(mean + shift))
    return mean + shift, np.where(varies, 1 / np.where(varies, deviation, 1), 0.0)


def require_finite(x_ND: Floats, what: str) -> None:
    """Refuse NaN and infinite features; the error names the first one."""
    for rows in _slices(*x_ND.shape):
        wrong = ~np.isfinite(x_ND[rows])
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise CislensError(
                f"{what}: feature {column} of example {rows.start + row} is "
                f"{x_ND[rows.start + row, column]}; {int(wrong.any(1).sum())} of the "
                f"{len(wrong)} examples from there on have features that are not finite. "
                "Leave these examples out, or repair the embedding."
            )


def _table(x_ND: npt.ArrayLike) -> Floats:
    x = np.asarray(x_ND)
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise CislensError(
            "a linear head needs a table of at least two examples and one feature, found one of "
            f"shape {x.shape}."
        )
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def _eigen(symmetric: Array) -> tuple[Array, Array]:
    e, u = linalg.eigh(symmetric, driver="evd")
    keep = e > max(e[-1], 1e-300) * _RANK
    return e[keep], u[:, keep]


def _slices(length: int, width: int) -> list[slice]:
    step = max(64, _BLOCK // max(1, width))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
