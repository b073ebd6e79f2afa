"""Logistic, softmax and masked ridge regression: many problems on the same features side by side.

A problem is one fit of one output (logistic, ridge) or of one set of classes (softmax). All step
together, so that one pass over the features serves every fold and output. Each takes L-BFGS steps
in the principal axes of the features, scaled by the curvature the penalized loss has there at its
start; the search along a step costs no product, since the margins are linear in it.

Shapes: N examples, K coordinates, P problems, C columns of a problem (1, or the classes).
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from cislens.evaluation.heads.design import Design, Floats
from cislens.evaluation.metrics import Array

_MEMORY = 20
_SEARCHES = 25
_FLAT = 0.3  # of the first slope along a step may be left at its end
_AT_ONCE = 2**26  # margins, and parameters of past steps, held in memory


class Problems:
    """What is fitted: labels and weights, one column per problem.

    Args:
        y_NPC: 0 or 1; where C > 1 one class of each example is 1. P may be 1 for shared labels.
            Values near 1 in size for ridge.
        w_NP: weights of the examples, 0 for what a problem leaves out.
    """

    def __init__(
        self,
        design: Design,
        y_NPC: Floats,
        w_NP: Floats,
        ridge: bool = False,
    ) -> None:
        self.design, self.ridge = design, ridge
        self.v_KK, self.e_K = design.axes()
        self.y_NPC = y_NPC.astype(design.dtype, copy=False)
        self.w_NP = w_NP.astype(design.dtype, copy=False)

    @property
    def count(self) -> int:
        """P."""
        return int(self.w_NP.shape[1])

    def last(self, count: int) -> "Problems":
        """The last `count` problems alone."""
        y_NPC = self.y_NPC[:, -count:] if self.y_NPC.shape[1] > 1 else self.y_NPC
        return Problems(self.design, y_NPC, self.w_NP[:, -count:], self.ridge)

    def start(self) -> Array:
        """Parameters (K + 1, P, C) that predict the mean label; the last row is the bias.

        A problem without examples of two classes keeps this start: its weights become 0.
        """
        total_P = np.maximum(self.w_NP.sum(0, dtype=np.float64), 1e-300)
        y_NPC = np.broadcast_to(self.y_NPC, (*self.w_NP.shape, self.y_NPC.shape[2]))
        rate_PC = (y_NPC * self.w_NP[:, :, None]).sum(0, dtype=np.float64) / total_P[:, None]
        theta = np.zeros((self.design.coordinates + 1, *rate_PC.shape))
        theta[-1] = rate_PC
        if self.ridge:
            return theta
        single_P = (rate_PC >= 1 - 1e-12).any(1) | (rate_PC <= 1e-12).all(1)
        self.w_NP[:, single_P] = 0
        rate_PC = np.clip(rate_PC, 1e-6, 1 - 1e-6)
        theta[-1] = special.logit(rate_PC) if rate_PC.shape[1] == 1 else np.log(rate_PC)
        return theta

    def minimize(self, theta: Array, alpha: float, tolerance: float, steps: int) -> Array:
        """Parameters that minimize `sum w loss + alpha / 2 |weights|^2`, the bias free.

        Args:
            theta: (K + 1, P, C) where to start.
            tolerance: the decrease of the loss per example that a further step may still promise.
            steps: at most.
        """
        margins, parameters = len(self.w_NP), 2 * _MEMORY * len(theta)
        step = max(1, _AT_ONCE // (max(margins, parameters) * theta.shape[2]))
        found = np.empty_like(theta)
        for first in range(0, self.count, step):
            some = slice(first, first + step)
            y_NPC = self.y_NPC[:, some] if self.y_NPC.shape[1] > 1 else self.y_NPC
            descent = _Descent(self, y_NPC, self.w_NP[:, some], alpha)
            start = descent.turned(theta[:, some], self.v_KK.T)
            found[:, some] = descent.turned(descent.run(start, tolerance, steps), self.v_KK)
        return found


@dataclass
class _Descent:
    """L-BFGS of some problems for one penalty."""

    whole: Problems
    y_NPC: Floats
    w_NP: Floats
    alpha: float

    def run(self, theta: Array, tolerance: float, steps: int) -> Array:
        margin = self._margins(theta)
        p_NPC = self._predicted(margin)
        scale = self._scale(p_NPC)
        gradient = self._gradient(theta, p_NPC)
        allowed_P = tolerance * np.maximum(self.w_NP.sum(0, dtype=np.float64), 1)
        pairs: deque[tuple[Array, Array, Array]] = deque(maxlen=_MEMORY)
        for _ in range(steps):
            left_P = np.einsum("kpc,kpc,kpc->p", gradient, scale, gradient) > allowed_P
            if not left_P.any():
                break
            step = -_two_loops(gradient, pairs, scale)
            uphill_P = np.einsum("kpc,kpc->p", gradient, step) >= 0
            step[:, uphill_P] = -(scale * gradient)[:, uphill_P]
            step[:, ~left_P] = 0
            t_P, margin, p_NPC = self._search(theta, margin, step, gradient, left_P)
            step *= t_P[:, None]
            theta += step
            before = gradient
            gradient = self._gradient(theta, p_NPC)
            change = gradient - before
            curved_P = np.einsum("kpc,kpc->p", step, change)
            inverse_P = np.where(curved_P > 0, 1 / np.where(curved_P > 0, curved_P, 1), 0.0)
            pairs.append((step, change, inverse_P))
        return theta

    def turned(self, theta: Array, axes_KK: Array) -> Array:
        """Parameters with their weights in other coordinates."""
        turned = theta.copy()
        turned[:-1] = np.tensordot(axes_KK, theta[:-1], axes=1)
        return turned

    def _margins(self, theta: Array) -> Floats:
        weight = np.tensordot(self.whole.v_KK, theta[:-1], axes=1)
        product = self.whole.design.times(weight.reshape(len(weight), theta[-1].size))
        product += theta[-1].ravel().astype(product.dtype)
        margin: Floats = product.reshape(len(product), *theta.shape[1:])
        return margin

    def _predicted(self, margin_NPC: Floats) -> Floats:
        """Values, or probabilities of the classes."""
        p: Floats
        if self.whole.ridge:
            p = margin_NPC.copy()
        elif margin_NPC.shape[2] == 1:
            p = np.tanh(margin_NPC / 2)
            p += 1
            p /= 2
        else:
            p = np.exp(margin_NPC - margin_NPC.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
        return p

    def _gradient(self, theta: Array, p_NPC: Floats) -> Array:
        residual = p_NPC - self.y_NPC
        residual *= self.w_NP[:, :, None]
        flat = residual.reshape(len(residual), -1)
        gradient = np.empty_like(theta)
        product = self.whole.v_KK.T @ self.whole.design.transposed_times(flat)
        gradient[:-1] = product.reshape(gradient[:-1].shape) + self.alpha * theta[:-1]
        gradient[-1] = residual.sum(0, dtype=np.float64)
        return gradient

    def _scale(self, p_NPC: Floats) -> Array:
        """Inverse of the curvature along each axis at the mean curvature of the loss."""
        total_P = self.w_NP.sum(0, dtype=np.float64)[:, None]
        if self.whole.ridge:
            curved_PC = total_P
        else:
            each_NPC = p_NPC * (1 - p_NPC) * self.w_NP[:, :, None]
            curved_PC = np.maximum(each_NPC.sum(0, dtype=np.float64), 1e-4 * total_P)
        axes = self.whole.e_K[:, None, None] * curved_PC / len(p_NPC) + self.alpha
        return 1 / np.concatenate([axes, np.maximum(curved_PC, 1e-12)[None]])

    def _search(
        self,
        theta: Array,
        margin: Floats,
        step: Array,
        gradient: Array,
        left_P: npt.NDArray[np.bool_],
    ) -> tuple[Array, Floats, Floats]:
        """Length of the step of each problem, and margins and probabilities at its end.

        The loss is convex along the step: its slope rises from negative, and its root is bracketed.
        """
        change = self._margins(step)
        first_P = np.einsum("kpc,kpc->p", gradient, step)
        drift_P = self.alpha * np.einsum("kpc,kpc->p", theta[:-1], step[:-1])
        bend_P = self.alpha * np.einsum("kpc,kpc->p", step[:-1], step[:-1])
        weighted = change * self.w_NP[:, :, None]
        base_P = drift_P - np.einsum("npc,npc->p", self.y_NPC, weighted, dtype=np.float64)
        t_P = left_P.astype(np.float64)
        low_P, low_slope_P = np.zeros_like(t_P), first_P
        high_P, high_slope_P = np.full_like(t_P, np.inf), np.ones_like(t_P)
        for _ in range(_SEARCHES):
            moved = margin + change * t_P.astype(margin.dtype)[:, None]
            p_NPC = self._predicted(moved)
            slope_P = np.einsum("npc,npc->p", p_NPC, weighted, dtype=np.float64)
            slope_P += base_P + t_P * bend_P
            if ((np.abs(slope_P) <= -_FLAT * first_P) | ~left_P).all():
                break
            over_P = slope_P > 0
            high_slope_P = np.where(over_P, slope_P, high_slope_P)
            high_P = np.where(over_P, t_P, high_P)
            low_slope_P = np.where(over_P, low_slope_P, slope_P)
            low_P = np.where(over_P, low_P, t_P)
            share_P = np.clip(low_slope_P / (low_slope_P - high_slope_P), 0.1, 0.9)
            inside_P = low_P + share_P * (np.where(np.isfinite(high_P), high_P, 0) - low_P)
            next_P = np.where(np.isfinite(high_P), inside_P, 2 * t_P)
            settled_P = (np.abs(slope_P) <= -_FLAT * first_P) | ~left_P
            t_P = np.where(settled_P, t_P, next_P)
        return t_P, moved, p_NPC


def _two_loops(gradient: Array, pairs: deque[tuple[Array, Array, Array]], scale: Array) -> Array:
    """The L-BFGS direction of each problem (Nocedal and Wright 2006, algorithm 7.4)."""
    direction = gradient.copy()
    shares = []
    for step, change, inverse_P in reversed(pairs):
        share_P = inverse_P * np.einsum("kpc,kpc->p", step, direction)
        direction -= share_P[:, None] * change
        shares.append(share_P)
    direction *= scale
    if pairs:
        step, change, inverse_P = pairs[-1]
        size_P = np.einsum("kpc,kpc,kpc->p", change, scale, change)
        usable_P = (inverse_P > 0) & (size_P > 0)
        ratio_P = np.einsum("kpc,kpc->p", step, change) / np.where(usable_P, size_P, 1)
        direction *= np.where(usable_P, ratio_P, 1.0)[:, None]
    for (step, change, inverse_P), share_P in zip(pairs, reversed(shares), strict=True):
        back_P = inverse_P * np.einsum("kpc,kpc->p", change, direction)
        direction += (share_P - back_P)[:, None] * step
    return direction
