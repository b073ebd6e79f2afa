"""Losses on all pairs of a batch.

Dimensions: B row of this process, A row of the batch on all processes, E channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.nn.gathering import gather_rows
from cislens.nn.precision import full_precision


def sigmoid_contrast(
    q_BE: Tensor, m_BE: Tensor, scale: Tensor, bias: Tensor, apart_BA: Tensor
) -> Tensor:
    """Loss of telling the pairs (q_i, m_i) from the pairs (q_i, m_j), in fp32; a scalar.

    -1/B sum_ij w_ij log sigmoid(z_ij (scale q_i.m_j + bias)) with z = 1 on the diagonal and -1
    elsewhere, after Zhai et al. (2023), SigLIP, algorithm 1. The weight w is 1 on the diagonal and
    where `apart_BA` is True, and 0 elsewhere: such a pair has no gradient.

    Args:
        q_BE, m_BE: unit vectors.
        scale, bias: scalars.
        apart_BA: pairs (i, j) that may count as not belonging together; own pairs are ignored.
    """
    with full_precision(q_BE.device):
        m_AE, own_B = gather_rows(m_BE.float())
        logit_BA = scale.float() * (q_BE.float() @ m_AE.T) + bias.float()
        own_BA = own_B[:, None] == torch.arange(len(m_AE), device=own_B.device)
        loss_BA = F.softplus(logit_BA.where(~own_BA, -logit_BA))
        return loss_BA.where(own_BA | apart_BA, 0.0).sum() / len(q_BE)
