"""Elastic-net logistic regression of many label vectors at once, and its nested validation.

A permutation test refits the whole procedure for each shuffle; all shuffles share the features,
so that one matrix product serves them together.

Dimensions: N person, P feature, B label vector, K strength of the penalty.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.randomness import generator

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Penalty:
    """How the logistic model is regularized and validated.

    Attributes:
        l1: share of the absolute values in the penalty; the rest is of squares.
        strengths: tried, as shares of the least strength at which no coefficient is left.
        outer, inner: folds of the test and of the choice of the strength.
        steps: of accelerated proximal gradient descent, for each strength.
    """

    l1: float = 0.5
    strengths: tuple[float, ...] = (0.5, 0.2, 0.08, 0.03)
    outer: int = 5
    inner: int = 3
    steps: int = 60


def fit(
    x_NP: Floats, y_NB: Floats, free_P: npt.NDArray[np.bool_], penalty: Penalty
) -> tuple[Floats, Floats]:
    """Coefficients (K, P, B) and intercepts (K, B) of every strength and label vector.

    Minimized is the mean logistic loss + s (l1 |b|_1 + (1 - l1) |b|^2 / 2) by FISTA (Beck and
    Teboulle 2009) from the next stronger penalty's solution.

    Args:
        x_NP: columns of mean 0.
        y_NB: 0 or 1.
        free_P: columns without a penalty.
    """
    n, features = x_NP.shape
    x1 = np.concatenate([x_NP, np.ones((n, 1), np.float32)], axis=1)
    held = np.append(~free_P, False)[:, None]
    rate = np.float32(4 * n / max(np.linalg.norm(x1, 2) ** 2, 1e-12))
    share = y_NB.mean(0).clip(1e-3, 1 - 1e-3)
    slope = np.abs(x_NP.T @ (y_NB - share)) / n
    most = np.where(held[:-1], slope, 0).max(0) / max(penalty.l1, 1e-2)
    beta = np.zeros((features + 1, y_NB.shape[1]), np.float32)
    beta[-1] = np.log(share / (1 - share))
    found = []
    for strength in penalty.strengths:
        lasso = np.where(held, rate * penalty.l1 * strength * most, 0).astype(np.float32)
        shrink = np.where(held, 1 + rate * (1 - penalty.l1) * strength * most, 1)
        ahead, momentum = beta.copy(), 1.0
        for _step in range(penalty.steps):
            gradient = x1.T @ (_sigmoid(x1 @ ahead) - y_NB) / n
            moved = ahead - rate * gradient
            new = (np.sign(moved) * np.maximum(np.abs(moved) - lasso, 0) / shrink).astype(
                np.float32
            )
            faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = new + np.float32((momentum - 1) / faster) * (new - beta)
            beta, momentum = new, faster
        found.append(beta)
    path = np.stack(found)
    return path[:, :-1], path[:, -1]


def nested_scores(
    x_NP: npt.NDArray[np.float64],
    y_NB: Floats,
    free_P: npt.NDArray[np.bool_],
    penalty: Penalty,
    seed: int,
) -> Floats:
    """Linear predictors (N, B) of people whose fold was not trained on.

    The strength is chosen by the log loss on inner folds of the training people, for each label
    vector on its own. Features are standardized on the training people, and the intercept is left
    out: one that is fitted without a fold is low where the fold has many cases.
    """
    fold = folds(len(x_NP), penalty.outer, generator(seed, "outer"))
    scores = np.empty(y_NB.shape, np.float32)
    for number in range(penalty.outer):
        test = fold == number
        train, held = _standard(x_NP[~test], x_NP[test])
        y = y_NB[~test]
        chosen = _chosen(x_NP[~test], y, free_P, penalty, seed, number)
        coefficients, _ = fit(train, y, free_P, penalty)
        picked = np.take_along_axis(coefficients, chosen[None, None], axis=0)[0]
        scores[test] = held @ picked
    return scores


def _chosen(
    x_NP: npt.NDArray[np.float64], y_NB: Floats, free_P: npt.NDArray[np.bool_], penalty: Penalty,
    seed: int, number: int,
) -> npt.NDArray[np.int64]:  # fmt: skip
    """The strength of least log loss for each label vector, (B,)."""
    fold = folds(len(x_NP), penalty.inner, generator(seed, "inner", number))
    loss = np.zeros((len(penalty.strengths), y_NB.shape[1]))
    for part in range(penalty.inner):
        test = fold == part
        train, held = _standard(x_NP[~test], x_NP[test])
        coefficients, intercepts = fit(train, y_NB[~test], free_P, penalty)
        for place, (beta, base) in enumerate(zip(coefficients, intercepts, strict=True)):
            logit = held @ beta + base
            loss[place] += (np.logaddexp(0, logit) - y_NB[test] * logit).sum(0)
    best: npt.NDArray[np.int64] = loss.argmin(0)
    return best


def folds(count: int, parts: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A part for each of `count` people, as even as can be."""
    dealt: npt.NDArray[np.int64] = rng.permutation(np.arange(count) % parts)
    return dealt


def _standard(
    train: npt.NDArray[np.float64], held: npt.NDArray[np.float64]
) -> tuple[Floats, Floats]:
    center, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    return ((train - center) / spread).astype(np.float32), ((held - center) / spread).astype(
        np.float32
    )


def _sigmoid(values: Floats) -> Floats:
    half: Floats = np.tanh(values * np.float32(0.5))
    half += 1
    half *= np.float32(0.5)
    return half
