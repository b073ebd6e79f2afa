"""Streaming metrics of the multi-modal objective, with sums in fp64, mergeable across shards.

Dimensions: B locus, L base pair, R region, K answer, C column.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from cislens.objectives.multimodal.regions import neighbor_mean

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Pairs of which the scores are kept for what ranks them; the first ones of a pass.
KEPT_PAIRS = 100_000


class Accuracy:
    """Share of right answers."""

    def __init__(self) -> None:
        self.right = 0
        self.asked = 0

    def update(self, right_K: Tensor) -> None:
        self.right += int(right_K.sum())
        self.asked += right_K.numel()

    def merge(self, other: "Accuracy") -> None:
        self.right += other.right
        self.asked += other.asked

    def compute(self) -> dict[str, float]:
        return {"accuracy": _ratio(self.right, self.asked)}


class Pairs:
    """Pairs told apart by a score, and by their difference in GC content alone.

    `accuracy` takes pairs of a logit above 0 for those that belong together. `auroc`, `gc_auroc`
    and `gc_accuracy` are of the first `KEPT_PAIRS` pairs. `gc_accuracy` is at the threshold that is
    best on these very pairs, hence optimistic.
    """

    def __init__(self) -> None:
        self.accuracy = Accuracy()
        self.logit_K: Floats = np.zeros(0, dtype=np.float32)
        self.gap_K: Floats = np.zeros(0, dtype=np.float32)
        self.own_K: Bools = np.zeros(0, dtype=np.bool_)

    def update(self, logit_K: Tensor, gap_K: Tensor, own_K: Tensor) -> None:
        """Take in the logits of pairs, their GC gaps, and whether they belong together."""
        self.accuracy.update((logit_K > 0) == own_K)
        self._keep(*(value.detach().cpu().numpy() for value in (logit_K.float(), gap_K, own_K)))

    def merge(self, other: "Pairs") -> None:
        self.accuracy.merge(other.accuracy)
        self._keep(other.logit_K, other.gap_K, other.own_K)

    def compute(self) -> dict[str, float]:
        own_K = self.own_K
        return {
            **self.accuracy.compute(),
            "auroc": auroc(self.logit_K, own_K),
            "gc_auroc": auroc(-self.gap_K, own_K),
            "gc_accuracy": best_accuracy(-self.gap_K, own_K),
        }

    def _keep(self, logit_K: Floats, gap_K: Floats, own_K: Bools) -> None:
        room = KEPT_PAIRS - len(self.own_K)
        if room > 0:
            self.logit_K = np.concatenate([self.logit_K, logit_K[:room]])
            self.gap_K = np.concatenate([self.gap_K, gap_K[:room]])
            self.own_K = np.concatenate([self.own_K, own_K[:room]])


class Retrieval:
    """How often a sequence finds its own context first among those of its batch.

    Among those that are known not to belong to it, that is. Sequences without any such context are
    not asked. `chance` is what picking at random finds.
    """

    def __init__(self) -> None:
        self.found = Accuracy()
        self.chance = 0.0

    def update(self, like_BB: Tensor, apart_BB: Tensor) -> None:
        """Take in the likeness of every sequence (row) and context (column) of a batch."""
        own_BB = torch.eye(len(like_BB), dtype=torch.bool, device=like_BB.device)
        others_BB = apart_BB & ~own_BB
        others_B = others_BB.sum(dim=1)
        best_B = like_BB.masked_fill(~others_BB, -torch.inf).amax(dim=1)
        asked_B = others_B > 0
        # A tie is no find: a collapsed model, to which all are alike, finds nothing.
        self.found.update((like_BB.diagonal() > best_B)[asked_B])
        self.chance += float((1 / (1 + others_B[asked_B].double())).sum())

    def merge(self, other: "Retrieval") -> None:
        self.found.merge(other.found)
        self.chance += other.chance

    def compute(self) -> dict[str, float]:
        return {
            "recall_at_1": self.found.compute()["accuracy"],
            "chance": _ratio(self.chance, self.found.asked),
        }


class Explained:
    """R2 of predicted values, pooled over all columns.

    1 - sum (y - p)^2 / sum (y - mean of y's column)^2, the means being those of the values seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sum_C: Tensor | float = 0.0
        self.squares = 0.0
        self.errors = 0.0

    def update(self, predicted_BRC: Tensor, value_BRC: Tensor, asked_BR: Tensor) -> None:
        """Take in the values where they were asked for."""
        predicted_KC, value_KC = predicted_BRC[asked_BR], value_BRC[asked_BR].double()
        self.count += len(value_KC)
        self.sum_C = self.sum_C + value_KC.sum(dim=0).cpu()
        self.squares += float(value_KC.square().sum())
        self.errors += float((predicted_KC.double() - value_KC).square().sum())

    def merge(self, other: "Explained") -> None:
        self.count += other.count
        self.sum_C = self.sum_C + other.sum_C
        self.squares += other.squares
        self.errors += other.errors

    def compute(self) -> dict[str, float]:
        if not isinstance(self.sum_C, Tensor) or not self.count:
            return {"r2": float("nan")}
        total = self.squares - float(self.sum_C.square().sum()) / self.count
        return {"r2": 1 - self.errors / total if total > 1e-12 * self.squares else float("nan")}


_KINDS: Mapping[str, Callable[[], Any]] = {
    "masked/": Accuracy,
    "next/": Accuracy,
    "match/": Pairs,
    "contrast/": Retrieval,
    "regions/": Explained,
    "regions/access_": Explained,
    "regions/neighbor_": Explained,
    "regions/access_neighbor_": Explained,
    "motifs/": Explained,
}


class MultimodalMetrics:
    """The metrics of the terms that are in use, by name.

    masked/accuracy, next/accuracy; match/accuracy, auroc, gc_auroc, gc_accuracy;
    contrast/recall_at_1, chance; regions/r2 (motif values), access_r2, and those of the mean of
    the visible neighbors, neighbor_r2 and access_neighbor_r2; motifs/r2. NaN is what was never
    asked.

    Attributes:
        kinds: the metrics by the start of their names.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, Any] = {}

    def update(self, predictions: Mapping[str, Tensor], targets: Any = None) -> None:
        """Take in the predictions of a batch, which hold what they are compared with."""
        get = predictions.__getitem__
        if "masked/logits" in predictions:
            scored_BL = get("masked/scored")
            right_BL = get("masked/logits").argmax(dim=2) == get("masked/target")
            self._of("masked/").update(right_BL[scored_BL])
        if "next/logits" in predictions:
            self._of("next/").update(get("next/logits").argmax(dim=1) == get("next/target"))
        if "match/logits" in predictions:
            self._of("match/").update(get("match/logits"), get("match/gap"), get("match/own"))
        if "contrast/like" in predictions:
            self._of("contrast/").update(get("contrast/like"), get("contrast/apart"))
        if "motifs/predicted" in predictions:
            predicted_BT = get("motifs/predicted")
            asked_B = torch.ones(len(predicted_BT), dtype=torch.bool, device=predicted_BT.device)
            self._of("motifs/").update(predicted_BT, get("motifs/value"), asked_B)
        if "regions/predicted" in predictions:
            self._regions(predictions)

    def merge(self, other: "MultimodalMetrics") -> None:
        """Take in what another process saw."""
        for name, metric in other.kinds.items():
            self._of(name).merge(metric)

    def summary(self) -> dict[str, float]:
        """The metrics by name."""
        return {
            f"{start}{name}": value
            for start, metric in self.kinds.items()
            for name, value in metric.compute().items()
        }

    def _of(self, name: str) -> Any:
        if name not in self.kinds:
            self.kinds[name] = _KINDS[name]()
        return self.kinds[name]

    def _regions(self, predictions: Mapping[str, Tensor]) -> None:
        offset_BR = predictions["regions/offset"]
        for prefix in ("", "access_"):
            predicted_BRC, value_BRC, asked_BR, seen_BR = (
                predictions[f"regions/{prefix}{name}"]
                for name in ("predicted", "value", "asked", "seen")
            )
            around_BRC = neighbor_mean(value_BRC, offset_BR, seen_BR)
            self._of(f"regions/{prefix}").update(predicted_BRC, value_BRC, asked_BR)
            self._of(f"regions/{prefix}neighbor_").update(around_BRC, value_BRC, asked_BR)


def auroc(score_K: Floats, own_K: Bools) -> float:
    """Area under the ROC curve; NaN unless there are pairs of both kinds."""
    if own_K.all() or not own_K.any():
        return float("nan")
    return float(roc_auc_score(own_K, score_K))


def best_accuracy(score_K: Floats, own_K: Bools) -> float:
    """Accuracy at the best threshold for these very pairs; NaN unless there are both kinds."""
    if own_K.all() or not own_K.any():
        return float("nan")
    false_share, true_share, _ = roc_curve(own_K, score_K)
    right = true_share * own_K.sum() + (1 - false_share) * (~own_K).sum()
    return float(right.max() / len(own_K))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")
