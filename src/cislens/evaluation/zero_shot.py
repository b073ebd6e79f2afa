"""Variant effects without training: which score of a representation, chosen on validation.

Name, layer and orientation of the score are chosen on the validation split and then stay; what
every other candidate reached there is reported beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.effects.alleles import available_scores, score_alleles, substitutions
from cislens.errors import CislensError, nearest
from cislens.evaluation.metrics import GROUPED, as_columns, metric_draws
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import Fold
from cislens.evaluation.track_scores import (
    is_track_score,
    score_by_tracks,
    score_sign,
    track_scores,
)
from cislens.representations.contract import Representation, TrackEffects

_FEWEST_LOCI = 3


@dataclass(frozen=True)
class ZeroShot:
    """The score that validation chose for a representation.

    Attributes:
        score: `source:measure`, see `effects.alleles`, or of tracks, see `track_scores`.
        orientation: -1 where validation says that a larger score is a smaller label, else 1.
        valid_metric: of the chosen score.
        tried: the metric on validation of every score, each in its better orientation; NaN where
            a score is the same for all variants.
    """

    representation: Representation
    card: TaskCard
    score: str
    orientation: int
    valid_metric: float
    tried: Mapping[str, float]

    def scores(self, fold: Fold) -> npt.NDArray[np.float32]:
        """(n, 1) of the variants of a fold, oriented."""
        found = _scored(self.representation, self.card, fold, [self.score])[self.score]
        return (self.orientation * found)[:, None]


def choose_score(
    representation: Representation,
    card: TaskCard,
    valid: Fold,
    judged: Fold | None = None,
    scores: Sequence[str] | None = None,
) -> ZeroShot:
    """Choose a representation's zero-shot score by the card's primary metric on validation.

    Metrics within matched sets are replaced by auroc, because a fold does not know its sets.

    Args:
        valid: the validation split, with labels.
        judged: the variants that will be scored; what is no substitution among them rules out
            masked likelihoods.
        scores: candidates; all that fit the task if None.

    Raises:
        CislensError: if a candidate, or all that the representation has, compares an unsigned
            score with a signed target; if no candidate varies.
    """
    if valid.labels is None or valid.alternates is None:
        raise CislensError(
            f"task {card.name}: a variant score is chosen on labelled variants; give the "
            "validation split of a variant task."
        )
    candidates = fitting_scores(representation, card, [valid, judged or valid], scores)
    metric = "auroc" if card.metric.primary in GROUPED else card.metric.primary
    y_N1 = as_columns(valid.labels)
    tried: dict[str, float] = {}
    turned: dict[str, int] = {}
    for name, values in _scored(representation, card, valid, candidates).items():
        same = bool((values == values[0]).all())
        forward, backward = (
            float("nan") if same else _metric(metric, y_N1, sign * values) for sign in (1, -1)
        )
        turned[name] = -1 if backward > forward else 1
        tried[name] = max(forward, backward)
    varied = [name for name in candidates if np.isfinite(tried[name])]
    if not varied:
        raise CislensError(
            f"{representation.name} gives all {len(valid)} validation variants of {card.name} "
            "the same score; it does not see the changed bases."
        )
    best = max(varied, key=lambda name: tried[name])
    return ZeroShot(representation, card, best, turned[best], tried[best], tried)


def fitting_scores(
    representation: Representation,
    card: TaskCard,
    folds: Sequence[Fold],
    scores: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """The candidates, or all scores a representation has, that may be held against the target.

    A score must be had for all variants of the folds.
    A signed target (alternate minus reference) takes signed scores; an unsigned one takes
    unsigned and directed scores. The inner product `dot` is tried only if it is named: it says
    more of the reference than of the change. Of an untrained encoder it reached a correlation of
    0.40 with the effects in LDLR, by how much of the window lies outside of the element.

    Raises:
        CislensError: if none may, or a candidate that was named may not.
    """
    of_one_base = all(substitutions(fold.sequences, fold.alternates or ()).all() for fold in folds)
    available = (
        *available_scores(representation, of_one_base),
        *track_scores(representation, card.species),
    )
    for name in scores or ():
        if name not in available:
            raise CislensError(
                f"{representation.name} has no variant score {name!r} for {card.name}. "
                f"{nearest(name, available)}"
            )
    wanted = ("signed",) if card.score_sign == "signed" else ("unsigned", "directed")
    allowed = tuple(name for name in available if score_sign(name) in wanted)
    wrong = [name for name in scores or () if name not in allowed]
    if wrong or not allowed:
        listed = ", ".join(allowed) or "none of its scores"
        raise CislensError(
            f"task {card.name} has {card.score_sign} effects, and {', '.join(wrong or available)} "
            f"of {representation.name} "
            f"{'is not' if len(wrong or available) == 1 else 'are not'}; allowed: {listed}. "
            "A head on the difference of the embeddings gives scores of either kind."
        )
    if scores is not None:
        return tuple(scores)
    return tuple(name for name in allowed if not name.endswith(":dot"))


@dataclass(frozen=True)
class ByLocus:
    """Whether a score tells variants of one locus apart, or only the loci.

    Attributes:
        pooled: the metric over all variants.
        within: its mean over the loci where it is defined, each weighted by its variants.
        between: the Pearson correlation of the loci's mean scores and mean labels; NaN with fewer
            than three loci.
        loci: the metric in each locus, NaN where undefined.
    """

    pooled: float
    within: float
    between: float
    loci: Mapping[str, float]


def by_locus(
    metric: str, y_N: npt.ArrayLike, scores_N: npt.ArrayLike, loci_N: Sequence[str]
) -> ByLocus:
    """A metric within and between loci, e.g. the blocks of a variant task.

    Args:
        y_N, scores_N: one label and one score per variant.
    """
    y, s = as_columns(y_N), as_columns(scores_N)
    loci = np.asarray(loci_N)
    values: dict[str, float] = {}
    weights, means = [], []
    for locus in np.unique(loci):
        here = loci == locus
        values[str(locus)] = _metric(metric, y[here], s[here, 0])
        weights.append(int(here.sum()))
        means.append((float(y[here].mean()), float(s[here].mean())))
    each = np.array(list(values.values()))
    defined = np.isfinite(each)
    within = (
        float(np.average(each[defined], weights=np.array(weights)[defined]))
        if (defined.any())
        else float("nan")
    )
    between = float("nan")
    if len(means) >= _FEWEST_LOCI:
        of_labels, of_scores = np.array(means).T
        between = _metric("pearson", of_labels[:, None], of_scores)
    return ByLocus(_metric(metric, y, s[:, 0]), within, between, values)


def _scored(
    representation: Representation, card: TaskCard, fold: Fold, names: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    assert fold.alternates is not None
    windows = fold.sequences, fold.alternates, card.species, card.stranded
    of_tracks = [name for name in names if is_track_score(name)]
    others = [name for name in names if name not in of_tracks]
    found = score_alleles(representation, *windows, others) if others else {}
    if of_tracks:
        assert isinstance(representation, TrackEffects)
        found |= score_by_tracks(representation, *windows, of_tracks)
    return found


def _metric(name: str, y_N1: npt.NDArray[np.float64], values: npt.NDArray[np.floating]) -> float:
    return float(metric_draws(name, y_N1, as_columns(values), np.ones((1, len(y_N1))))[0])
