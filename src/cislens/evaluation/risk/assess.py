"""Whether risk scores tell cases from controls, beyond covariates and beyond simple scores.

Dimensions: N person, L locus, K covariate, B label vector: the real one first, then shuffles.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata

from cislens.errors import CislensError
from cislens.evaluation.risk.logistic import Floats, Penalty, nested_scores
from cislens.evaluation.statistics import Contrast, Predictions, resample
from cislens.progress import track
from cislens.randomness import generator

COVARIATES = "covariates"
_FEWEST = 20  # cases, and controls
_STRATA = 5


@dataclass(frozen=True)
class Assessment:
    """What risk scores reach on people that no model was trained on.

    Attributes:
        results: one row an arm: `arm, loci, people, cases, auroc, low, high` (95 % bootstrap over
            people), `gain, gain_low, gain_high` over covariates alone (null without any),
            `p, null_auroc, permutations`. `p` is of the gain (null for the
            covariates themselves), or of the AUROC without covariates.
        differences: AUROC of the first arm minus that of every other one, paired.
        people: `arm, person, score`: linear predictors out of fold.
    """

    results: pl.DataFrame
    differences: pl.DataFrame
    people: pl.DataFrame


def assess(
    status_N: npt.NDArray[np.int64],
    arms: Mapping[str, npt.NDArray[np.float64]],
    covariates_NK: npt.NDArray[np.float64] | None = None,
    *,
    permutations: int = 1000,
    penalty: Penalty | None = None,
    seed: int = 0,
) -> Assessment:
    """Elastic-net logistic regression with nested validation, permutation p and intervals.

    Every arm is a matrix of features (N, L), fitted together with the covariates, which have no
    penalty. Folds and shuffles are the same for all arms, and each shuffle goes through the whole
    procedure. p = (1 + shuffles at least as good) / (1 + shuffles). With covariates labels
    are shuffled among people of like risk by the covariates, so that what these explain stays
    explained.

    Args:
        arms: the first is the one of interest, the others are controls.

    Raises:
        CislensError: with fewer than 20 cases or controls, or features that do not fit.
    """
    penalty = penalty or Penalty()
    _check(status_N, arms, covariates_NK)
    labels_NB = _shuffled(status_N, covariates_NK, permutations, penalty, seed)
    base_B = np.full(permutations + 1, 0.5)
    scores: dict[str, Floats] = {}
    aucs: dict[str, npt.NDArray[np.float64]] = {}
    names = [*([] if covariates_NK is None else [COVARIATES]), *arms]
    for name in track(names, "risk models"):
        parts = [] if covariates_NK is None else [covariates_NK]
        if name in arms:
            parts = [*parts, arms[name]]
        x_NP = np.concatenate(parts, axis=1)
        free = np.arange(x_NP.shape[1]) < (0 if covariates_NK is None else covariates_NK.shape[1])
        found_NB = nested_scores(x_NP, labels_NB, free, penalty, seed)
        scores[name], aucs[name] = found_NB[:, 0], auc_of_columns(labels_NB, found_NB)
        if name == COVARIATES:
            base_B = aucs[name]
    return _tables(status_N, arms, scores, aucs, base_B, permutations)


def auc_of_columns(y_NB: npt.ArrayLike, score_NB: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """AUROC of each column, ties counting half, (B,)."""
    y = np.asarray(y_NB, np.float64)
    ranks = rankdata(np.asarray(score_NB), axis=0)
    cases = y.sum(0)
    controls = len(y) - cases
    found: npt.NDArray[np.float64] = ((ranks * y).sum(0) - cases * (cases + 1) / 2) / (
        cases * controls
    )
    return found


def permutation_p(value_B: npt.NDArray[np.float64]) -> float:
    """Share of all values, the first one among them, that are at least the first."""
    return float((1 + (value_B[1:] >= value_B[0]).sum()) / len(value_B))


def _check(
    status: npt.NDArray[np.int64],
    arms: Mapping[str, npt.NDArray[np.float64]],
    covariates: npt.NDArray[np.float64] | None,
) -> None:
    cases = int((status == 1).sum())
    if not np.isin(status, (0, 1)).all():
        raise CislensError("the status of a person is 0 (control) or 1 (case).")
    if min(cases, len(status) - cases) < _FEWEST:
        raise CislensError(
            f"{cases} cases and {len(status) - cases} controls are too few; {_FEWEST} of each are "
            "the least."
        )
    given = {**arms, **({} if covariates is None else {COVARIATES: covariates})}
    for name, features in given.items():
        if features.ndim != 2 or len(features) != len(status) or not np.isfinite(features).all():
            raise CislensError(
                f"{name}: features of shape {features.shape} for {len(status)} people, or some are "
                "not finite."
            )


def _shuffled(
    status: npt.NDArray[np.int64],
    covariates: npt.NDArray[np.float64] | None,
    count: int,
    penalty: Penalty,
    seed: int,
) -> Floats:
    """The labels and `count` shuffles of them, inside strata of like risk by the covariates."""
    stratum = np.zeros(len(status), np.int64)
    if covariates is not None:
        free = np.ones(covariates.shape[1], bool)
        labels = status[:, None].astype(np.float32)
        risk = nested_scores(covariates, labels, free, penalty, seed)[:, 0]
        stratum = (rankdata(risk, method="ordinal") - 1) * _STRATA // len(status)
    rng = generator(seed, "shuffles")
    home = np.argsort(stratum, kind="stable")
    labels_NB = np.empty((len(status), count + 1), np.float32)
    labels_NB[:, 0] = status
    for column in range(1, count + 1):
        order = np.lexsort((rng.random(len(status)), stratum))
        labels_NB[home, column] = status[order]
    return labels_NB


def _tables(
    status: npt.NDArray[np.int64],
    arms: Mapping[str, npt.NDArray[np.float64]],
    scores: Mapping[str, Floats],
    aucs: Mapping[str, npt.NDArray[np.float64]],
    base_B: npt.NDArray[np.float64],
    permutations: int,
) -> Assessment:
    names = tuple(scores)
    resampled = resample(
        Predictions(
            names, np.stack([scores[name] for name in names])[:, None, :, None],
            status[:, None].astype(np.float64), np.arange(len(status)),
        ),
        "auroc",
    )  # fmt: skip
    rows: list[dict[str, object]] = []
    for name in names:
        value = resampled.value(name)
        gain: Contrast | None = None
        if COVARIATES in scores and name != COVARIATES:
            gain = resampled.difference(name, COVARIATES)
        # Shuffles that keep what covariates explain say nothing of the covariates themselves.
        p = None if name == COVARIATES else permutation_p(aucs[name] - base_B)
        rows.append({
            "arm": name, "loci": arms[name].shape[1] if name in arms else 0,
            "people": len(status), "cases": int(status.sum()),
            "auroc": value.point, "low": value.low, "high": value.high,
            "gain": gain and gain.point, "gain_low": gain and gain.low,
            "gain_high": gain and gain.high, "p": p,
            "null_auroc": float(aucs[name][1:].mean()), "permutations": permutations,
        })  # fmt: skip
    first, *others = list(arms)
    differences = []
    for other in others:
        found = resampled.difference(first, other)
        differences.append({
            "arm": first, "minus": other, "difference": found.point, "low": found.low,
            "high": found.high, "p": found.p,
        })  # fmt: skip
    floats = dict.fromkeys(("gain", "gain_low", "gain_high", "p"), pl.Float64)
    schema = {"arm": pl.String, "minus": pl.String,
              **dict.fromkeys(("difference", "low", "high", "p"), pl.Float64)}  # fmt: skip
    people = pl.concat(
        pl.DataFrame({"person": np.arange(len(status)), "score": scores[name]}).select(
            pl.lit(name).alias("arm"), "person", "score"
        )
        for name in names
    )
    return Assessment(
        pl.DataFrame(rows, schema_overrides=floats),
        pl.DataFrame(differences, schema=schema),
        people,
    )
