"""The model of variants, whatever it was trained for, and its likelihoods of bases.

Dimensions: n variant, L base pair.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from cislens.effects.alleles import log_likelihood_ratio
from cislens.effects.track_model import TrackModel
from cislens.effects.variants.windows import Alleles
from cislens.genome.codes import N
from cislens.genome.reference import Genome
from cislens.models.contract import Encoder
from cislens.models.mixture import part_of_kind
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_model
from cislens.representations.contract import MaskedLikelihood
from cislens.representations.language import trained_language_model
from cislens.signal.datacard import DataCard

# Windows of a model that does not say how long those were that it was trained on.
LENGTH = 512
_BASES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Subject:
    """A model that is asked about variants.

    Attributes:
        module: all of it.
        encoder: what embeds windows.
        tracks: the part that predicts tracks, if there is one.
        language: the part that tells hidden bases, if there is one that was trained to.
        name: how messages call it.
    """

    module: nn.Module
    encoder: Encoder
    tracks: TrackModel | None
    language: MaskedLikelihood | None
    name: str


def as_subject(model: TrackModel | str | os.PathLike[str]) -> Subject:
    """A model of tracks as it is, or all parts of the model in a folder or a run's folder.

    Raises:
        MissingFileError, CislensError: as `load_model`, `DataCard.read` and
            `trained_language_model`.
    """
    if isinstance(model, TrackModel):
        return Subject(model.net, model.net.encoder, model, None, model.name)
    path, name = Path(model), str(model)
    if (path / "model" / "config.json").exists():
        path = path / "model"
    module = load_model(path)
    net = part_of_kind(module, ProfileModel)
    tracks = None if net is None else TrackModel(net, DataCard.read(path), name)
    encoder: Encoder = module.encoder if net is None else net.encoder
    language = trained_language_model(path, module, name)
    return Subject(module, encoder, tracks, language, name)


def masked_ratios(
    language: MaskedLikelihood,
    genome: Genome,
    alleles: Alleles,
    length: int,
    species: str | None,
    both_strands: bool,
) -> npt.NDArray[np.float32]:
    """log p(alternate) - log p(reference) (n,) of the hidden base in the middle of `length` bp.

    NaN for all but substitutions of one called base; 0 for equal alleles.
    """
    found = np.full(len(alleles.first_n), np.nan, np.float32)
    found[alleles.same_n] = 0
    bases = np.array([codes[0] if len(codes) else N for codes in alleles.alternate], np.uint8)
    single = (alleles.n_ref_n == 1) & (alleles.n_alt_n == 1) & ~alleles.same_n & (bases != N)
    at_once, middle = max(1, _BASES_AT_ONCE // length), length // 2
    rows = np.flatnonzero(single)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        first = alleles.first_n[part] - middle
        ref_nL = genome.windows(alleles.chroms[part].tolist(), first, length)
        kept = ref_nL[:, middle] != N
        ref_nL, part = ref_nL[kept], part[kept]
        alt_nL = ref_nL.copy()
        alt_nL[:, middle] = bases[part]
        if len(part):
            found[part] = log_likelihood_ratio(language, ref_nL, alt_nL, species, not both_strands)
    return found
