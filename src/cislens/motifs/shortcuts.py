"""What composition alone tells about pairs that a model is to tell apart.

A model can learn to match sequences with contexts by comparing their GC content, and to tell
segments that follow each other by isochores and repeats, and learn nothing about regulation. Each
rule here is a logistic model that knows nothing else, fitted to pairs of the training part.

Dimensions: B locus, P pair, F feature.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError
from cislens.genome.codes import Codes, gc_content
from cislens.genome.sampling import cpg_observed_expected
from cislens.motifs.batch import Ints
from cislens.motifs.loader import Loci, RegionLoader
from cislens.motifs.negatives import CALIPERS, composition

logger = logging.getLogger("cislens")

Floats = npt.NDArray[np.float64]

# Columns of the covariates that each rule knows: GC content, CpG, repeats.
RULES = {"GC": (0,), "GC and CpG": (0, 1), "repeats": (2,)}
_REPEATS = 2
_SCHEMA = {
    "task": pl.String, "part": pl.String, "rule": pl.String,
    "auroc": pl.Float64, "pairs": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a task: covariates (P, 3) of either side, the features that compare them, labels."""

    left_P3: Floats
    right_P3: Floats
    unlike_P3: Floats
    label_P: Ints

    def features(self, columns: tuple[int, ...]) -> Floats:
        chosen = list(columns)
        left, right = self.left_P3[:, chosen], self.right_P3[:, chosen]
        return np.concatenate([self.unlike_P3[:, chosen], left, right, right**2], axis=1)


def shortcut_audit(
    loader_train: RegionLoader, loader_valid: RegionLoader, batches: int = 64
) -> pl.DataFrame:
    """How well simple rules tell the pairs of a task apart.

    A pair of `match` is a locus with its own or another context. Both sides are known by the
    composition of their central regions, which is the very same number for a locus and its own
    context; so a rule sees differences only beyond the calipers of matched pairs: smaller ones
    no matrix of motifs tells. A pair of `next` is two segments, known by their sequences, but for
    repeats, which are known by region.

    Args:
        batches: of each part, at most; those of later epochs follow where training has fewer.
            Rules are fitted to every other training batch and judged on the rest.

    Returns:
        `task, part, rule, auroc, pairs`: each rule of each task whose weight is not 0, judged on
        the pairs of the parts `train` and `valid`.
    """
    rows = []
    for task in ("match", "next"):
        if not getattr(loader_train.terms, task):
            continue
        fitted = _pairs(loader_train, task, range(0, max(batches, 2), 2))
        judged = {
            "train": _pairs(loader_train, task, range(1, max(batches, 2), 2)),
            "valid": _pairs(loader_valid, task, range(min(batches, len(loader_valid)))),
        }
        for part, pairs in judged.items():
            for rule, columns in RULES.items():
                auroc = _auroc(fitted, pairs, columns)
                rows.append((task, part, rule, auroc, len(pairs.label_P)))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def require_clean(audit: pl.DataFrame, limit: float = 0.55, refuse: bool = True) -> None:
    """Refuse training pairs that a rule of composition tells apart; warn of validation pairs.

    A model learns from the former; the latter only make it look better than it is, and in a part
    of few regions there may be no alike ones. A rule passes the limit if it does so by more than
    two standard errors of the AUROC of as many pairs told apart by chance.

    Args:
        refuse: otherwise only warn, as is due for negatives that are drawn at random on purpose.

    Raises:
        CislensError: that names each task and rule beyond the limit.
    """
    half = pl.col("pairs") / 2
    error = ((2 * half + 1) / (12 * half**2)).sqrt()
    beyond = audit.filter(pl.col("auroc") - 2 * error > limit)
    for part, found in beyond.group_by("part", maintain_order=True):
        rules = "; ".join(
            f"{row['task']} by {row['rule']} with an AUROC of {row['auroc']:.2f}"
            for row in found.iter_rows(named=True)
        )
        message = (
            f"{part[0]} pairs can be told apart by composition alone: {rules} (at most {limit})."
        )
        if refuse and part[0] == "train":
            raise CislensError(
                f"{message} A model would learn that and nothing else. Set `negatives: matched`; "
                "if they are, the store has too few regions of like composition: add peaks, or "
                "set the weight to 0."
            )
        logger.warning("%s", message)


def _pairs(loader: RegionLoader, task: str, numbers: range) -> _Pairs:
    parts = [
        _match_pairs(loader, loci) if task == "match" else _next_pairs(loader, loci)
        for loci in _loci(loader, numbers)
    ]
    return _Pairs(
        np.concatenate([part.left_P3 for part in parts]),
        np.concatenate([part.right_P3 for part in parts]),
        np.concatenate([part.unlike_P3 for part in parts]),
        np.concatenate([part.label_P for part in parts]),
    )


def _loci(loader: RegionLoader, numbers: range) -> Iterator[Loci]:
    for number in numbers:
        yield loader.loci(*divmod(number, len(loader)))


def _match_pairs(loader: RegionLoader, loci: Loci) -> _Pairs:
    assert loci.other is not None
    known_N3 = composition(loader.store)
    left_P3 = known_N3[np.concatenate([loci.row_B, loci.row_B])]
    right_P3 = known_N3[np.concatenate([loci.row_B, loci.other.row_B])]
    label_P = np.repeat([1, 0], len(loci.row_B))
    return _Pairs(left_P3, right_P3, _beyond(left_P3 - right_P3), label_P)


def _next_pairs(loader: RegionLoader, loci: Loci) -> _Pairs:
    assert loci.second_B is not None
    repeats_N = composition(loader.store)[:, _REPEATS]
    first_BL, second_BL = np.split(loader.sequences(loci), 2, axis=1)
    left_P3 = _of_sequences(first_BL, repeats_N[loci.row_B])
    right_P3 = _of_sequences(second_BL, repeats_N[loci.second_B])
    unlike_P3 = np.abs(left_P3 - right_P3)
    unlike_P3[:, _REPEATS] = _beyond(left_P3 - right_P3)[:, _REPEATS]
    return _Pairs(left_P3, right_P3, unlike_P3, (loci.second_B == loci.row_B).astype(np.int64))


def _of_sequences(codes_BL: Codes, repeats_B: Floats) -> Floats:
    return np.stack([gc_content(codes_BL), cpg_observed_expected(codes_BL), repeats_B], axis=1)


def _beyond(difference_P3: Floats) -> Floats:
    """How much a difference exceeds the caliper, in calipers."""
    excess: Floats = np.maximum(np.abs(difference_P3) / CALIPERS - 1, 0)
    return excess


def _auroc(fitted: _Pairs, judged: _Pairs, columns: tuple[int, ...]) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rule = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    rule.fit(fitted.features(columns), fitted.label_P)
    return float(roc_auc_score(judged.label_P, rule.decision_function(judged.features(columns))))
