"""What simple rules predict: the yardsticks every profile model is held against.

All are fitted on windows of the train part; penalties and floors are chosen on the valid part.
Their predictions turn with the sequence: the reverse complement gets the same bins in reverse,
and the tracks of a strand pair change places.

Dimensions: B window, W base pair with margin, L base pair, N bin, T track, R row (a bin of a
window), F feature, P penalty, S share.
"""

from dataclasses import dataclass, replace

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
_ROWS = 50_000  # bins that a ridge is fitted on at most
_PENALTIES = np.logspace(-5, 1, 13)  # as shares of the features' variance
_FLOORS = (0.01, 0.03, 0.1, 0.3)  # of the track's mean; a rate must be above zero
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
class BinFeatures:
    """Features of the bins with a target, from those of each bin and of its two neighbors.

    They come in two sets. The reverse complement of a window has the bins in reverse, each with
    the same even features and with odd features of the other sign: what predicts both tracks of
    a strand pair alike, and what tells them apart.

    Attributes:
        features: gives a bin its features, on the strand it is read from.
        turned: column of each feature on the other strand.
        margin, bin_size, crop: of the store.
    """

    features: Representation
    turned: npt.NDArray[np.int64]
    margin: int
    bin_size: int
    crop: int

    def of(self, codes_BW: Codes) -> tuple[Rates, Rates]:
        """Even and odd features (B, N, F) of windows with the store's margin.

        Beyond the window lies N.
        """
        windows, width = codes_BW.shape
        bins_BXL = codes_BW[:, self.margin : width - self.margin].reshape(
            windows, -1, self.bin_size
        )
        if self.crop == 0:
            beyond = np.full((windows, 1, self.bin_size), N, np.uint8)
            bins_BXL = np.concatenate([beyond, bins_BXL, beyond], axis=1)
        else:
            bins_BXL = bins_BXL[:, self.crop - 1 : bins_BXL.shape[1] - self.crop + 1]
        found = self.features.embed(list(bins_BXL.reshape(-1, self.bin_size)), None, stranded=True)
        x_BXF = found.reshape(windows, bins_BXL.shape[1], -1)
        column = np.arange(len(self.turned))
        # A word that is its own reverse complement has no odd part.
        once, twice = column[column <= self.turned], column[column < self.turned]
        even = x_BXF[..., once] + x_BXF[..., self.turned[once]]
        odd = x_BXF[..., twice] - x_BXF[..., self.turned[twice]]
        before, here, after = slice(0, -2), slice(1, -1), slice(2, None)
        return (
            np.concatenate(
                [even[:, here], even[:, before] + even[:, after], odd[:, before] - odd[:, after]], 2
            ),
            np.concatenate(
                [odd[:, here], odd[:, before] + odd[:, after], even[:, before] - even[:, after]], 2
            ),
        )


@dataclass(frozen=True)
class BinRidge:
    """Ridge regression of each track on the features of its bin.

    The mean of a track and its strand pair is regressed on even features, half their difference
    on odd ones; a track without a pair has the first alone.

    Attributes:
        weights: (F, T) of even and of odd features.
        mean_F: of the even features; that of odd ones is zero by symmetry.
        mean_T: of the tracks. floor_T: the least rate.
    """

    features: BinFeatures
    weights: tuple[Rates, Rates]
    mean_F: Rates
    mean_T: Rates
    floor_T: Rates

    def rates(self, codes_BW: Codes) -> Rates:
        """(B, N, T) for windows with the store's margin."""
        even_BNF, odd_BNF = self.features.of(codes_BW)
        odd_BNF = odd_BNF[:, :, : len(self.weights[1])]
        rate_BNT = (even_BNF - self.mean_F) @ self.weights[0] + odd_BNF @ self.weights[1]
        return np.asarray(np.maximum(rate_BNT + self.mean_T, self.floor_T), dtype=np.float32)


def fit_baseline(
    name: str, store: ProfileStore, species: str, seed: int = 0
) -> MeanProfile | BinRidge:
    """One of `BASELINES`, for the tracks of one species in the store's order."""
    if name == "mean-profile":
        return _mean_profile(store, species)
    if name == "gc-ridge":
        return _ridge(GCContent(), np.arange(2), store, species, seed)
    return _ridge(KmerCounts(_LONGEST), turned_words(_LONGEST), store, species, seed)


def turned_words(longest: int) -> npt.NDArray[np.int64]:
    """Column of the reverse complement of each column of stranded `KmerCounts`."""
    columns, first = [], 0
    for k in range(1, longest + 1):
        rest, turned = np.arange(4**k), np.zeros(4**k, np.int64)
        for _ in range(k):
            turned = turned * 4 + (3 - rest % 4)
            rest = rest // 4
        columns.append(first + turned)
        first += 4**k
    return np.concatenate(columns)


def _mean_profile(store: ProfileStore, species: str) -> MeanProfile:
    rows = _rows(store, species, "train")
    pair = store.tracks(species).strand_permutation()
    total = np.zeros((store.bins, len(pair)))
    step = max(1, _BATCH // store.length)
    for first in range(0, len(rows), step):
        total += store.targets(species, rows[first : first + step]).sum(0, dtype=np.float64)
    mean = total / len(rows)
    return MeanProfile((mean + mean[::-1, pair]) / 2)


def _ridge(
    kind: Representation,
    turned: npt.NDArray[np.int64],
    store: ProfileStore,
    species: str,
    seed: int,
) -> BinRidge:
    features = BinFeatures(kind, turned, store.margin, store.bin_size, store.crop)
    moments = {}
    for part in ("train", "valid"):
        rows = generator(seed, "ridge", species, part).permutation(_rows(store, species, part))
        kept = np.sort(rows[: max(1, -(-_ROWS // store.bins))])
        moments[part] = _normal_equations(features, store, species, kept, part)
    weights = []
    for train, valid in zip(moments["train"], moments["valid"], strict=True):
        weight_PFT = train.solutions()
        best_T = np.argmax(valid.correlations(weight_PFT), axis=0)
        weight_FT = weight_PFT[best_T, :, np.arange(len(best_T))].T
        weights.append(np.ascontiguousarray(weight_FT, dtype=np.float32))
    even = moments["train"][0]
    ridge = BinRidge(
        features, (weights[0], weights[1]), even.mean_F.astype(np.float32),
        even.mean_T.astype(np.float32), np.full(len(even.mean_T), -np.inf, np.float32),
    )  # fmt: skip
    return replace(ridge, floor_T=_floors(ridge, store, species, kept))


def _floors(
    ridge: BinRidge, store: ProfileStore, species: str, rows: npt.NDArray[np.int64]
) -> Rates:
    """The least rate of each track: the one with the best Poisson likelihood of these windows."""
    mean_T = np.maximum(ridge.mean_T, 1e-6)
    total_ST = np.zeros((len(_FLOORS), len(mean_T)))
    step = max(1, _BATCH // store.length)
    for first in range(0, len(rows), step):
        batch = rows[first : first + step]
        rate_BNT = ridge.rates(store.sequence(species, batch))
        target_BNT = store.targets(species, batch).astype(np.float32)
        for number, share in enumerate(_FLOORS):
            above_BNT = np.maximum(rate_BNT, np.float32(share) * mean_T)
            total_ST[number] += (above_BNT - target_BNT * np.log(above_BNT)).sum((0, 1))
    return np.asarray(np.array(_FLOORS)[total_ST.argmin(0)] * mean_T, dtype=np.float32)


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


class _Sums:
    """Sums of rows of features and tracks, about the means of the first rows."""

    def __init__(self, centered: bool) -> None:
        self.centered = centered
        self.count = self.wide = 0
        self.about: Rates = np.zeros(1, np.float32)
        self.sums: list[Values] = [np.zeros(1), np.zeros(1), np.zeros(1)]

    def add(self, x_BNF: Rates, y_BNT: Rates) -> None:
        """Take in the bins of some windows."""
        wide = self.wide = x_BNF.shape[2]
        z_RZ = np.concatenate([x_BNF, y_BNT], axis=2).reshape(-1, wide + y_BNT.shape[2])
        if self.centered and not self.count:
            self.about = np.asarray(z_RZ.mean(0), np.float32)
        z_RZ -= self.about
        added = (z_RZ[:, :wide].T @ z_RZ, z_RZ.sum(0), np.square(z_RZ[:, wide:]).sum(0))
        self.sums = [
            old + new.astype(np.float64) for old, new in zip(self.sums, added, strict=True)
        ]
        self.count += len(z_RZ)

    def moments(self) -> _Moments:
        """Of all rows so far; about zero where they are not to be centered."""
        wide = self.wide
        products, mean, squares = (each / self.count for each in self.sums)
        if not self.centered:
            mean = np.zeros_like(mean)
        centered, center = products - np.outer(mean[:wide], mean), self.about + mean
        return _Moments(
            center[:wide], center[wide:], centered[:, :wide], centered[:, wide:],
            squares - mean[wide:] ** 2,
        )  # fmt: skip


def _normal_equations(
    features: BinFeatures,
    store: ProfileStore,
    species: str,
    rows: npt.NDArray[np.int64],
    part: str,
) -> tuple[_Moments, _Moments]:
    """The moments of windows with even and with odd features."""
    pair = store.tracks(species).strand_permutation()
    stranded = bool((pair != np.arange(len(pair))).any())
    step = max(1, _BATCH // store.length)
    batches = [rows[first : first + step] for first in range(0, len(rows), step)]
    sums = (_Sums(centered=True), _Sums(centered=False))
    for batch in progress(batches, f"{features.features.name} {species} {part}"):
        even_BNF, odd_BNF = features.of(store.sequence(species, batch))
        y_BNT = store.targets(species, batch).astype(np.float32) * np.float32(0.5)
        sums[0].add(even_BNF, y_BNT + y_BNT[:, :, pair])
        # Without a strand pair there is nothing that odd features could tell apart.
        kept = odd_BNF if stranded else odd_BNF[:, :, :1]
        sums[1].add(kept, y_BNT - y_BNT[:, :, pair])
    return sums[0].moments(), sums[1].moments()


def _rows(store: ProfileStore, species: str, part: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero((store.windows(species)["split"] == part).to_numpy())
