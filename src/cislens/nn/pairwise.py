"""Losses on all pairs of a batch.

Dimensions: B row of the batch, E channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.nn.precision import full_precision


def sigmoid_contrast(
    q_BE: Tensor, m_BE: Tensor, scale: Tensor, bias: Tensor, apart_BB: Tensor
) -> Tensor:
    """Loss of telling the pairs (q_i, m_i) from the pairs (q_i, m_j), in fp32; a scalar.

    -1/B sum_ij w_ij log sigmoid(z_ij (scale q_i.m_j + bias)) with z = 1 on the diagonal and -1
    elsewhere, after Zhai et al. (2023), SigLIP, algorithm 1. The weight w is 1 on the diagonal and
    where `apart_BB` is True, and 0 elsewhere: such a pair has no gradient.

    Args:
        q_BE, m_BE: unit vectors.
        scale, bias: scalars.
        apart_BB: pairs (i, j) that may count as not belonging together; its diagonal is ignored.
    """
    with full_precision(q_BE.device):
        logit_BB = scale.float() * (q_BE.float() @ m_BE.float().T) + bias.float()
        own_BB = torch.eye(len(q_BE), dtype=torch.bool, device=q_BE.device)
        loss_BB = F.softplus(logit_BB.where(~own_BB, -logit_BB))
        return loss_BB.where(own_BB | apart_BB, 0.0).sum() / len(q_BE)
