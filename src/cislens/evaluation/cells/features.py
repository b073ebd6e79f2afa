"""What each arm knows of a region in a cell type.

No arm is told how open the region itself is in that cell type. Dimensions: N pair, L base pair,
D channels, R region of the store, C cell type.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from cislens.evaluation.cells.examples import Pairs
from cislens.genome.codes import one_hot
from cislens.models.genebert.contract import RegionContext
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.motifs.contexts import Neighborhoods, positions
from cislens.motifs.store import RegionStore
from cislens.progress import track
from cislens.randomness import seed_of
from cislens.representations.baselines import KmerCounts
from cislens.representations.seeding import seeded

Features = npt.NDArray[np.float32]
FeaturesOf = Callable[[Pairs], Features]

_BATCH = 64
# Neighbors at either side, and the distance at which one counts half.
_NEIGHBORS, _HALF = 10, 10_000.0


def joint(model: MultimodalModel, store: RegionStore, name: str) -> FeaturesOf:
    """The model's vector of the sequence in the cell type."""
    around = Neighborhoods(store)
    model = model.eval()

    @torch.inference_mode()
    def features(pairs: Pairs) -> Features:
        found = []
        for first in track(range(0, len(pairs), _BATCH), f"embedding by {name}"):
            rows, cells = (each[first : first + _BATCH] for each in (pairs.row_N, pairs.cell_N))
            context = around.context(around.around(rows, cells, model.config.context), cells)
            x_B4L = torch.from_numpy(one_hot(_central(store, rows)))
            found.append(model.joint(x_B4L, RegionContext.from_numpy(context)).numpy())
        return np.concatenate(found)

    return features


def sequence_part(features: Features, model: MultimodalModel) -> Features:
    """Of what `joint` gives, the part that knows the sequence alone."""
    return features[:, : model.encoder.dim]


def random_twin(model: MultimodalModel, draw: int) -> MultimodalModel:
    """The same architecture with fresh weights, independent for each draw."""
    with seeded(seed_of("random_twin", draw)):
        return MultimodalModel(model.config).eval()


def kmers(store: RegionStore) -> FeaturesOf:
    """Words of 1 to 5 bases; knows no cell type."""
    counts = KmerCounts(5)

    def features(pairs: Pairs) -> Features:
        rows, back = np.unique(pairs.row_N, return_inverse=True)
        return counts.embed(list(_central(store, rows)), None)[back]

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


def cell_mean(store: RegionStore) -> FeaturesOf:
    """In how many other training cell types the region is open, and how open it is on average."""
    trained = (store.cells["split"] == "train").to_numpy()
    open_RC = np.asarray(store.open).astype(np.float32)
    access_RC = np.asarray(store.access, np.float32)

    def features(pairs: Pairs) -> Features:
        itself_N = trained[pairs.cell_N]
        others_N = np.maximum(trained.sum() - itself_N, 1)
        columns = []
        for values_RC in (open_RC, access_RC):
            total_N = values_RC[:, trained].sum(1)[pairs.row_N]
            own_N = np.where(itself_N, values_RC[pairs.row_N, pairs.cell_N], 0)
            columns.append((total_N - own_N) / others_N)
        return np.stack(columns, axis=1).astype(np.float32)

    return features


def neighbors(store: RegionStore) -> FeaturesOf:
    """How open the regions beside it are in the cell type, near ones counting more.

    Of the ten nearest regions of the store at either side on the chromosome, in the same part of
    the split: means weighted by 1 / (1 + distance / 10 kb).
    """
    position_R = positions(store.regions)
    split_R = store.regions["split"].to_numpy()
    open_RC = np.asarray(store.open).astype(np.float32)
    access_RC = np.asarray(store.access, np.float32)
    steps = np.concatenate([np.arange(-_NEIGHBORS, 0), np.arange(1, _NEIGHBORS + 1)])

    def features(pairs: Pairs) -> Features:
        index_NK = pairs.row_N[:, None] + steps
        inside_NK = (index_NK >= 0) & (index_NK < len(position_R))
        index_NK = np.where(inside_NK, index_NK, 0)
        away_NK = np.abs(position_R[index_NK] - position_R[pairs.row_N][:, None])
        same_NK = inside_NK & (split_R[index_NK] == split_R[pairs.row_N][:, None])
        # Chromosomes lie 100 Mb apart in these positions, so that others have no weight.
        weight_NK = same_NK / (1 + away_NK / _HALF)
        weight_NK /= np.maximum(weight_NK.sum(1, keepdims=True), 1e-9)
        means = [
            (values_RC[index_NK, pairs.cell_N[:, None]] * weight_NK).sum(1)
            for values_RC in (open_RC, access_RC)
        ]
        return np.stack(means, axis=1).astype(np.float32)

    return features


def _central(store: RegionStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Codes (n, width) of regions without their margins."""
    return store.sequence(rows)[:, store.margin : store.margin + store.width]
