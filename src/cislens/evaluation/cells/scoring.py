"""Logits of every arm for every judged pair, kept on disk: what is there is not made again.

`<out>/scores/seed<r>/<arm>.npz` holds an array (N, 1) for each judged part.

The head of an arm learns from training regions in training cell types, its penalty is chosen on
validation regions. Arms that know how open a region is in other cell types have a head for each
fold of the training cell types, which learns from the pairs of these and is told of the others;
it judges pairs of its own fold, and those of new cell types get the mean over all heads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.errors import CislensError
from cislens.evaluation.cells import features as known
from cislens.evaluation.cells.blind import require_blind
from cislens.evaluation.cells.examples import LEARNED, Pairs
from cislens.evaluation.cells.features import Features, FeaturesOf
from cislens.evaluation.cells.tables import CELL_MEAN, METRICS, STRONGEST, own_arms
from cislens.evaluation.heads.linear import LinearHead, fit_linear
from cislens.files import atomic_path
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.motifs.store import RegionStore
from cislens.progress import track
from cislens.untrusted import npz_arrays

Parts = dict[str, Features]
Models = Mapping[str, Sequence[MultimodalModel]]
MakeFeatures = Callable[[RegionStore], FeaturesOf]

_SIMPLE: dict[str, MakeFeatures] = {
    "composition": known.composition, "kmers": known.kmers, "motifs": known.motifs,
    CELL_MEAN: known.cell_mean, "neighbors": known.neighbors,
}  # fmt: skip


def try_blind(store: RegionStore, models: Models, pairs: Pairs) -> None:
    """Refuse arms that are told what they are asked; see `blind`."""
    makes = dict(_SIMPLE)
    for name, runs in models.items():
        makes[name] = partial(_joint, runs[0], name)
    for name, make in track(makes.items(), "trying that no arm is told", len(makes)):
        require_blind(name, make, pairs, store)


def score_all(
    store: RegionStore, models: Models, seed: int, pairs: Mapping[str, Pairs], out: Path
) -> None:
    """Write the logits of every arm for one seed, unless they are there.

    Args:
        pairs: of the parts to learn from, and of those to judge on.
    """

    def missing(arm: str) -> bool:
        return not _file(out, seed, arm).exists()

    for arm, logits in _arms(store, models, seed, pairs, missing):
        path = _file(out, seed, arm)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = logits
        with atomic_path(path) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)


def read_scores(out: Path, seed: int, arm: str, judged: Mapping[str, Pairs]) -> Parts:
    """What `score_all` wrote.

    Raises:
        CislensError: if the file is damaged or of other pairs.
    """
    path = _file(out, seed, arm)
    arrays = npz_arrays(path, "scores", "remove it and evaluate again")
    try:
        found = {part: np.asarray(arrays[part], np.float32) for part in judged}
    except (ValueError, KeyError) as error:
        raise CislensError(f"{path} is damaged ({error}); remove it and evaluate again.") from None
    for part, values in found.items():
        if values.shape != (len(judged[part]), 1):
            raise CislensError(f"{path} is of other pairs; remove {out} and evaluate again.")
    return found


def _arms(
    store: RegionStore, models: Models, seed: int, pairs: Mapping[str, Pairs],
    missing: Callable[[str], bool],
) -> Iterator[tuple[str, Parts]]:  # fmt: skip
    """Arms with their logits, as far as they are missing."""

    def on_all(of: FeaturesOf) -> Parts:
        return {part: of(each) for part, each in pairs.items()}

    def told(*beside: Parts) -> Parts:
        """Logits of arms that know other cell types, and what is given."""
        return _by_folds(
            lambda fold: _side_by_side(on_all(known.cell_mean(store, fold)), *beside),
            pairs, known.folds_of(store),
        )  # fmt: skip

    near = on_all(known.neighbors(store))
    for name, make in _SIMPLE.items():
        if missing(name):
            yield name, told() if name == CELL_MEAN else _logits(on_all(make(store)), pairs)
    if missing(STRONGEST):
        yield STRONGEST, told(near)
    for name, runs in models.items():
        model = runs[seed if len(runs) > 1 else 0]
        _, sequence, random, added = own_arms(name)
        if any(map(missing, (name, sequence, added))):
            whole = on_all(known.joint(model, store, name))
            dim = model.encoder.dim
            yield name, _logits(whole, pairs)
            yield sequence, _logits({part: each[:, :dim] for part, each in whole.items()}, pairs)
            yield added, told(near, whole)
        if missing(random):
            twin = on_all(known.joint(known.random_twin(model, seed), store, random))
            yield random, _logits(twin, pairs)


def _side_by_side(*several: Parts) -> Parts:
    return {part: np.concatenate([each[part] for each in several], axis=1) for part in several[0]}


def _logits(parts: Parts, pairs: Mapping[str, Pairs]) -> Parts:
    """Logits (N, 1) of the judged parts, by a head that saw the parts to learn from alone."""
    head = _head(parts, {part: pairs[part].open_N for part in LEARNED})
    return {part: head.scores(each) for part, each in parts.items() if part not in LEARNED}


def _by_folds(
    of_fold: Callable[[int], Parts], pairs: Mapping[str, Pairs], fold_C: npt.NDArray[np.int64]
) -> Parts:
    """As `_logits`, with a head for each fold; `of_fold` gives what that head is told.

    A fold whose cell types are open in every region asked for teaches nothing and has no head.

    Raises:
        CislensError: if a fold without a head has pairs to be judged, or none has one.
    """
    fold_of = {part: fold_C[each.cell_N] for part, each in pairs.items()}
    judged = [part for part in pairs if part not in LEARNED]
    logits = {part: np.zeros((len(pairs[part]), 1), np.float32) for part in judged}
    folds = [fold for fold in range(int(fold_C.max()) + 1) if _teaches(fold, fold_of, pairs)]
    lost = sum(int((~np.isin(fold_of[part], [-1, *folds])).sum()) for part in judged)
    if lost or not folds:
        raise CislensError(
            "Some training cell types are open, or closed, in all the training or validation "
            "regions that are asked for, so that nothing can be learned of them; add cell types or "
            "regions."
        )
    for fold in folds:
        parts = of_fold(fold)
        mine = {part: fold_of[part] == fold for part in LEARNED}
        head = _head(
            {part: parts[part][at] for part, at in mine.items()},
            {part: pairs[part].open_N[at] for part, at in mine.items()},
        )
        for part in judged:
            share_N = np.where(fold_of[part] < 0, 1 / len(folds), fold_of[part] == fold)
            logits[part] += (head.scores(parts[part]) * share_N[:, None]).astype(np.float32)
    return logits


def _teaches(
    fold: int, fold_of: Mapping[str, npt.NDArray[np.int64]], pairs: Mapping[str, Pairs]
) -> bool:
    """Whether a fold has open and closed pairs to learn from, and to choose the penalty on."""
    return all(len(np.unique(pairs[p].open_N[fold_of[p] == fold])) > 1 for p in LEARNED)


def _head(parts: Parts, open_of: Mapping[str, npt.NDArray[np.int64]]) -> LinearHead:
    train, valid = LEARNED
    return fit_linear(
        "binary", parts[train], open_of[train], parts[valid], open_of[valid], METRICS[0]
    )


def _joint(model: MultimodalModel, name: str, store: RegionStore) -> FeaturesOf:
    return known.joint(model, store, name)


def _file(out: Path, seed: int, arm: str) -> Path:
    return out / "scores" / f"seed{seed}" / f"{arm}.npz"
