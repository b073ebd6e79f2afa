"""What a model of tracks says of pairs of sequences that are no places of a genome.

Dimensions: n pair, L base pair of a sequence, W base pair of a window, N bin, T track.
"""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cislens.effects.alleles import window_pairs
from cislens.effects.averaging import read_averaging
from cislens.effects.devices import running
from cislens.effects.track_model import TrackModel, as_track_model
from cislens.effects.variants.measures import ALL, CENTER, Mask, track_measures
from cislens.effects.variants.tracks import Reader
from cislens.effects.variants.windows import layout, overlapping
from cislens.genome.codes import Codes, N

Values = npt.NDArray[np.float32]
_BASES_PER_PASS = 1 << 17


def allele_track_effects(
    model: TrackModel | str | os.PathLike[str],
    reference: Sequence[Codes] | Codes,
    alternate: Sequence[Codes] | Codes,
    species: str | None = None,
    *,
    center: int | None = None,
    average: str = "rc",
    device: str = "auto",
    batch_size: int | None = None,
) -> dict[str, Values]:
    """Scores (n, T) of pairs of sequences, by the names of `measures.track_measures`.

    Sequences shorter than the model's windows lie in the middle of them, between N, as a reporter
    construct whose vector is not known; longer ones are read whole. Bins are compared one by one.

    Args:
        reference, alternate: all of one length; a longer one than the model's is whole bins.
        species: may be left out if the model has one.
        center: also sum over the bins that overlap the central so many bp, scores `_center`.
        average, device, batch_size: as in `scores.Scoring`.

    Raises:
        CislensError: for sequences that do not pair or fit, or an unknown species.
    """
    model = as_track_model(model)
    species = model.species(species)
    ref_nL, alt_nL = window_pairs(reference, alternate)
    length = max(model.card.length, ref_nL.shape[1])
    where = layout(length, model.net.encoder.bin_size, model.net.config.crop)
    table, averaging = model.tracks(species), read_averaging(average)
    at_once = batch_size or max(1, _BASES_PER_PASS // length)
    parts: dict[str, list[Values]] = {}
    with running(model.net, device) as place:
        reader = Reader(
            model.net.encoder, model.net, species, tuple(table.rows()), np.arange(len(table)),
            table.strand_permutation(), averaging, where, False, place,
        )  # fmt: skip
        for start in range(0, len(ref_nL), at_once):
            rows = slice(start, start + at_once)
            ref, alt = (
                reader.whole(_padded(codes[rows], length + 2 * averaging.margin)).rates_BNT
                for codes in (ref_nL, alt_nL)
            )
            masks: dict[str, Mask | None] = {ALL: None}
            if center is not None:
                begin = np.full(len(ref), (length - center) // 2)
                masks[CENTER] = overlapping(begin, begin + center, np.zeros_like(begin), where)
            for name, values in track_measures(ref, alt, masks).items():
                parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _padded(codes_nL: Codes, width: int) -> Codes:
    left = (width - codes_nL.shape[1]) // 2
    right = width - codes_nL.shape[1] - left
    return np.pad(codes_nL, ((0, 0), (left, right)), constant_values=N)
