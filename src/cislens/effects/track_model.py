"""A trained model of measured tracks with what must be known to use it on any genome."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_profile_model
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import TrackTable, track_table

_FILES = ("config.json", "model.safetensors", FILE_NAME)


@dataclass(frozen=True)
class TrackModel:
    """A net, the length of its windows and its tracks.

    Attributes:
        net: rates of the tracks of one species or several.
        card: length in bp of the windows it was trained on, and the tracks.
        name: how messages and tables call it.
    """

    net: ProfileModel
    card: DataCard
    name: str = "model"

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "TrackModel":
        """The model folder of a run (`RUN/model`), or the run folder.

        Raises:
            MissingFileError, CislensError: as `load_profile_model` and `DataCard.read`.
        """
        path = Path(folder)
        if (path / "model" / "config.json").exists():
            path = path / "model"
        return cls(load_profile_model(path), DataCard.read(path), str(folder))

    def species(self, name: str | None) -> str:
        """The species that is meant: the only one unless named.

        Raises:
            CislensError: if the model has several and none is named, or not the one named.
        """
        if name is None and len(self.net.species) > 1:
            raise CislensError(
                f"{self.name} has several species ({', '.join(self.net.species)}); name one."
            )
        chosen = name or self.net.species[0]
        self.net.view(chosen)  # refuses a species that the model does not have
        return chosen

    def tracks(self, species: str) -> TrackTable:
        """The tracks of a species in the order of the model's rates.

        Raises:
            CislensError: if the card lacks one of them, or the model lacks the species.
        """
        return head_order(self.net, species, self.card.tracks)

    @property
    def central_bins(self) -> int:
        """Bins of a window that are predicted."""
        return self.card.length // self.net.encoder.bin_size - 2 * self.net.config.crop


def as_track_model(model: "TrackModel | str | os.PathLike[str]") -> TrackModel:
    """A model as it is, or the one of a folder."""
    return model if isinstance(model, TrackModel) else TrackModel.load(model)


def model_digest(folder: str | os.PathLike[str]) -> str:
    """sha256 that changes with the files of a model, given as for `TrackModel.load`."""
    path = Path(folder)
    if (path / "model" / "config.json").exists():
        path = path / "model"
    digests = [file_digest(path / name) for name in _FILES]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def head_order(model: ProfileModel, species: str, tracks: TrackTable) -> TrackTable:
    """The species' tracks in the order of the model's heads.

    Raises:
        CislensError: if the table lacks one of them, or the model lacks the species.
    """
    model.view(species)  # raises for an unknown species
    ids = model.config.tracks[species]
    known = {row.id: row for row in tracks.for_species(species).rows()}
    missing = [name for name in ids if name not in known]
    if missing:
        raise CislensError(
            f"the track table has no {species} track {', '.join(missing)}, which the model "
            "predicts; give the table that the model was trained on."
        )
    return track_table(known[name] for name in ids)
