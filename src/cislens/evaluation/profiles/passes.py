"""One pass of an arm over a split, from predictions to sums."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cislens.effects.averaging import Averaging
from cislens.errors import CislensError
from cislens.evaluation.profiles.arms import Predictor, Trained, open_predictor, seen_windows
from cislens.evaluation.profiles.baselines import fit_baseline
from cislens.evaluation.profiles.sums import WindowSums, counts_starts
from cislens.genome.codes import Codes
from cislens.progress import track as progress
from cislens.signal.store import ProfileStore

_BATCH = 1 << 17  # bases of a batch; a GPU takes eight times as many
Predict = Callable[[Codes], npt.NDArray[np.float32]]


def predict_sums(
    predict: Predict,
    store: ProfileStore,
    species: str,
    rows: npt.NDArray[np.int64],
    tracks: tuple[str, ...],
    what: str,
) -> WindowSums:
    """The sums of a split in one pass; a batch of predictions is held at a time.

    Args:
        predict: codes of windows with the store's margin -> rates (B, N, T) of `tracks`.
        tracks: ids, by which targets are looked up in the store.
    """
    table = {row.id: (column, row) for column, row in enumerate(store.tracks(species).rows())}
    columns = [table[name][0] for name in tracks]
    logs = [name for name in tracks if counts_starts(table[name][1].assay, table[name][1].group)]
    step = max(1, _BATCH * (8 if torch.cuda.is_available() else 1) // store.length)
    parts = []
    for first in progress(range(0, len(rows), step), what):
        batch = rows[first : first + step]
        rate_BNT = torch.from_numpy(predict(store.sequence(species, batch)))
        target_BNT = store.targets(species, batch)[:, :, columns].astype(np.float32)
        if not torch.isfinite(rate_BNT).all():
            raise CislensError(f"{what}: predictions are not finite; the weights are damaged.")
        parts.append(WindowSums.of(rate_BNT, torch.from_numpy(target_BNT), tracks, logs, batch))
    return parts[0].merge(*parts[1:])


def predict_run(
    trained: Trained, store: ProfileStore, averaging: Averaging, part: str, folder: Path
) -> None:
    """Write the sums of a run's predictions for every species that it has tracks of."""
    predictor: Predictor | None = None
    for species in store.species:
        path, rows = folder / f"{species}.{part}.npz", rows_of(store, species, part)
        if path.exists() or not len(rows):
            continue
        predictor = predictor or open_predictor(trained, store, averaging)
        if species not in predictor.tracks:
            continue
        tracks, model = predictor.tracks[species], predictor

        def predict(codes_BW: Codes, species: str = species, model: Predictor = model) -> Any:
            return model.rates(species, codes_BW)

        what = f"{folder.parent.name} {folder.name} {species} {part}"
        sums = predict_sums(predict, store, species, rows, tracks, what)
        seen_W = np.zeros(len(rows), bool)
        if part != "train":
            seen_W = seen_windows(trained, store, species, rows)
        replace(sums, seen_W=seen_W).save(path)


def predict_baseline(
    name: str, store: ProfileStore, species: str, part: str, seed: int, folder: Path
) -> None:
    """Fit a baseline and write its sums on the valid part, and on the part that is judged.

    Raises:
        CislensError: if the species has no window to fit or to choose on.
    """
    parts = {
        name: folder / f"{species}.{name}.npz"
        for name in ("valid", part)
        if len(rows_of(store, species, name))
    }
    if all(path.exists() for path in parts.values()):
        return
    for needed in ("train", "valid"):
        if not len(rows_of(store, species, needed)):
            raise CislensError(
                f"{store.path} has no {needed} window of {species}, on which baselines are "
                f"{'fitted' if needed == 'train' else 'chosen'}; build it with such a part."
            )
    fitted = fit_baseline(name, store, species, seed)
    tracks = tuple(store.tracks(species).frame["id"].to_list())
    for judged, path in parts.items():
        rows, what = rows_of(store, species, judged), f"{name} {species} {judged}"
        predict_sums(fitted.rates, store, species, rows, tracks, what).save(path)


def rows_of(store: ProfileStore, species: str, part: str) -> npt.NDArray[np.int64]:
    """Rows of the windows of one part."""
    return np.flatnonzero((store.windows(species)["split"] == part).to_numpy())


def blocks_of(
    store: ProfileStore, species: str, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Number of the block of each window, from 0 on."""
    block = store.windows(species)["block"].to_numpy()[rows]
    return np.asarray(np.unique(block, return_inverse=True)[1], dtype=np.int64)


def block_kind(store: ProfileStore, species: str) -> str:
    """What the blocks of a species are, as words in the plural."""
    split = store.manifest["params"]["split"]
    if split.get("from") == "records":
        if store.placed(species):
            return "runs of overlapping or touching windows"
        return "single windows, whose places are not known"
    if species in split["valid"] or species in split["test"]:
        return "whole chromosomes"
    size = split["block_bp"] or 16 * store.length
    return f"stretches of {size:,} bp, of which homologous ones lie in one part"
