"""What simple rules predict: the yardsticks every profile model is held against.

All are fitted on windows of the train part and chosen on the valid part. Their predictions turn
with the sequence: the reverse complement gets the same bins in reverse, and the tracks of a
strand pair get the same values.

Dimensions: B window, W base pair with margin, L base pair, N bin, T track, R row (a bin of a
window), F feature, P penalty.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import Codes, N
from cislens.progress import track as progress
from cislens.randomness import generator
from cislens.representations.baselines import GCContent, KmerCounts
from cislens.representations.contract import Representation
from cislens.signal.store import ProfileStore

Values = npt.NDArray[np.float64]
Rates = npt.NDArray[np.float32]

BASELINES = ("mean-profile", "gc-ridge", "kmer-ridge")
_LONGEST = 5  # bases of the longest word
_ROWS = 50_000  # bins that a ridge is fitted on at most; more changed no correlation by 0.01
_PENALTIES = np.logspace(-5, 1, 13)  # as shares of the features' variance
_FLOOR = 0.01  # of the track's mean; a rate must be above zero
_BATCH = 1 << 17  # bases at a time


@dataclass(frozen=True)
class MeanProfile:
    """The mean of the training windows at each bin, in every window the same.

    Attributes:
        rate_NT: the prediction.
    """

    rate_NT: Values

    def rates(self, codes_BW: Codes) -> Rates:
        """(B, N, T) for windows with the store's margin."""
        shape = (len(codes_BW), *self.rate_NT.shape)
        return np.broadcast_to(self.rate_NT, shape).astype(np.float32)


@dataclass(frozen=True)
class BinRidge:
    """Ridge regression of each track on features of the bin and of its two neighbors.

    Attributes:
        features: gives both strands of a sequence the same features.
        weight_FT, mean_F, mean_T: the regression, about the means of the rows it was fitted on.
        floor_T: the least rate.
        penalty_T: the penalty chosen for each track on the valid part.
    """

    features: Representation
    shape: tuple[int, int, int]  # margin, bin size, crop
    weight_FT: Values
    mean_F: Values
    mean_T: Values
    floor_T: Values
    penalty_T: Values

    def rates(self, codes_BW: Codes) -> Rates:
        """(B, N, T) for windows with the store's margin."""
        x_BNF = bin_features(self.features, codes_BW, *self.shape)
        centered = x_BNF - self.mean_F.astype(np.float32)
        rate_BNT = centered @ self.weight_FT.astype(np.float32) + self.mean_T
        return np.asarray(np.maximum(rate_BNT, self.floor_T), dtype=np.float32)


def fit_baseline(
    name: str, store: ProfileStore, species: str, seed: int = 0
) -> MeanProfile | BinRidge:
    """One of `BASELINES`, for the tracks of one species in the store's order."""
    if name == "mean-profile":
        return _mean_profile(store, species)
    kind: Representation = GCContent() if name == "gc-ridge" else KmerCounts(_LONGEST)
    return _ridge(kind, store, species, seed)


def bin_features(
    features: Representation, codes_BW: Codes, margin: int, bin_size: int, crop: int
) -> Rates:
    """(B, N, 2 f) of the bins with a target: f features of the bin, and the sum of its neighbors'.

    Beyond the window lies N.
    """
    windows, width = codes_BW.shape
    codes = codes_BW[:, margin : width - margin]
    bins_BXL = codes.reshape(windows, -1, bin_size)
    if crop == 0:
        beyond = np.full((windows, 1, bin_size), N, np.uint8)
        bins_BXL = np.concatenate([beyond, bins_BXL, beyond], axis=1)
    else:
        bins_BXL = bins_BXL[:, crop - 1 : bins_BXL.shape[1] - crop + 1]
    found = features.embed(list(bins_BXL.reshape(-1, bin_size)), None)
    x_BXF = found.reshape(windows, bins_BXL.shape[1], -1)
    return np.concatenate([x_BXF[:, 1:-1], x_BXF[:, :-2] + x_BXF[:, 2:]], axis=2)


def _mean_profile(store: ProfileStore, species: str) -> MeanProfile:
    rows = _rows(store, species, "train")
    pair = store.tracks(species).strand_permutation()
    total = np.zeros((store.bins, len(pair)))
    step = max(1, _BATCH // store.length)
    for first in range(0, len(rows), step):
        total += store.targets(species, rows[first : first + step]).sum(0, dtype=np.float64)
    mean = total / len(rows)
    return MeanProfile((mean + mean[::-1, pair]) / 2)


def _ridge(features: Representation, store: ProfileStore, species: str, seed: int) -> BinRidge:
    moments = {}
    for part in ("train", "valid"):
        rows = generator(seed, "ridge", species, part).permutation(_rows(store, species, part))
        kept = np.sort(rows[: max(1, -(-_ROWS // store.bins))])
        moments[part] = _normal_equations(features, store, species, kept, part)
    train, valid = moments["train"], moments["valid"]
    weight_PFT = train.solutions()
    best_T = np.argmax(valid.correlations(weight_PFT), axis=0)
    weight_FT = weight_PFT[best_T, :, np.arange(len(best_T))].T
    return BinRidge(
        features, (store.margin, store.bin_size, store.crop), weight_FT, train.mean_F,
        train.mean_T, _FLOOR * np.maximum(train.mean_T, 1e-6), _PENALTIES[best_T],
    )  # fmt: skip


@dataclass(frozen=True)
class _Moments:
    """Means, and mean products of the deviations from them."""

    mean_F: Values
    mean_T: Values
    xx_FF: Values
    xy_FT: Values
    yy_T: Values

    def solutions(self) -> Values:
        """Weights (P, F, T) under every penalty, on features scaled to unit variance."""
        scale_F = np.sqrt(np.maximum(np.diag(self.xx_FF), 1e-12))
        values, vectors = np.linalg.eigh(self.xx_FF / np.outer(scale_F, scale_F))
        turned_FT = vectors.T @ (self.xy_FT / scale_F[:, None])
        shrunk = [turned_FT / (np.maximum(values, 0) + p)[:, None] for p in _PENALTIES]
        return np.stack([vectors @ each / scale_F[:, None] for each in shrunk])

    def correlations(self, weight_PFT: Values) -> Values:
        """(P, T) of the predictions with these weights; 0 where nothing varies."""
        found = []
        for weight_FT in weight_PFT:
            cov_T = (weight_FT * self.xy_FT).sum(0)
            var_T = (weight_FT * (self.xx_FF @ weight_FT)).sum(0) * self.yy_T
            found.append(cov_T / np.sqrt(np.where(var_T > 0, var_T, np.inf)))
        return np.stack(found)


def _normal_equations(
    features: Representation,
    store: ProfileStore,
    species: str,
    rows: npt.NDArray[np.int64],
    part: str,
) -> _Moments:
    """The moments of windows, summed batch by batch about the first batch's means."""
    pair = store.tracks(species).strand_permutation()
    step = max(1, _BATCH // store.length)
    batches = [rows[first : first + step] for first in range(0, len(rows), step)]
    about: Rates = np.empty(0, np.float32)
    sums: list[Values] = [np.zeros(1), np.zeros(1), np.zeros(1)]  # products, values, squares
    count = wide = 0
    for batch in progress(batches, f"{features.name} {species} {part}"):
        codes = store.sequence(species, batch)
        x_BNF = bin_features(features, codes, store.margin, store.bin_size, store.crop)
        y_BNT = store.targets(species, batch).astype(np.float32)
        y_BNT = (y_BNT + y_BNT[:, :, pair]) * np.float32(0.5)
        wide = x_BNF.shape[2]
        z_RZ = np.concatenate([x_BNF, y_BNT], axis=2).reshape(-1, wide + len(pair))
        about = about if count else np.asarray(z_RZ.mean(0), np.float32)
        z_RZ -= about
        added = (z_RZ[:, :wide].T @ z_RZ, z_RZ.sum(0), np.square(z_RZ[:, wide:]).sum(0))
        sums = [old + new.astype(np.float64) for old, new in zip(sums, added, strict=True)]
        count += len(z_RZ)
    products, mean, squares = (each / count for each in sums)
    centered, center = products - np.outer(mean[:wide], mean), about + mean
    return _Moments(
        center[:wide], center[wide:], centered[:, :wide], centered[:, wide:],
        squares - mean[wide:] ** 2,
    )  # fmt: skip


def _rows(store: ProfileStore, species: str, part: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero((store.windows(species)["split"] == part).to_numpy())
