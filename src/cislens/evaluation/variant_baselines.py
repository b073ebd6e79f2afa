"""Variant baselines: features that know the variant and its place, and nothing that was learned.

Shapes: n variants, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.evaluation.arms.features import LAST, ByView, difference_features
from cislens.evaluation.tasks.task import Fold, Task
from cislens.genome.codes import C, Codes, G, N
from cislens.representations.baselines import KmerCounts, OneHot
from cislens.representations.contract import Features, Kind

_LONGEST = 5  # of the k-mers that are counted around a variant
_FLANK = 10  # bases to either side of a variant that the one-hot baseline sees


@dataclass(frozen=True)
class VariantBaseline:
    """One of `BASELINES` as the source of an arm's features; see `arms.features.Source`."""

    task: Task
    name: str

    parameters = 0
    views = (LAST,)

    @property
    def kind(self) -> Kind:
        return "onehot" if self.name.startswith("onehot") else "composition"

    @property
    def digest(self) -> str:
        return f"variant-baseline/1/{self.name}"

    def features(self, fold: Fold, views: Sequence[str]) -> ByView:
        """Features (n, D) of the variants of a fold of the task."""
        return {LAST: baseline_features(self.task, fold, self.name)}


def baseline_features(task: Task, fold: Fold, name: str) -> Features:
    """Features (n, D) of one of `BASELINES` for the variants of a task's fold.

    Raises:
        CislensError: for another name, or a task without what the baseline needs.
    """
    if name not in BASELINES:
        raise CislensError(f"there is no variant baseline {name!r}. {nearest(name, BASELINES)}")
    if task.card.kind != "variant":
        raise CislensError(f"task {task.card.name} is no variant task but {task.card.kind}.")
    features: Features = BASELINES[name](task, fold).astype(np.float32)
    return features


def available_baselines(task: Task) -> tuple[str, ...]:
    """The baselines that a variant task has the columns for."""
    known = task.examples["tss_dist"].null_count() == 0
    return tuple(name for name in BASELINES if known or name != "tss-distance")


def _tss_distance(task: Task, fold: Fold) -> npt.NDArray[np.floating]:
    distance = fold.tss_dist
    if distance is None:
        raise CislensError(f"task {task.card.name} has no tss_dist for every variant.")
    far = np.log10(1 + np.abs(distance))
    return np.stack([far, far**2], axis=1)


def _kmer_change(task: Task, fold: Fold) -> npt.NDArray[np.floating]:
    """What changes in the k-mers that overlap the variant, and where it lies."""
    change = _embedded_change(task, fold, _LONGEST - 1, KmerCounts(_LONGEST).embed)
    return np.concatenate([change, _position(task, fold)], axis=1)


def _onehot_change(task: Task, fold: Fold) -> npt.NDArray[np.floating]:
    """Which base becomes which, the bases around it, and where it lies."""
    change = _embedded_change(task, fold, _FLANK, OneHot().embed)
    reference, _ = _cropped(fold, _FLANK)
    context = OneHot().embed(reference, None, task.card.stranded)
    return np.concatenate([change, context, _position(task, fold)], axis=1)


def _gc_change(task: Task, fold: Fold) -> npt.NDArray[np.floating]:
    """The change of the counts of G or C and of CpG, and the share of G and C around it."""
    assert fold.alternates is not None and task.card.score_sign is not None
    strong, cpg = [], []
    for windows in (fold.sequences, fold.alternates):
        codes = np.stack(windows)
        strong.append(((codes == C) | (codes == G)).sum(1))
        cpg.append(((codes[:, :-1] == C) & (codes[:, 1:] == G)).sum(1))
    counts = np.stack([strong, cpg], axis=2).astype(np.float32)
    change = difference_features(counts[0], counts[1], task.card.score_sign)
    called = (np.stack(fold.sequences) != N).sum(1)
    share = strong[0] / np.maximum(called, 1)
    return np.concatenate([change, share[:, None]], axis=1)


def _embedded_change(
    task: Task, fold: Fold, flank: int, embed: Callable[[list[Codes], None, bool], Features]
) -> Features:
    card = task.card
    assert card.score_sign is not None
    reference, alternate = (
        embed(windows, None, card.stranded) for windows in _cropped(fold, flank)
    )
    return difference_features(reference, alternate, card.score_sign)


def _cropped(fold: Fold, flank: int) -> tuple[list[Codes], list[Codes]]:
    """The bases around the anchor of both alleles, filled up with N at the window's ends."""
    assert fold.alternates is not None
    cropped = []
    for windows in (fold.sequences, fold.alternates):
        anchor = len(windows[0]) // 2
        filled = [np.pad(codes, flank, constant_values=N) for codes in windows]
        cropped.append([codes[anchor : anchor + 2 * flank + 1] for codes in filled])
    return cropped[0], cropped[1]


def _position(task: Task, fold: Fold) -> npt.NDArray[np.float64]:
    """Where in its block a variant lies, 0 to 1, and the square; no columns without positions."""
    if task.examples["pos"].null_count():
        return np.empty((len(fold), 0))
    block = ["chrom", "block_id"]
    low, high = pl.col("pos").min().over(block), pl.col("pos").max().over(block)
    place = (pl.col("pos") - low) / pl.max_horizontal(high - low, 1)
    places = task.examples.select("example_id", place=place)
    wanted = pl.DataFrame({"example_id": fold.ids})
    values = wanted.join(places, on="example_id", how="left", maintain_order="left")["place"]
    return np.stack([values.to_numpy(), values.to_numpy() ** 2], axis=1)


BASELINES: dict[str, Callable[[Task, Fold], npt.NDArray[np.floating]]] = {
    "tss-distance": _tss_distance,
    "gc-change": _gc_change,
    "kmer-change": _kmer_change,
    "onehot-change": _onehot_change,
}
