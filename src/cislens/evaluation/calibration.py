"""Whether scores mean what they say: probabilities of classes, and values of a regression.

Examples are put into bins of equal mass by their score, anew for each seed. Shapes: N examples,
K bins, G blocks, B weightings.
"""

import numpy as np
import polars as pl
from scipy import special

from cislens.evaluation.metrics import Array, Indices
from cislens.evaluation.moments import block_sums
from cislens.evaluation.results import ResultStore
from cislens.evaluation.statistics import Contrast, Measure, Predictions, resample_measure
from cislens.evaluation.suite import Suite

BINS = 10
LEAST = 20  # examples in a bin; small test sets have fewer bins
DRAWS = 500  # bootstrap draws; intervals of a bin need no fine tails
_MEASURES = ("brier", "ece", "slope", "intercept")
CALIBRATION: dict[str, type[pl.DataType]] = {
    "task": pl.String, "arm": pl.String, "kind": pl.String, "bin": pl.Int64,
    "predicted": pl.Float64, "observed": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    **{
        f"{name}{end}": pl.Float64 for name in _MEASURES for end in ("", "_low", "_high")
    },
}  # fmt: skip


def calibration(source: ResultStore | Suite, draws: int = 2000) -> pl.DataFrame:
    """A row for each bin of every arm, of the binary and the regression tasks.

    Columns: `CALIBRATION`. `predicted` is the mean score of a bin (probability, or value),
    `observed` the mean label with its 95 % interval. Of the arm as a whole, repeated in each of
    its rows: for classes the Brier score and the expected calibration error over bins of equal
    mass, for values the slope and intercept of the labels on the scores; 95 % intervals by blocks
    and seeds. Zero-shot and site scores are no probabilities and have no rows.
    """
    suite = Suite.of(source, draws)
    rows: list[dict[str, object]] = []
    for name, task in suite.tasks.items():
        if task.card.kind in ("binary", "regression"):
            rows += _task_rows(suite, name, task.card.kind == "binary")
    return pl.DataFrame(rows, schema=CALIBRATION)


def brier(y_N: Array, p_N: Array, w_BG: Array, block_N: Indices) -> Array:
    """Mean squared error of probabilities, (B,)."""
    terms = np.stack([np.ones_like(y_N), (p_N - y_N) ** 2], 1)
    sums = w_BG @ block_sums(terms, block_N, w_BG.shape[1])
    value: Array = sums[:, 1] / sums[:, 0]
    return value


def expected_error(y_N: Array, p_N: Array, w_BG: Array, block_N: Indices, bins: int) -> Array:
    """Expected calibration error: mean over bins, by their mass, of |observed - predicted|."""
    member_NK = _bins(p_N, bins)[:, None] == np.arange(bins)
    gap = w_BG @ block_sums(member_NK * (y_N - p_N)[:, None], block_N, w_BG.shape[1])
    total = w_BG @ np.bincount(block_N, minlength=w_BG.shape[1])
    value: Array = np.abs(gap).sum(1) / total
    return value


def line(y_N: Array, s_N: Array, w_BG: Array, block_N: Indices) -> tuple[Array, Array]:
    """Slope and intercept (B,) of the least-squares line of labels on scores; 1 and 0 are ideal."""
    level = s_N.mean()
    s = s_N - level
    terms = np.stack([np.ones_like(s), s, y_N, s * s, s * y_N], 1)
    n, s1, y1, ss, sy = (w_BG @ block_sums(terms, block_N, w_BG.shape[1])).T
    spread = ss - s1 * s1 / n
    slope = np.where(spread > 0, (sy - s1 * y1 / n) / np.where(spread > 0, spread, 1.0), 0.0)
    return slope, (y1 - slope * s1) / n - slope * level


def _task_rows(suite: Suite, name: str, binary: bool) -> list[dict[str, object]]:
    predictions = _measured(suite.predictions(name), binary)
    bins = int(np.clip(len(predictions.y_NT) // LEAST, 2, BINS))
    y_N, block_N = predictions.y_NT[:, 0], predictions.block_N
    draws = min(DRAWS, suite.draws)

    def contrasts(measure: Measure, what: str) -> dict[str, Contrast]:
        resampled = resample_measure(predictions, measure, what, draws)
        return {arm: resampled.value(arm) for arm in predictions.arms}

    def of_line(part: int) -> Measure:
        return lambda s, w: line(y_N, s[:, 0], w, block_N)[part]

    if binary:
        whole = {
            "brier": contrasts(lambda s, w: brier(y_N, s[:, 0], w, block_N), "Brier score"),
            "ece": contrasts(
                lambda s, w: expected_error(y_N, s[:, 0], w, block_N, bins), "calibration error"
            ),
        }
    else:
        whole = {
            what: contrasts(of_line(part), what) for part, what in enumerate(("slope", "intercept"))
        }
    observed = [
        contrasts(_observed(y_N, block_N, k, bins), f"calibration bin {k + 1}") for k in range(bins)
    ]
    kinds = suite.kinds()
    rows: list[dict[str, object]] = []
    for arm, scores_RNT in zip(predictions.arms, predictions.scores_MRNT, strict=True):
        predicted = np.mean([_bin_means(s, bins) for s in scores_RNT[..., 0]], axis=0)
        summary = {
            f"{what}{end}": getattr(found[arm], of)
            for what, found in whole.items()
            for end, of in (("", "point"), ("_low", "low"), ("_high", "high"))
        }
        for k, found in enumerate(each[arm] for each in observed):
            rows.append(
                {"task": name, "arm": arm, "kind": kinds[arm], "bin": k,
                 "predicted": float(predicted[k]), "observed": found.point,
                 "low": found.low, "high": found.high, **summary}
            )  # fmt: skip
    return rows


def _measured(predictions: Predictions, binary: bool) -> Predictions:
    """The labeled examples; logits become probabilities."""
    keep = np.flatnonzero(np.isfinite(predictions.y_NT[:, 0]))
    scores = predictions.scores_MRNT[:, :, keep].astype(np.float64)
    _, block_N = np.unique(predictions.block_N[keep], return_inverse=True)
    return Predictions(
        predictions.arms,
        (special.expit(scores) if binary else scores).astype(np.float32),
        predictions.y_NT[keep],
        block_N,
    )


def _observed(y_N: Array, block_N: Indices, k: int, bins: int) -> Measure:
    """Mean label of bin k; a draw without any of its examples says what the whole set says."""

    def measure(s_NT: Array, w_BG: Array) -> Array:
        member = (_bins(s_NT[:, 0], bins) == k).astype(np.float64)
        terms = np.stack([member, member * y_N], 1)
        mass, total = (w_BG @ block_sums(terms, block_N, w_BG.shape[1])).T
        whole = (member * y_N).sum() / member.sum()
        value: Array = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), whole)
        return value

    return measure


def _bins(s_N: Array, bins: int) -> Indices:
    """Bin of each example by the order of scores, equal in size."""
    place = np.empty(len(s_N), dtype=np.int64)
    place[np.argsort(s_N, kind="stable")] = np.arange(len(s_N))
    return place * bins // len(s_N)


def _bin_means(s_N: Array, bins: int) -> Array:
    number = _bins(s_N, bins)
    means: Array = np.bincount(number, s_N, minlength=bins) / np.bincount(number, minlength=bins)
    return means
