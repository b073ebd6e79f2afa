"""What a set of vectors of windows looks like: how many directions it uses, and for what.

All of them are NaN where there is too little to measure.

Dimensions: N window, D channel, F feature of the composition.
"""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from cislens.objectives.multimodal.metrics import auroc

Values = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]
Folds = npt.NDArray[np.int64]

# Fewer windows than this say nothing about their spread.
FEWEST = 8
FOLDS = 5
NEIGHBORS = 20
# Spread below this share of the vectors' size is rounding.
_NOTHING = 1e-6


def rankme(vectors_ND: Values) -> float:
    """Effective rank: exp of the entropy of the singular values of the centered vectors.

    RankMe (Garrido et al. 2023), with the vectors centered. 1 to min(D, N - 1); 0 where all
    vectors are the same.
    """
    if not _measurable(vectors_ND):
        return float("nan")
    centered_ND, still = _centered(vectors_ND)
    if still:
        return 0.0
    singular_D = np.linalg.svd(centered_ND, compute_uv=False)
    share_D = singular_D[singular_D > 0] / singular_D.sum()
    return float(np.exp(-(share_D * np.log(share_D)).sum()))


def feature_std(vectors_ND: Values) -> float:
    """sqrt(D) times the mean standard deviation of a channel of the vectors at length 1.

    About 1 where directions are spread evenly, 0 where all vectors point the same way.
    """
    if not _measurable(vectors_ND):
        return float("nan")
    vectors_ND = np.asarray(vectors_ND, dtype=np.float64)
    length_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND = vectors_ND / np.maximum(length_N1, np.finfo(np.float64).tiny)
    return float(np.sqrt(unit_ND.shape[1]) * unit_ND.std(axis=0).mean())


def ridge_r2(vectors_ND: Values, value_N: Values, fold_N: Folds) -> float:
    """R2 of a ridge regression of a value on the vectors, each fold told from the others."""
    if not _measurable(vectors_ND) or len(value_N) < 2 * FOLDS or not np.std(value_N) > _NOTHING:
        return float("nan")
    vectors_ND, value_N = np.asarray(vectors_ND, np.float64), np.asarray(value_N, np.float64)
    told_N = np.empty_like(value_N)
    for fold in np.unique(fold_N):
        there_N = fold_N == fold
        scaler = StandardScaler().fit(vectors_ND[~there_N])
        ridge = Ridge().fit(scaler.transform(vectors_ND[~there_N]), value_N[~there_N])
        told_N[there_N] = ridge.predict(scaler.transform(vectors_ND[there_N]))
    return float(1 - np.square(told_N - value_N).sum() / np.square(value_N - value_N.mean()).sum())


def explained_share(vectors_ND: Values, feature_NF: Values) -> float:
    """Share of the vectors' variance that a linear map of the features explains.

    Adjusted for the number of features, so that features that say nothing explain 0 on average.
    """
    count = len(vectors_ND)
    if not _measurable(vectors_ND) or not np.isfinite(feature_NF).all():
        return float("nan")
    feature_NF, _ = _centered(feature_NF)
    feature_NF = feature_NF[:, feature_NF.std(axis=0) > _NOTHING]
    free = count - 1 - feature_NF.shape[1]
    centered_ND, still = _centered(vectors_ND)
    if still or not feature_NF.shape[1] or free < FEWEST:
        return float("nan")
    map_FD, *_ = np.linalg.lstsq(feature_NF, centered_ND, rcond=None)
    left = np.square(centered_ND - feature_NF @ map_FD).sum() / np.square(centered_ND).sum()
    return float(1 - left * (count - 1) / free)


def neighbor_auroc(vectors_ND: Values, label_N: Values, fold_N: Folds, cosine: bool) -> float:
    """AUROC of a label told by its share among the `NEIGHBORS` nearest windows of other folds.

    Args:
        label_N: 0 or 1; windows of another label are left out.
        cosine: nearest by cosine of the centered vectors, otherwise by distance.
    """
    known_N = (label_N == 0) | (label_N == 1)
    vectors_ND, own_N, fold_N = vectors_ND[known_N], label_N[known_N] == 1, fold_N[known_N]
    if not _measurable(vectors_ND) or own_N.all() or not own_N.any():
        return float("nan")
    if min(len(fold_N) - (fold_N == fold).sum() for fold in np.unique(fold_N)) < NEIGHBORS:
        return float("nan")
    vectors_ND, _ = _centered(vectors_ND)
    if cosine:
        length_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        vectors_ND = vectors_ND / np.maximum(length_N1, np.finfo(np.float64).tiny)
    # |a - b|^2 without |a|^2, which is the same for all neighbors of a.
    away_NN = np.square(vectors_ND).sum(axis=1) - 2 * vectors_ND @ vectors_ND.T
    away_NN[fold_N[:, None] == fold_N[None, :]] = np.inf
    nearest_NK = np.argpartition(away_NN, NEIGHBORS - 1, axis=1)[:, :NEIGHBORS]
    return auroc(own_N[nearest_NK].mean(axis=1).astype(np.float32), own_N)


def folds_of(place_N3: npt.NDArray[np.int64]) -> Folds:
    """`FOLDS` runs of windows in the order of their places, so that neighbors stay together.

    Args:
        place_N3: chromosome, start and species; only their order counts.
    """
    order_N = np.lexsort((place_N3[:, 2], place_N3[:, 1], place_N3[:, 0]))
    fold_N = np.empty(len(order_N), dtype=np.int64)
    fold_N[order_N] = np.arange(len(order_N)) * FOLDS // max(1, len(order_N))
    return fold_N


def _measurable(vectors_ND: Values) -> bool:
    return len(vectors_ND) >= FEWEST and bool(np.isfinite(vectors_ND).all())


def _centered(values_ND: Values) -> tuple[Floats, bool]:
    """The values minus their mean, and whether nothing but rounding is left."""
    values_ND = np.asarray(values_ND, dtype=np.float64)
    centered_ND = values_ND - values_ND.mean(axis=0)
    size = float(np.abs(values_ND).max(initial=0.0))
    return centered_ND, bool(np.abs(centered_ND).max(initial=0.0) <= _NOTHING * size)
