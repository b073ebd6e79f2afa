"""What is explained: a network of one output, or a masked language model.

Dimensions: B window, n sequence, L base pair, T output.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cislens.effects.attribution.gradients import BothStrands, place_of, summed_bins
from cislens.effects.attribution.network import TargetNet
from cislens.effects.attribution.target_parser import parse_target
from cislens.effects.attribution.targets import Target
from cislens.effects.devices import running
from cislens.effects.mutagenesis import Predict
from cislens.effects.track_model import TrackModel
from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.genome.codes import Codes, one_hot
from cislens.models.mixture import part_of_kind
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_model
from cislens.representations.contract import MaskedLikelihood
from cislens.representations.language import (
    LanguageEmbedding,
    language_model,
    trained_language_model,
)
from cislens.signal.datacard import DataCard

_TELLS_NOTHING = (
    "has no head that was trained to tell hidden bases; the map of entropies needs a masked "
    "language model."
)

Model = TrackModel | nn.Module | MaskedLikelihood | str | os.PathLike[str]


@dataclass(frozen=True)
class Subject:
    """A trained model to be explained.

    Attributes:
        model: a model of tracks where the folder holds one, else whatever it holds.
        language: what tells hidden bases, if a head for them was trained.
        length: of its windows in bp; None if the folder does not say.
        digest: sha256 of its weights.
    """

    model: TrackModel | nn.Module
    language: LanguageEmbedding | None
    length: int | None
    digest: str

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Subject":
        """The model of a model or run folder.

        Raises:
                MissingFileError, CislensError: as `load_model`, `DataCard.read` and
                `trained_language_model`.
        """
        path = _folder(folder)
        whole = load_model(path)
        digest = file_digest(path / "model.safetensors")
        language = trained_language_model(path, whole, str(folder))
        profile = part_of_kind(whole, ProfileModel)
        if profile is None:
            return cls(whole, language, None, digest)
        card = DataCard.read(path)
        return cls(TrackModel(profile, card, str(folder)), language, card.length, digest)

    def require_language(self) -> LanguageEmbedding:
        """What tells hidden bases.

        Raises:
            CislensError: if nothing does.
        """
        if self.language is None:
            raise CislensError(f"the model {_TELLS_NOTHING}")
        return self.language

    def species(self, name: str | None) -> str | None:
        """The species that is meant: of a model of tracks the only one unless named.

        Raises:
            CislensError: as `TrackModel.species`.
        """
        return self.model.species(name) if isinstance(self.model, TrackModel) else name


def target_network(
    model: Model,
    target: str | Target | int | None,
    species: str | None = None,
    both_strands: bool = True,
) -> nn.Module:
    """The network x (B, 4, L) -> (B, 1) that `attribute` explains, whose arguments these are.

    Raises:
        CislensError: for a target that does not fit the model.
    """
    if isinstance(model, str | os.PathLike):
        model = Subject.load(model).model
    if not isinstance(model, TrackModel | nn.Module):
        raise CislensError(f"a {type(model).__name__} is no network; only its entropy can be had.")
    if target is None:
        raise CislensError('a target is needed, such as mean(assay == "ATAC") or probe(FILE.npz).')
    if isinstance(target, int):
        if isinstance(model, TrackModel):
            raise CislensError(
                f"target {target} is a number; state a target of {model.name} in words, such as "
                'mean(id == "NAME").'
            )
        chosen = _Output(model, target)
        return BothStrands(chosen) if both_strands else chosen
    if isinstance(target, str):
        tracks = model.tracks(model.species(species)) if isinstance(model, TrackModel) else None
        target = parse_target(target, tracks)
    return TargetNet(model, target, species, both_strands)


@contextmanager
def language_of(model: Model, device: str) -> Iterator[MaskedLikelihood]:
    """The masked language model that a model is or holds, on a device; its place is restored.

    Raises:
        CislensError: if it has no head that tells hidden bases.
    """
    found: MaskedLikelihood | None = None
    if isinstance(model, MaskedLikelihood):
        found = model
    elif isinstance(model, str | os.PathLike):
        found = Subject.load(model).language
    elif isinstance(model, nn.Module):
        found = language_model(model, type(model).__name__)
    if found is None:
        named = model if isinstance(model, str | os.PathLike) else type(model).__name__
        raise CislensError(f"{named} {_TELLS_NOTHING}")
    if isinstance(found, LanguageEmbedding):
        with running(nn.ModuleList([found.encoder, found.head]), device):
            yield found
    else:
        yield found


def predictor(module: nn.Module, batch_size: int) -> Predict:
    """A network x (B, 4, L) -> (B, 1) as a function of sequences, (n,), where and as it is."""

    def predict(sequences: tuple[Codes, ...]) -> npt.NDArray[np.float32]:
        parts = []
        for start in range(0, len(sequences), batch_size):
            codes_BL = np.stack(sequences[start : start + batch_size])
            with torch.inference_mode():
                found = module(torch.from_numpy(one_hot(codes_BL)).to(place_of(module)))
            parts.append(found[:, 0].float().cpu().numpy())
        return np.concatenate(parts)

    return predict


class _Output(nn.Module):
    """One output of a network, its bins summed, (B, 1)."""

    def __init__(self, module: nn.Module, output: int) -> None:
        super().__init__()
        self.module = module
        self.output = output

    def forward(self, x_B4L: Tensor) -> Tensor:
        outputs_BT = summed_bins(self.module(x_B4L))
        if not 0 <= self.output < outputs_BT.shape[1]:
            raise CislensError(
                f"there is no output {self.output}; the network has {outputs_BT.shape[1]}."
            )
        return outputs_BT[:, self.output, None]


def _folder(path: str | os.PathLike[str]) -> Path:
    """The model folder of a run folder, or the folder itself."""
    inner = Path(path) / "model"
    return inner if (inner / "config.json").exists() else Path(path)
