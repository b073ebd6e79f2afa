"""One model of tracks or several that predict the same, as one: their mean and their spread.

Dimensions: M model, B window, W base pair with margin, N bin, T track of the model, S track that
was chosen.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cislens.effects.averaging import Averaging, averaged_rates
from cislens.effects.devices import Precision, running
from cislens.effects.track_model import TrackModel, as_track_model
from cislens.errors import CislensError
from cislens.genome.codes import Codes
from cislens.signal.query import chosen_tracks, matching_tracks
from cislens.signal.tracks import Track, TrackTable
from cislens.signal.transforms import untransform

Values = npt.NDArray[np.float32]
Model = TrackModel | str | os.PathLike[str]


@dataclass(frozen=True)
class Member:
    """One model, and where it has the tracks that are asked of it.

    Attributes:
        pair_T: the track that each of its tracks becomes on the other strand.
        chosen_S: place of each chosen track.
        rows: the chosen tracks as the model was trained on them.
    """

    model: TrackModel
    pair_T: torch.Tensor
    chosen_S: torch.Tensor
    rows: tuple[Track, ...]

    @classmethod
    def of(cls, model: TrackModel, species: str, chosen: TrackTable) -> "Member":
        table = model.tracks(species)
        place = {row.id: at for at, row in enumerate(table.rows())}
        chosen_S = [place[name] for name in chosen.frame["id"]]
        rows = table.rows()
        pair_T = torch.as_tensor(table.strand_permutation())
        return cls(model, pair_T, torch.tensor(chosen_S), tuple(rows[at] for at in chosen_S))


@dataclass(frozen=True)
class Ensemble:
    """Models of the same species, tracks, bins and windows; `Ensemble.of(...)`.

    Attributes:
        members: one or several.
        species: whose tracks are predicted.
        tracks: those that were chosen, in the order of the first model.
        trim: bins at either end of a window that are not used, at least the models' crop.
    """

    members: tuple[Member, ...]
    species: str
    tracks: TrackTable
    trim: int

    @classmethod
    def of(
        cls,
        models: Model | Sequence[Model],
        species: str | None = None,
        tracks: str | None = None,
        trim: int | None = None,
    ) -> "Ensemble":
        """Load and check.

        Args:
            models: model folders or models.
            species: needed where the models have several.
            tracks: a query on the track table, see `signal.query`; all if None.
            trim: bins at either end of a window that are not used; the models' crop if None.

        Raises:
            CislensError: if there is no model, models differ in what must be the same, the trim
                is below a model's crop or leaves nothing, or no track is found.
        """
        given = [models] if isinstance(models, TrackModel | str | os.PathLike) else list(models)
        if not given:
            raise CislensError("no model was given; give one, or several for an ensemble.")
        loaded = tuple(as_track_model(each) for each in given)
        chosen = _agreed_species(loaded, species)
        _require_alike(loaded, chosen)
        crop = max(each.net.config.crop for each in loaded)
        if trim is not None and trim < crop:
            raise CislensError(
                f"--trim {trim} is below the {crop} bins at either end of a window for which "
                f"{loaded[0].name} predicts nothing; give at least {crop}."
            )
        every = loaded[0].tracks(chosen)
        table = chosen_tracks(every, matching_tracks(every, tracks))
        members = tuple(Member.of(each, chosen, table) for each in loaded)
        found = cls(members, chosen, table, crop if trim is None else trim)
        if trim is not None and found.central < 1:
            raise CislensError(
                f"--trim {found.trim}: windows of {loaded[0].name} have "
                f"{found.length // found.bin_size} bins, none is left; trim less."
            )
        return found

    @property
    def models(self) -> tuple[TrackModel, ...]:
        """The models that are averaged."""
        return tuple(member.model for member in self.members)

    @property
    def bin_size(self) -> int:
        """bp."""
        return int(self.models[0].net.encoder.bin_size)

    @property
    def length(self) -> int:
        """bp of a window."""
        return self.models[0].card.length

    @property
    def central(self) -> int:
        """Bins of a window that are used."""
        return self.length // self.bin_size - 2 * self.trim

    @contextmanager
    def running(
        self, device: str | torch.device | None = "auto", precision: Precision = "fp32"
    ) -> Iterator[torch.device]:
        """All models on a device, as `devices.running`."""
        with ExitStack() as stack:
            places = [
                stack.enter_context(running(each.net, device, precision)) for each in self.models
            ]
            yield places[0]

    def values(
        self, codes_BW: Codes, averaging: Averaging, device: torch.device
    ) -> tuple[Values, Values | None]:
        """Mean signal per base of the windows' central bins, and the models' spread of it.

        Scale and soft clip of the tracks are undone for each model before models are averaged,
        in float64. The spread is the standard deviation over the models (over M - 1).

        Args:
            codes_BW: windows with the averaging's margin at either side.

        Returns:
            (S, B, N), and the spread (S, B, N), None for a single model.
        """
        found = [self._values(each, codes_BW, averaging, device) for each in self.members]
        if len(found) == 1:
            return found[0], None
        every_MSBN = np.stack(found).astype(np.float64)
        mean, spread = every_MSBN.mean(axis=0), every_MSBN.std(axis=0, ddof=1)
        return mean.astype(np.float32), spread.astype(np.float32)

    def _values(
        self, member: Member, codes_BW: Codes, averaging: Averaging, device: torch.device
    ) -> Values:
        net = member.model.net
        more = self.trim - net.config.crop

        def rates(x_B4L: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = net(x_B4L, self.species, crop=True)
            return found[:, :, more : found.shape[2] - more]

        margin = averaging.margin
        rate_BTN = averaged_rates(rates, codes_BW, margin, member.pair_T, averaging, device)
        rate_SBN = rate_BTN[:, member.chosen_S.to(device)].transpose(0, 1).cpu().numpy()
        values_SBN = np.empty(rate_SBN.shape, np.float32)
        for place, row in enumerate(member.rows):
            values_SBN[place] = untransform(rate_SBN[place], row, bin_size=self.bin_size)
        return values_SBN


def _agreed_species(models: tuple[TrackModel, ...], name: str | None) -> str:
    chosen = models[0].species(name)
    for each in models[1:]:
        if chosen not in each.net.species:
            raise CislensError(
                f"{models[0].name} predicts {chosen} and {each.name} does not: it has "
                f"{', '.join(each.net.species)}. Models of an ensemble must share the species."
            )
    return chosen


def _require_alike(models: tuple[TrackModel, ...], species: str) -> None:
    first = models[0]
    for each in models[1:]:
        both = f"{first.name} and {each.name} cannot be averaged:"
        for what, one, other in (
            ("bins", first.net.encoder.bin_size, each.net.encoder.bin_size),
            ("windows", first.card.length, each.card.length),
        ):
            if one != other:
                raise CislensError(
                    f"{both} the {what} of the first have {one} bp, those of the second {other}."
                )
        mine, theirs = (set(model.tracks(species).frame["id"]) for model in (first, each))
        if mine != theirs:
            alone = sorted(mine ^ theirs)
            only = first.name if alone[0] in mine else each.name
            raise CislensError(
                f"{both} {len(alone)} {species} tracks are in one only, such as {alone[0]!r}, "
                f"which is in {only}. Models of an ensemble must have the same tracks."
            )
