"""Losses on measured signal. All in fp32, whatever the model ran in."""

import torch
from torch import Tensor


def poisson_terms(rate: Tensor, target: Tensor) -> Tensor:
    """Element-wise Poisson negative log-likelihood without its constant: p - t ln p.

    `rate` and `target` have the same shape and are >= 0; the rate is floored at 1e-20 inside
    the logarithm, so that a rate that underflowed to zero gives a finite loss.
    """
    rate, target = rate.float(), target.float()
    return rate - target * torch.log(rate.clamp_min(1e-20))


def poisson(rate: Tensor, target: Tensor) -> Tensor:
    """Mean Poisson negative log-likelihood over all elements."""
    return poisson_terms(rate, target).mean()
