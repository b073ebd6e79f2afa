"""How well a label is predicted, against a predictor that knows nothing."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.evaluation.audit.predictors import ONE_CLASS_RULES, class_shares
from cislens.evaluation.audit.report import Check, Group, Verdict, wilson
from cislens.evaluation.audit.table import AuditTable, Floats
from cislens.evaluation.metrics import metric_draws
from cislens.genome.minimizers import Ints
from cislens.randomness import generator

# How far above a predictor without knowledge the interval may lie. A balanced label told with an
# accuracy of 1/2 + d has a correlation of 2 d with its prediction, hence the factor for values.
ABOVE = (0.05, 0.15)
_FOR_CORRELATION = 2.0
_NUMBERS_DRAWN = 2e7


@dataclass(frozen=True)
class Score:
    """A predictor's score on the judged rows with its 95 % interval."""

    metric: str
    value: float
    low: float
    high: float
    reference: float
    interval: str

    @property
    def thresholds(self) -> tuple[float, float]:
        """What the interval may exceed the reference by before the check warns, and fails."""
        factor = _FOR_CORRELATION if self.metric == "correlation" else 1.0
        return ABOVE[0] * factor, ABOVE[1] * factor

    @property
    def verdict(self) -> Verdict:
        warn, fail = (self.reference + above for above in self.thresholds)
        return "fail" if self.low > fail else "warn" if self.low > warn else "pass"


def score(table: AuditTable, scored: Ints, predicted: Floats, seed: int = 0) -> Score:
    """Score a prediction.

    Classes: accuracy against the share of the class most common among the judged rows; where that
    is more than two thirds, AUROC (mean of one class against the rest) against 0.5.
    Values: Pearson correlation (mean over outputs) against 0.

    Args:
        scored: the judged rows.
        predicted: (scored, C) a number per class that is larger for likelier classes, or
            (scored, T) values.
    """
    y = table.y_NT[scored]
    block, unit = table.blocks
    block = np.unique(block[scored], return_inverse=True)[1]
    if not table.classes:
        return _drawn(table, "correlation", y, predicted, block, unit, seed)
    label = y[:, 0].astype(np.int64)
    shares = class_shares(table, scored)
    if shares.max() > ONE_CLASS_RULES:
        one_hot = (label[:, None] == np.arange(len(table.classes))).astype(np.float64)
        return _drawn(table, "AUROC", one_hot, predicted, block, unit, seed)
    right = (predicted.argmax(1) == label).astype(np.float64)
    n, words = _effective(right, block, unit)
    low, high = wilson(right.mean() * n, n)
    return Score("accuracy", float(right.mean()), low, high, float(shares.max()), words)


def _effective(right: Floats, block: Ints, unit: str) -> tuple[float, str]:
    """How many independent rows tell as much as these, by the design effect of their blocks."""
    n, blocks = len(right), int(block.max()) + 1
    p = right.mean()
    if blocks == n or blocks < 2 or p in (0.0, 1.0):
        return float(n), "Wilson interval, rows taken as independent"
    residual = np.bincount(block, right - p)
    variance = (residual**2).sum() / n**2 * blocks / (blocks - 1)
    effect = max(float(variance * n / (p * (1 - p))), 1.0)
    return n / effect, f"Wilson interval, n divided by the design effect {effect:.2f} of {unit}"


def _drawn(
    table: AuditTable, metric: str, y: Floats, predicted: Floats, block: Ints, unit: str, seed: int
) -> Score:
    """Percentile interval of a block bootstrap; outputs that do not vary are left out."""
    name = "auroc" if metric == "AUROC" else "pearson"
    blocks = int(block.max()) + 1
    rng = generator(seed, "audit", "bootstrap")
    draws = int(np.clip(_NUMBERS_DRAWN / max(y.size, 1), 100, 400))
    weights = np.stack(
        [
            np.bincount(rng.integers(0, blocks, blocks), minlength=blocks)[block]
            for _ in range(draws)
        ]
    ).astype(np.float64)
    weights = np.concatenate([np.ones((1, len(y))), weights])
    columns = [_column(name, y[:, [c]], predicted[:, [c]], weights) for c in range(y.shape[1])]
    reference = 0.5 if metric == "AUROC" else 0.0
    defined = [column for column in columns if np.isfinite(column[0])]
    if not defined:
        return Score(metric, reference, reference, reference, reference, "nothing varies")
    value = np.mean(defined, axis=0)
    low, high = np.nanpercentile(value[1:], [2.5, 97.5])
    words = f"bootstrap of {blocks} {unit}"
    return Score(metric, float(value[0]), float(low), float(high), reference, words)


def _column(name: str, y: Floats, predicted: Floats, weights: Floats) -> npt.NDArray[np.float64]:
    known = np.isfinite(y[:, 0])
    if known.sum() < 3 or np.ptp(y[known]) == 0:
        return np.full(len(weights), np.nan)
    if np.ptp(predicted[known]) == 0:
        return np.full(len(weights), 0.5 if name == "auroc" else 0.0)
    return metric_draws(name, y[known], predicted[known], weights[:, known])


def scored_check(
    name: str,
    group: Group,
    best: Score,
    *,
    why: str = "",
    detail: dict[str, float | str] | None = None,
    classes: dict[str, float] | None = None,
    judged: bool = True,
) -> Check:
    """The check on a predictor's score."""
    warn, fail = best.thresholds if judged else (None, None)
    measure = f"{best.metric} on the judged rows; {best.interval}"
    return Check(
        name, group, measure, best.value, best.low, best.high, best.reference, warn, fail,
        best.verdict if judged else "pass", why, classes or {}, detail or {},
    )  # fmt: skip
