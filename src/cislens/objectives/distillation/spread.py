"""Keeping the vectors of different sequences apart.

Dimensions: B window of this process, A of all processes in the order of the batch, D channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.nn.gathering import gather_rows
from cislens.nn.precision import full_precision

_EPS = 1e-8


def koleo_term(pooled_BD: Tensor) -> Tensor:
    """-mean log of the distance of each unit vector to the nearest other one, in fp32.

    Among those of all processes. The entropy estimate of Kozachenko and Leonenko as Sablayrolles
    et al. (2019) use it; 0 for a vector alone.
    """
    with full_precision(pooled_BD.device):
        unit_BD = F.normalize(pooled_BD.float(), dim=1)
        all_AD, own_B = gather_rows(unit_BD)
        if len(all_AD) < 2:
            return 0.0 * unit_BD.sum()
        with torch.no_grad():
            like_BA = unit_BD @ all_AD.T
            like_BA.scatter_(1, own_B[:, None], -torch.inf)
            nearest_B = like_BA.argmax(dim=1)
        distance_B = (unit_BD - all_AD[nearest_B]).square().sum(dim=1).add(_EPS**2).sqrt()
        return -distance_B.log().mean()


def contrast_term(
    student_BD: Tensor, teacher_BD: Tensor, near_BA: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy in nats, in fp32, of finding the teacher's vector of the same window.

    The other windows of the batch, on all processes, are the wrong ones (InfoNCE, van den Oord et
    al. 2018), but for those of `near_BA`; its own pairs are ignored.
    """
    with full_precision(student_BD.device):
        teacher_AD, own_B = gather_rows(F.normalize(teacher_BD.float(), dim=1))
        like_BA = F.normalize(student_BD.float(), dim=1) @ teacher_AD.T
        own_BA = own_B[:, None] == torch.arange(len(teacher_AD), device=own_B.device)
        logit_BA = (like_BA / temperature).masked_fill(near_BA & ~own_BA, -torch.inf)
        return -logit_BA.log_softmax(dim=1).gather(1, own_B[:, None]).mean()


def may_overlap(chrom_B: Tensor, start_B: Tensor, length: int) -> Tensor:
    """Which windows of `length` bp may share a base with which of all processes, (B, A).

    Species are not told apart: chromosomes of one number count as one.
    """
    place_A2, _ = gather_rows(torch.stack([chrom_B.long(), start_B.long()], dim=1))
    same_BA = chrom_B[:, None] == place_A2[:, 0]
    return same_BA & ((start_B[:, None] - place_A2[:, 1]).abs() < length)
