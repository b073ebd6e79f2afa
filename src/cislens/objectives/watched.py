"""What validation looks at in an encoder of sequences, beside the loss.

Dimensions: B window, R strand of a window, P base pair of a window, L of a view, D channel.
"""

import torch
from torch import Tensor

from cislens.models.contract import Embedding, Encoder
from cislens.objectives.bases import base_nats, scored_bases
from cislens.objectives.profile import one_hot
from cislens.objectives.sequence_batch import TorchSequenceBatch, Views

_C, _G, _N = 1, 2, 4


def vector(embedding: Embedding) -> Tensor:
    """One vector per sequence: what the encoder says of it as a whole, or the mean of its bins.

    It is the vector that is distilled, and that `cislens embed` gives by default.
    """
    return embedding.mean() if embedding.summary_BD is None else embedding.summary_BD


def both_strands(encoder: Encoder, batch: TorchSequenceBatch) -> Tensor:
    """Vectors of the parent windows as they are, and of their reverse complements, (2, B, D)."""
    x_B4P = one_hot(batch.parent_BP)
    both_R4P = torch.cat([x_B4P, x_B4P.flip(1, 2)])
    pooled_RD = vector(encoder(both_R4P, batch.species_B.repeat(2))).float()
    return pooled_RD.view(2, len(x_B4P), -1)


def of_windows(pooled_2BD: Tensor, batch: TorchSequenceBatch) -> dict[str, Tensor]:
    """The mean of the vectors of both strands, and what is known of the windows."""
    return {
        "pooled": pooled_2BD.mean(dim=0),
        "label": batch.label_B,
        "repeat": batch.repeat_B,
        "chrom": batch.chrom_B,
        "start": batch.start_B,
        "species": batch.species_B,
        **composition(batch.parent_BP),
    }


def composition(codes_BP: Tensor) -> dict[str, Tensor]:
    """Share of G and C among the called bases, and of CG among pairs of called ones, (B,) each."""
    called_BP = codes_BP != _N
    strong_BP = (codes_BP == _C) | (codes_BP == _G)
    pairs_B = (called_BP[:, 1:] & called_BP[:, :-1]).sum(dim=1)
    cg_B = ((codes_BP[:, :-1] == _C) & (codes_BP[:, 1:] == _G)).sum(dim=1)
    return {
        "gc": strong_BP.sum(dim=1) / called_BP.sum(dim=1).clamp_min(1),
        "cpg": cg_B / pairs_B.clamp_min(1),
    }


def of_bases(logits_BL4: Tensor, views: Views) -> dict[str, Tensor]:
    """Sums over the hidden bases of views that are asked, all and those outside of repeats."""
    target_BL = views.target_VBL.flatten(0, 1)
    # Those left visible could be copied, which is no skill.
    unseen_BL = (views.scored_VBL & views.hidden_VBL).flatten(0, 1)
    asked_BL = scored_bases(target_BL, unseen_BL)
    unique_BL = asked_BL & ~views.repeat_VBL.flatten(0, 1)
    nats_BL = base_nats(logits_BL4, target_BL, asked_BL).double()
    right_BL = (logits_BL4.argmax(dim=2) == target_BL) & asked_BL
    return {
        "masked/nats": nats_BL.sum(),
        "masked/count": asked_BL.sum(),
        "masked/right": right_BL.sum(),
        "masked/nats_unique": nats_BL.where(unique_BL, 0.0).sum(),
        "masked/count_unique": unique_BL.sum(),
    }
