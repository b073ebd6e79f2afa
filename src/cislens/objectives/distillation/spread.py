"""Keeping the vectors of different sequences apart.

Dimensions: B window of this process, A window of all processes, D channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.nn.gathering import gather_rows
from cislens.nn.precision import full_precision

_EPS = 1e-8


def koleo_term(pooled_BD: Tensor, gathered: bool) -> Tensor:
    """-mean log of the distance of each unit vector to the nearest other one, in fp32.

    The entropy estimate of Kozachenko and Leonenko as Sablayrolles et al. (2019) use it; 0 for a
    vector alone.

    Args:
        gathered: look for the nearest one among those of all processes.
    """
    with full_precision(pooled_BD.device):
        unit_BD = F.normalize(pooled_BD.float(), dim=1)
        all_AD, first = gather_rows(unit_BD) if gathered else (unit_BD, 0)
        if len(all_AD) < 2:
            return 0.0 * unit_BD.sum()
        with torch.no_grad():
            like_BA = unit_BD @ all_AD.T
            row_B = torch.arange(len(unit_BD), device=unit_BD.device)
            like_BA[row_B, first + row_B] = -torch.inf
            nearest_B = like_BA.argmax(dim=1)
        distance_B = (unit_BD - all_AD[nearest_B]).square().sum(dim=1).add(_EPS**2).sqrt()
        return -distance_B.log().mean()


def contrast_term(
    student_BD: Tensor, teacher_BD: Tensor, near_BB: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy in nats, in fp32, of finding the teacher's vector of the same window.

    The other windows of the process's batch are the wrong ones (InfoNCE, van den Oord et al. 2018),
    but for those of `near_BB`; its diagonal is ignored.
    """
    with full_precision(student_BD.device):
        like_BB = F.normalize(student_BD.float(), dim=1) @ F.normalize(teacher_BD.float(), dim=1).T
        own_BB = torch.eye(len(like_BB), dtype=torch.bool, device=like_BB.device)
        logit_BB = (like_BB / temperature).masked_fill(near_BB & ~own_BB, -torch.inf)
        return -logit_BB.log_softmax(dim=1).diagonal().mean()


def may_overlap(chrom_B: Tensor, start_B: Tensor, length: int) -> Tensor:
    """Which windows of `length` bp may share a base, (B, B).

    Species are not told apart: chromosomes of one number count as one.
    """
    same_BB = chrom_B[:, None] == chrom_B[None, :]
    return same_BB & ((start_B[:, None] - start_B[None, :]).abs() < length)
