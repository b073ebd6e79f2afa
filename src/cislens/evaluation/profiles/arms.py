"""What is evaluated: models of runs, opened and checked against the store."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cislens.effects.averaging import Averaging
from cislens.effects.track_model import head_order
from cislens.effects.tracks import view_rates
from cislens.errors import CislensError
from cislens.evaluation.profiles.lineage import lineage_of
from cislens.evaluation.profiles.sums import WindowSums
from cislens.evaluation.training_stores import trained_sequences
from cislens.files import file_digest, require_file
from cislens.genome.codes import Codes
from cislens.genome.homology import leaking
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_profile_model
from cislens.signal.datacard import DataCard
from cislens.signal.store import ProfileStore
from cislens.training.fit import Run

logger = logging.getLogger("cislens")

_SAME = ("scale", "sum_stat", "clip", "clip_mode")


@dataclass(frozen=True)
class Trained:
    """A run, or a model folder of which nothing else is known.

    Attributes:
        run: the run that made the model, if it is known.
    """

    model_folder: Path
    run: Run | None

    @classmethod
    def find(cls, folder: Path) -> "Trained":
        """A run folder, or a model folder by itself or of a run.

        Raises:
            CislensError: if it is neither, or the run is not finished.
        """
        require_file(folder, "run or model folder")
        if (folder / "config.json").exists():
            return cls(folder, Run.open(folder.parent))
        run = Run.open(folder)
        if run is not None:
            return cls(run.model_folder, run)
        state = "is not finished; train it to its end" if (folder / "recipe.yaml").exists() else (
            "is neither a run nor a model folder; give one that `cislens train` wrote"
        )  # fmt: skip
        raise CislensError(f"{folder} {state}.")

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        return file_digest(require_file(self.model_folder / "model.safetensors", "model weights"))


@dataclass(frozen=True)
class Predictor:
    """A model on the tracks that it shares with a store.

    Attributes:
        tracks: species -> ids that both have, in the store's order; species without any absent.
    """

    model: ProfileModel
    averaging: Averaging
    margin: int
    tracks: dict[str, tuple[str, ...]]
    columns: dict[str, npt.NDArray[np.int64]]
    pairs: dict[str, torch.Tensor]

    def rates(self, species: str, codes_BW: Codes) -> npt.NDArray[np.float32]:
        """(B, N, T) for windows with the store's margin, T as in `tracks`."""
        rates_BNT = view_rates(
            self.model, codes_BW, self.margin, species, self.pairs[species], self.averaging
        )
        return rates_BNT[:, :, self.columns[species]]


def open_predictor(trained: Trained, store: ProfileStore, averaging: Averaging) -> Predictor:
    """The model of a run, ready to predict the store's windows, on the GPU where there is one.

    Raises:
        CislensError: if windows, bins or the scaling of a track are not those of the store, or
            no track is in both.
    """
    model, card = load_profile_model(trained.model_folder), DataCard.read(trained.model_folder)
    _check_shape(trained.model_folder, model, card, store)
    if averaging.margin > store.margin:
        raise CislensError(
            f"shifts of up to {averaging.margin} bp leave the margin of {store.margin} bp that "
            f"{store.path} was built with; build it with a larger margin, or leave shift out."
        )
    tracks: dict[str, tuple[str, ...]] = {}
    columns: dict[str, npt.NDArray[np.int64]] = {}
    pairs: dict[str, torch.Tensor] = {}
    for species in (name for name in store.species if name in model.species):
        table = head_order(model, species, card.tracks)
        place = {row.id: column for column, row in enumerate(table.rows())}
        mine = {row.id: row for row in table.rows()}
        shared = [row for row in store.tracks(species).rows() if row.id in place]
        for row in shared:
            other = [name for name in _SAME if getattr(row, name) != getattr(mine[row.id], name)]
            if other:
                raise CislensError(
                    f"track {row.id} of {trained.model_folder} has another {', '.join(other)} "
                    f"than in {store.path}: the model predicts other numbers than were measured. "
                    "Build the store with the track table that the model was trained on."
                )
        if shared:
            tracks[species] = tuple(row.id for row in shared)
            columns[species] = np.array([place[row.id] for row in shared])
            pairs[species] = torch.as_tensor(table.strand_permutation())
    if not tracks:
        raise CislensError(_nothing_shared(trained.model_folder, model, store))
    if torch.cuda.is_available():
        model = model.to("cuda")
    return Predictor(model, averaging, store.margin, tracks, columns, pairs)


def seen_windows(
    trained: Trained, store: ProfileStore, species: str, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which windows resemble one that the model was trained or chosen on, on either strand.

    The models that it started from count, too. Nothing is looked for in `store` itself, whose
    parts are not homologous. Where a store is not known or not there, a warning says so.
    """
    lineage = lineage_of(trained.run, store)
    if not lineage.whole:
        logger.warning(
            "%s: a store that it or a model before it was trained on is not known or not there; "
            "windows that it has seen cannot all be told from others", trained.model_folder,
        )  # fmt: skip
    others = [theirs for theirs in lineage.stores if theirs.digest != store.digest]
    learned = [
        window
        for theirs in others
        for name in ([species] if species in theirs.species else theirs.species)
        for window in trained_sequences(theirs, name)
    ]
    if not learned:
        return np.zeros(len(rows), bool)
    found = leaking(list(_without_margin(store, species, rows)), learned)
    if found.any():
        logger.info(
            "%s: %d of %d windows of %s resemble windows it was trained on and are left out",
            trained.model_folder, found.sum(), len(found), species,
        )  # fmt: skip
    return found


def require_same_targets(arms: Mapping[str, Sequence[WindowSums]], species: str) -> None:
    """Refuse arms that were not measured against the same numbers, e.g. of mixed up tracks.

    Raises:
        CislensError: naming the arm and the first such track.
    """
    (name, runs), *_ = arms.items()
    first = runs[0]
    for arm, each in arms.items():
        for sums in each:
            same_rows = np.array_equal(sums.rows, first.rows)
            same = same_rows and sums.tracks == first.tracks
            wrong_T = ~np.isclose(sums.moments_5WT[1], first.moments_5WT[1]).all(0) if same else []
            if not same or np.any(wrong_T):
                what = sums.tracks[int(np.argmax(wrong_T))] if same else "its windows"
                raise CislensError(
                    f"{species}: {arm} was measured against other values than {name} ({what}); "
                    "remove the folder and evaluate again."
                )


def _without_margin(store: ProfileStore, species: str, rows: npt.NDArray[np.int64]) -> Codes:
    return store.sequence(species, rows)[:, store.margin : store.margin + store.length]


def _check_shape(folder: Path, model: ProfileModel, card: DataCard, store: ProfileStore) -> None:
    now = {"bin_size": store.bin_size, "length": store.length, "crop": store.crop}
    then = {
        "bin_size": model.encoder.bin_size, "length": card.length, "crop": model.config.crop,
    }  # fmt: skip
    other = [name for name in now if now[name] != then[name]]
    if other:
        raise CislensError(
            f"{folder} was trained with {', '.join(f'{name} {then[name]}' for name in other)}, "
            f"{store.path} has {', '.join(f'{name} {now[name]}' for name in other)}; build a "
            "store of the model's own windows."
        )


def _nothing_shared(folder: Path, model: ProfileModel, store: ProfileStore) -> str:
    def listed(ids: Sequence[str]) -> str:
        return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")

    theirs = "; ".join(f"{name}: {listed(model.config.tracks[name])}" for name in model.species)
    ours = "; ".join(
        f"{name}: {listed(store.tracks(name).frame['id'].to_list())}" for name in store.species
    )
    return (
        f"{folder} and {store.path} have no track of a species in common. The model predicts "
        f"{theirs}. The store holds {ours}."
    )
