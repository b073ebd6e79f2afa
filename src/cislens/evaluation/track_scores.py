"""Models of measured tracks as representations that also say what a variant does to each track.

Scores of variants are named `tracks:ID` (log fold change of one track) and `tracks:mean` (its mean
over the tracks of a species), which have a sign, and `abs_tracks:ID` and `abs_tracks:mean` (their
sizes; the mean is that of the sizes), which have none.

Dimensions: n variant, L base pair, T track.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import nn

from cislens.effects.alleles import Sign, sign_of, window_pairs
from cislens.effects.track_model import TrackModel
from cislens.effects.variants.constructs import allele_track_effects
from cislens.genome.codes import Codes
from cislens.models.profile import ProfileModel
from cislens.randomness import seed_of
from cislens.representations.contract import Kind, Representation, TrackEffects
from cislens.representations.controls import random_twin
from cislens.representations.encoder import EncoderEmbedding, with_weights
from cislens.representations.language import LanguageEmbedding
from cislens.representations.seeding import seeded

Values = npt.NDArray[np.float32]

_SIGNS: dict[str, Sign] = {"tracks": "signed", "abs_tracks": "unsigned"}
_MEAN = "mean"


class _Tracks:
    """`TrackEffects` of a trained model of tracks."""

    model: TrackModel

    def effect_tracks(self, species: str | None) -> tuple[str, ...]:
        """Ids of the tracks of a species; none for a species that the model does not have."""
        return tuple(self.model.net.config.tracks.get(species or "", ()))

    def track_effects(
        self,
        reference: Sequence[Codes] | Codes,
        alternate: Sequence[Codes] | Codes,
        species: str | None,
        stranded: bool = False,
    ) -> Values:
        """Log fold change (n, T) of each track's signal, alternate over reference, in fp32.

        log((1 + alternate) / (1 + reference)) of the sums over all bins that are predicted.
        Windows longer than those of the model's training are cut to their middle of that length,
        shorter ones lie between N.

        Args:
            stranded: if false, both strands are averaged.
        """
        ref_nL, alt_nL = window_pairs(reference, alternate)
        # The variant stays in the middle, at index L // 2 of L.
        start = max(0, ref_nL.shape[1] // 2 - self.model.card.length // 2)
        middle = slice(start, start + self.model.card.length)
        found = allele_track_effects(
            self.model, ref_nL[:, middle], alt_nL[:, middle], species,
            average="none" if stranded else "rc",
            device=str(next(self.model.net.parameters()).device),
        )  # fmt: skip
        return found["log_fold"]


class TrackEmbedding(_Tracks, EncoderEmbedding):
    """The features of a model of tracks, and the change of each track's predicted signal.

    Args:
        model: its name is how tables call it.
    """

    def __init__(self, model: TrackModel, kind: Kind = "trained") -> None:
        super().__init__(model.net.encoder, model.name, kind)
        self.model = model

    @cached_property
    def digest(self) -> str:
        """sha256 of the encoder's digest and the weights of the whole model."""
        return with_weights(super().digest, self.model.net)

    def twin(self, draw: int) -> "TrackEmbedding":
        """This model with the encoder's `random_twin` and fresh heads."""
        return TrackEmbedding(_random_tracks(self.model, draw), "random")


class TrackLanguageEmbedding(_Tracks, LanguageEmbedding):
    """A model that predicts tracks and tells hidden bases, from one encoder.

    Args:
        model: of tracks; its name is how tables call it.
        head: as `LanguageEmbedding`.
    """

    def __init__(self, model: TrackModel, head: nn.Module, kind: Kind = "trained") -> None:
        super().__init__(model.net.encoder, head, model.name, kind)
        self.model = model

    @cached_property
    def digest(self) -> str:
        """sha256 of the language model's digest and the weights of the model of tracks."""
        return with_weights(super().digest, self.model.net)

    def twin(self, draw: int) -> "TrackLanguageEmbedding":
        """This model with the encoder's `random_twin` and fresh heads of either kind."""
        head = super().twin(draw).head
        return TrackLanguageEmbedding(_random_tracks(self.model, draw), head, "random")


def track_scores(representation: Representation, species: str | None) -> tuple[str, ...]:
    """Names of the scores made of a species' tracks; none without such tracks."""
    if not isinstance(representation, TrackEffects):
        return ()
    ids = representation.effect_tracks(species)
    named = [_MEAN, *(each for each in ids if each != _MEAN)] if ids else []
    return tuple(f"{source}:{each}" for source in _SIGNS for each in named)


def is_track_score(name: str) -> bool:
    """Whether a score is made of tracks."""
    return name.partition(":")[0] in _SIGNS


def score_sign(name: str) -> Sign:
    """Whether a score, of tracks or of `effects.alleles`, is signed, unsigned or directed."""
    return _SIGNS[name.partition(":")[0]] if is_track_score(name) else sign_of(name)


def score_by_tracks(
    representation: TrackEffects,
    reference: Sequence[Codes],
    alternate: Sequence[Codes],
    species: str | None,
    stranded: bool,
    names: Sequence[str],
) -> dict[str, Values]:
    """Scores (n,) by name, all of one pass over the windows.

    Args:
        names: among `track_scores`.
    """
    effect_nT = representation.track_effects(reference, alternate, species, stranded)
    column = {each: at for at, each in enumerate(representation.effect_tracks(species))}
    found: dict[str, Values] = {}
    for name in names:
        source, _, track = name.partition(":")
        values_nT = effect_nT if _SIGNS[source] == "signed" else np.abs(effect_nT)
        found[name] = values_nT.mean(1) if track == _MEAN else values_nT[:, column[track]]
    return found


def _random_tracks(model: TrackModel, draw: int) -> TrackModel:
    with seeded(seed_of("random_tracks", draw)):
        net = ProfileModel(model.net.config)
    net.encoder = random_twin(model.net.encoder, draw)
    device = next(model.net.parameters()).device
    return TrackModel(net.to(device).eval(), model.card, f"{model.name}-random")
