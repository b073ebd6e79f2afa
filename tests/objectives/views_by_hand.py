"""Batches of views made by hand, and small models, for the tests of objectives on sequences.

Dimensions: V view, B window, L base pair of a view, P of a window.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cislens.models.findna.plus import FindnaPlusConfig
from cislens.models.registry import AnyEncoderConfig
from cislens.models.sequence import SequenceModel, SequenceModelConfig
from cislens.objectives.sequence_batch import TorchSequenceBatch, Views

PARENT, LENGTH, LOCAL = 96, 64, 32
TINY = FindnaPlusConfig(dim=16, depth=2, stem_dim=8)


def cut(
    parent_BP: np.ndarray,
    length: int,
    count: int,
    rng: np.random.Generator,
    hide: float,
    edits: int,
) -> Views:
    """Crops anywhere, turned at random, with `edits` insertions and deletions of 1 to 10 bp."""
    windows, parent = parent_BP.shape
    made: dict[str, list[np.ndarray]] = {"target": [], "place": [], "turned": []}
    for _ in range(count):
        for codes_P in parent_BP:
            places = list(range(parent))
            for _ in range(edits):
                at, size = int(rng.integers(parent // 2)), int(rng.integers(1, 11))
                if rng.random() < 0.5:
                    places[at:at] = [-1] * size
                elif len(places) - size > length:
                    del places[at : at + size]
            first = int(rng.integers(len(places) - length + 1))
            place_L = np.array(places[first : first + length])
            inserted_L = rng.integers(0, 4, length)
            target_L = np.where(place_L >= 0, codes_P[place_L], inserted_L)
            turned = rng.random() < 0.5
            if turned:
                place_L = place_L[::-1]
                target_L = np.where(target_L[::-1] < 4, 3 - target_L[::-1], 4)
            made["target"].append(target_L)
            made["place"].append(place_L)
            made["turned"].append(np.array(turned))

    def tensor(name: str, kind: type) -> Tensor:
        values = np.stack(made[name]).astype(kind)
        return torch.from_numpy(values.reshape(count, windows, *values.shape[1:]))

    target_VBL = tensor("target", np.uint8)
    spans = rng.random((count, windows, -(-length // 16))) < hide
    hidden_VBL = torch.from_numpy(np.repeat(spans, 16, axis=2)[..., :length].copy())
    return Views(
        codes_VBL=target_VBL.masked_fill(hidden_VBL, 4),
        hidden_VBL=hidden_VBL,
        scored_VBL=hidden_VBL & (target_VBL < 4),
        target_VBL=target_VBL,
        repeat_VBL=torch.from_numpy(rng.random(target_VBL.shape) < 0.3),
        place_VBL=tensor("place", np.int32),
        turned_VB=tensor("turned", np.bool_),
    )


def batch(
    windows: int = 4, views: int = 2, local: int = 2, seed: int = 0, edits: int = 1
) -> TorchSequenceBatch:
    """Windows of random bases, each of one chromosome and 1,000 bp from the next."""
    rng = np.random.default_rng(seed)
    parent_BP = rng.integers(0, 4, (windows, PARENT)).astype(np.uint8)
    return TorchSequenceBatch(
        whole=cut(parent_BP, LENGTH, views, rng, 0.5, edits),
        local=cut(parent_BP, LOCAL, local, rng, 0.0, edits) if local else None,
        parent_BP=torch.from_numpy(parent_BP),
        repeat_B=torch.from_numpy(rng.random(windows).astype(np.float32)),
        label_B=torch.from_numpy(rng.integers(0, 2, windows).astype(np.int8)),
        species_B=torch.full((windows,), -1),
        chrom_B=torch.zeros(windows, dtype=torch.int64),
        start_B=1000 * torch.arange(windows),
    )


def rows(of: TorchSequenceBatch, at: Tensor) -> TorchSequenceBatch:
    """Some windows of a batch."""

    def views(of: Views) -> Views:
        return Views(**{name: value[:, at] for name, value in vars(of).items()})

    plain = {name: value[at] for name, value in vars(of).items() if isinstance(value, Tensor)}
    local = None if of.local is None else views(of.local)
    return replace(of, whole=views(of.whole), local=local, **plain)


def model(encoder: AnyEncoderConfig = TINY, seed: int = 0) -> SequenceModel:
    """A model with fresh weights."""
    torch.manual_seed(seed)
    return SequenceModel(SequenceModelConfig(encoder=encoder))
