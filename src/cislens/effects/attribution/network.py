"""A model and a target as one plain network, for whatever explains networks.

Dimensions: B window, L base pair, C track or channel, N bin.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.effects.attribution.targets import Grid, Reading, Target
from cislens.effects.track_model import TrackModel
from cislens.errors import CislensError, nearest
from cislens.models.contract import UNKNOWN, Embedding, Encoder
from cislens.models.profile import ProfileModel


class TargetNet(nn.Module):
    """x (B, 4, L), one-hot, to the target (B, 1); differentiable in x.

    With both strands the rates (or the embedding) of the window and of its reverse complement,
    turned around and its strand pairs swapped, are averaged before the target is taken, as in
    predictions. Windows that are no whole number of bins are padded with N on the right; the
    target's middle stays that of the window.

    Args:
        model: a model of tracks; for a target of the embedding any model with an `encoder`.
        species: whose tracks; may be left out where there is one only.
        both_strands: tools with hooks on modules (DeepLIFT) want a single pass: False.

    Raises:
        CislensError: for an unknown species, a target of rates that the model does not have, or a
            probe of another width.
    """

    def __init__(
        self,
        model: TrackModel | nn.Module,
        target: Target,
        species: str | None = None,
        both_strands: bool = False,
    ) -> None:
        super().__init__()
        self.net = model.net if isinstance(model, TrackModel) else model
        self.target = target
        self.both_strands = both_strands
        self.bin_size: int = self.encoder.bin_size
        self.crop = 0
        self.pair_C: Tensor | None
        pair_C = None
        if target.reads == "rates":
            if not isinstance(model, TrackModel):
                raise CislensError(
                    f"target {target.text!r} is one of tracks, and a {type(self.net).__name__} "
                    "says nothing of its tracks; give the model's folder or a TrackModel."
                )
            self.species: str | None = model.species(species)
            self.index = model.net.species.index(self.species)
            self.crop = model.net.config.crop
            pair_C = torch.as_tensor(model.tracks(self.species).strand_permutation())
        else:
            self.species = species
            self.index = _species_index(self.encoder, species)
            _require_width(target, self.encoder)
        self.register_buffer("pair_C", pair_C, persistent=False)

    def forward(self, x_B4L: Tensor) -> Tensor:
        length = x_B4L.shape[2]
        self.grid(length)
        x_B4L = F.pad(x_B4L, (0, -length % self.bin_size))
        # Channels are A, C, G, T: turning both axes around is the reverse complement.
        against = self._embed(x_B4L.flip(1, 2)) if self.both_strands else None
        return self.score(self._embed(x_B4L), against, length)[:, None]

    def score(self, along: Embedding, against: Embedding | None, length: int) -> Tensor:
        """The target (B,) of embedded windows of `length` bp.

        Args:
            along: of the windows.
            against: of their reverse complements, bins in their own order; None for one strand.
        """
        grid = self.grid(length)
        reading = self._read(along, grid)
        if against is not None:
            reading = _averaged(reading, self._read(against, grid), self.pair_C)
        found: Tensor = self.target(reading)
        return found

    def grid(self, length: int) -> Grid:
        """Where the bins of a window of `length` bp lie that the target reads.

        Raises:
            CislensError: if the model crops all of it, or the target reads bins that it lacks.
        """
        bins = -(-length // self.bin_size) - 2 * self.crop
        if bins < 1:
            raise CislensError(
                f"a window of {length} bp has {bins + 2 * self.crop} bins of {self.bin_size} bp, "
                f"and the model crops {self.crop} on either side: nothing is left. Give longer "
                "windows."
            )
        grid = Grid(self.crop * self.bin_size - length // 2, self.bin_size, bins)
        self.target.require(grid)
        return grid

    @property
    def encoder(self) -> Encoder:
        """The model's encoder. No second name for a module, which hooks would count twice."""
        return _encoder(self.net)

    def _embed(self, x_B4L: Tensor) -> Embedding:
        species_B = torch.full((len(x_B4L),), self.index, device=x_B4L.device)
        found: Embedding = self.encoder(x_B4L, species_B)
        return found

    def _read(self, embedding: Embedding, grid: Grid) -> Reading:
        if isinstance(self.net, ProfileModel) and self.target.reads == "rates":
            return Reading(self.net.rates_of(embedding, self.species, crop=True), grid)
        values_BCN = embedding.values_BND.transpose(1, 2)
        return Reading(values_BCN, grid, embedding.valid_BN, embedding.summary_BD)


def _averaged(one: Reading, other: Reading, pair_C: Tensor | None) -> Reading:
    """The mean of a window's reading and of its reverse complement's."""
    turned_BCN = other.values_BCN.flip(2)
    if pair_C is not None:
        turned_BCN = turned_BCN[:, pair_C]
    summary_BC = one.summary_BC
    if summary_BC is not None and other.summary_BC is not None:
        summary_BC = (summary_BC + other.summary_BC) / 2
    return Reading((one.values_BCN + turned_BCN) / 2, one.grid, one.valid_BN, summary_BC)


def _encoder(net: nn.Module) -> Encoder:
    found = net if isinstance(net, Encoder) else getattr(net, "encoder", None)
    if not isinstance(found, Encoder):
        raise CislensError(
            f"a {type(net).__name__} has no encoder; a target in words needs a model of cislens. "
            "For another network give the number of an output."
        )
    return found


def _species_index(encoder: Encoder, species: str | None) -> int:
    if species is None or not encoder.species:
        return UNKNOWN
    if species not in encoder.species:
        raise CislensError(
            f"the model knows no species {species!r}. {nearest(species, encoder.species)}"
        )
    return encoder.species.index(species)


def _require_width(target: Target, encoder: Encoder) -> None:
    weights = getattr(target, "weights_D", None)
    if weights is not None and len(weights) != encoder.dim:
        raise CislensError(
            f"target {target.text!r} has {len(weights)} weights and the model's embedding "
            f"{encoder.dim} channels; the probe is one of another model."
        )
