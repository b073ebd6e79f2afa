"""What each arm knows of a region in a cell type.

No arm is told how open the region itself is in that cell type; `blind` tries that. Dimensions:
N pair, L base pair, D channels, R region of the store, C cell type, K neighbor.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cislens.evaluation.cells.examples import Pairs
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.motifs.contexts import positions
from cislens.motifs.store import RegionStore
from cislens.randomness import seed_of
from cislens.representations.baselines import KmerCounts
from cislens.representations.joint import JointEmbedding
from cislens.representations.seeding import seeded

Features = npt.NDArray[np.float32]
FeaturesOf = Callable[[Pairs], Features]

# Neighbors at either side, and the distance at which one counts half.
_NEIGHBORS, _HALF = 10, 10_000.0
_FOLDS = 3


def joint(model: MultimodalModel, store: RegionStore, name: str) -> FeaturesOf:
    """The model's vector of the sequence in the cell type."""
    embedding = JointEmbedding(model, store, name)
    return lambda pairs: embedding.embed(pairs.row_N, pairs.cell_N)


def random_twin(model: MultimodalModel, draw: int) -> MultimodalModel:
    """The same architecture with fresh weights, independent for each draw."""
    with seeded(seed_of("random_twin", draw)):
        return MultimodalModel(model.config).eval()


def kmers(store: RegionStore) -> FeaturesOf:
    """Words of 1 to 5 bases; knows no cell type."""
    counts = KmerCounts(5)

    def features(pairs: Pairs) -> Features:
        rows, back = np.unique(pairs.row_N, return_inverse=True)
        return counts.embed(list(store.central(rows)), None)[back]

    return features


def motifs(store: RegionStore) -> FeaturesOf:
    """The store's motif values of the region; knows no cell type."""

    def features(pairs: Pairs) -> Features:
        rows, back = np.unique(pairs.row_N, return_inverse=True)
        return np.asarray(store.motif_values(rows), np.float32)[back]

    return features


def composition(store: RegionStore) -> FeaturesOf:
    """GC content and CpG of the region."""
    table = store.regions.select("gc", "cpg").to_numpy().astype(np.float32)
    return lambda pairs: np.nan_to_num(table[pairs.row_N])


def folds_of(store: RegionStore) -> npt.NDArray[np.int64]:
    """Fold of each training cell type, up to three; -1 for the others (C,)."""
    trained_C = (store.cells["split"] == "train").to_numpy()
    folds = min(_FOLDS, int(trained_C.sum()))
    return np.where(trained_C, (np.cumsum(trained_C) - 1) % max(folds, 1), -1)


def cell_mean(store: RegionStore, fold: int | None = None) -> FeaturesOf:
    """In which share of the training cell types the region is open, and how open on average.

    Cell types of a fold do not count: of `fold`, or else of the one that a pair is of. A head
    must learn from the pairs of one fold at a time. If every cell type were left out only of its
    own pairs, what is left of a known total would tell a head that knows the sequence, and with
    it the total, what it is asked; and for a new cell type nothing is left out.
    """
    fold_C = folds_of(store)
    open_RC = np.asarray(store.is_open).astype(np.float32)
    access_RC = np.asarray(store.access, np.float32)

    def features(pairs: Pairs) -> Features:
        fold_N = fold_C[pairs.cell_N] if fold is None else np.full(len(pairs), fold)
        others_NC = (fold_C >= 0) & (fold_C != fold_N[:, None])
        weight_NC = others_NC / np.maximum(others_NC.sum(1, keepdims=True), 1)
        means = [
            np.where(others_NC, values_RC[pairs.row_N] * weight_NC, 0).sum(1)
            for values_RC in (open_RC, access_RC)
        ]
        return np.stack(means, axis=1).astype(np.float32)

    return features


def neighbors(store: RegionStore) -> FeaturesOf:
    """How open the regions beside it are in the cell type, near ones counting more.

    Of the ten nearest regions of the store at either side on the chromosome, in the same part of
    the split: means weighted by 1 / (1 + distance / 10 kb).
    """
    position_R = positions(store.regions)
    split_R = store.regions["split"].to_numpy()
    chrom_R = store.regions["chrom"].rle_id().to_numpy()
    open_RC = np.asarray(store.is_open).astype(np.float32)
    access_RC = np.asarray(store.access, np.float32)
    steps = np.concatenate([np.arange(-_NEIGHBORS, 0), np.arange(1, _NEIGHBORS + 1)])

    def features(pairs: Pairs) -> Features:
        index_NK = pairs.row_N[:, None] + steps
        inside_NK = (index_NK >= 0) & (index_NK < len(position_R))
        index_NK = np.where(inside_NK, index_NK, 0)
        away_NK = np.abs(position_R[index_NK] - position_R[pairs.row_N][:, None])
        for kind_R in (split_R, chrom_R):
            inside_NK &= kind_R[index_NK] == kind_R[pairs.row_N][:, None]
        weight_NK = inside_NK / (1 + away_NK / _HALF)
        weight_NK /= np.maximum(weight_NK.sum(1, keepdims=True), 1e-9)
        means = [
            (values_RC[index_NK, pairs.cell_N[:, None]] * weight_NK).sum(1)
            for values_RC in (open_RC, access_RC)
        ]
        return np.stack(means, axis=1).astype(np.float32)

    return features
