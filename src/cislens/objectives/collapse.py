"""Streaming metrics of the objectives on sequence alone: what is told, and signs of collapse.

Dimensions: B window, N windows seen, D channel of the pooled vector, T row that a teacher judged,
K prototype.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.objectives import features

# Windows whose vectors are kept; the first ones of a pass.
KEPT_WINDOWS = 4096

_SUMS = ("nats", "right", "count", "nats_unique", "count_unique")
_SINGLE = ("gc", "cpg", "repeat", "label", "chrom", "start", "species")
_UNKNOWN = {"label": -1.0}


class SequenceMetrics:
    """The metrics of the terms that are in use, by name; NaN is what was never measured.

    `update` takes any of these predictions, each of which may be left out:

    - `pooled` (B, D): the kept encoder's vector of each parent window, mean of both strands.
    - `gc`, `cpg`, `repeat` (B,): shares of G or C, of CG pairs, and of soft-masked bases.
    - `label` (B,): 1 near an interval of the probe, 0 not, -1 where nothing is known.
    - `chrom`, `start`, `species` (B,): where the windows lie, to keep neighbors in one fold.
    - `masked/nats`, `masked/right`, `masked/count`, `masked/nats_unique`, `masked/count_unique`
      (scalars): sums over the asked bases of the cross-entropy (natural log, not weighted), of
      right answers, of bases; and of those outside of repeats.
    - `teacher` (T, K): probabilities that the teacher gave the prototypes.
    - `agreement` (B,): cosine of the student's and the teacher's vectors of the same windows.
    - `distance` (scalar): of the weights of both, relative to the teacher's.

    Metrics: `rankme` and `rankme_share`, the effective rank and its share of min(D, N - 1);
    `feature_std`; `gc_r2`, GC content told from the vectors by ridge regression in 5 folds;
    `composition_share`, share of the vectors' variance explained by GC, CpG and repeats;
    `knn/auroc`, label told by the 20 nearest windows of other folds, and `knn/gc_auroc`, by those
    nearest in GC content alone; `teacher/marginal`, entropy of the teacher's mean answer, and
    `teacher/sharpness`, mean entropy of its answers, and `teacher/information`, the difference of
    the two, each over ln K; `masked/nats`,
    `masked/nats_unique`, `masked/accuracy`; `agreement`, `distance`.
    """

    def __init__(self) -> None:
        self.vectors: dict[str, npt.NDArray[np.float64]] = {}
        self.masked: dict[str, float] = {}
        self.mean_K: npt.NDArray[np.float64] | None = None
        self.entropy = 0.0
        self.judged = 0
        self.means: dict[str, tuple[float, int]] = {}

    def update(self, predictions: Mapping[str, Tensor], targets: object = None) -> None:
        """Take in the predictions of a batch."""
        if "pooled" in predictions:
            self._pooled(predictions)
        for name in _SUMS:
            if (key := f"masked/{name}") in predictions:
                self.masked[name] = self.masked.get(name, 0.0) + float(predictions[key])
        if "teacher" in predictions:
            share_TK = predictions["teacher"].detach().double()
            self._teacher(
                share_TK.sum(dim=0).cpu().numpy(),
                float(torch.special.entr(share_TK).sum()),
                len(share_TK),
            )
        for name in ("agreement", "distance"):
            if name in predictions:
                value = predictions[name].detach().double()
                self._mean(name, float(value.sum()), value.numel())

    def merge(self, other: "SequenceMetrics") -> None:
        """Take in what another process saw."""
        self._keep(other.vectors)
        for name, value in other.masked.items():
            self.masked[name] = self.masked.get(name, 0.0) + value
        if other.mean_K is not None:
            self._teacher(other.mean_K, other.entropy, other.judged)
        for name, (total, count) in other.means.items():
            self._mean(name, total, count)

    def summary(self) -> dict[str, float]:
        """The metrics by name."""
        found: dict[str, float] = {}
        if self.masked:
            get = self.masked.get
            found["masked/nats"] = _ratio(get("nats", 0.0), get("count", 0.0))
            found["masked/nats_unique"] = _ratio(get("nats_unique", 0.0), get("count_unique", 0.0))
            found["masked/accuracy"] = _ratio(get("right", 0.0), get("count", 0.0))
        if self.mean_K is not None:
            most = math.log(len(self.mean_K)) * self.judged
            mean_K = torch.from_numpy(self.mean_K / max(1, self.judged))
            marginal = float(torch.special.entr(mean_K).sum()) * self.judged
            found["teacher/marginal"] = _ratio(marginal, most)
            found["teacher/sharpness"] = _ratio(self.entropy, most)
            # What an answer says of its window, which is nothing where all answers are the same.
            found["teacher/information"] = _ratio(marginal - self.entropy, most)
        found |= {name: _ratio(*total) for name, total in self.means.items()}
        return found | self._features()

    def _features(self) -> dict[str, float]:
        if "pooled" not in self.vectors:
            return {}
        pooled_ND = self.vectors["pooled"]
        kept = {name: self.vectors[name][:, 0] for name in _SINGLE}
        gc_N, label_N = kept["gc"], kept["label"]
        fold_N = features.folds_of(
            np.stack([kept[name] for name in ("chrom", "start", "species")], axis=1)
        )
        rank = features.rankme(pooled_ND)
        composition_NF = np.stack([kept[name] for name in ("gc", "cpg", "repeat")], axis=1)
        return {
            "rankme": rank,
            "rankme_share": rank / max(1, min(pooled_ND.shape[1], len(pooled_ND) - 1)),
            "feature_std": features.feature_std(pooled_ND),
            "gc_r2": features.ridge_r2(pooled_ND, gc_N, fold_N),
            "composition_share": features.explained_share(pooled_ND, composition_NF),
            "knn/auroc": features.neighbor_auroc(pooled_ND, label_N, fold_N, cosine=True),
            "knn/gc_auroc": features.neighbor_auroc(gc_N[:, None], label_N, fold_N, cosine=False),
        }

    def _pooled(self, predictions: Mapping[str, Tensor]) -> None:
        pooled_BD = predictions["pooled"].detach().double().cpu().numpy()
        rows = {"pooled": pooled_BD}
        for name in _SINGLE:
            found = predictions.get(name)
            rows[name] = (
                np.full((len(pooled_BD), 1), _UNKNOWN.get(name, 0.0))
                if found is None
                else found.detach().double().cpu().numpy()[:, None]
            )
        self._keep(rows)

    def _keep(self, rows: Mapping[str, npt.NDArray[np.float64]]) -> None:
        for name, values in rows.items():
            if name in self.vectors:
                values = np.concatenate([self.vectors[name], values])
            self.vectors[name] = values[:KEPT_WINDOWS]

    def _teacher(self, sum_K: npt.NDArray[np.float64], entropy: float, judged: int) -> None:
        self.mean_K = sum_K if self.mean_K is None else self.mean_K + sum_K
        self.entropy += entropy
        self.judged += judged

    def _mean(self, name: str, total: float, count: int) -> None:
        before, counted = self.means.get(name, (0.0, 0))
        self.means[name] = (before + total, counted + count)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
