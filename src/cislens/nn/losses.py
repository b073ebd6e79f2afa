"""Losses on measured signal. All in fp32, whatever the model ran in.

Dimensions: B window, N bin, T track.
"""

import torch
from torch import Tensor

_FLOOR = 1e-20


def poisson_terms(rate: Tensor, target: Tensor) -> Tensor:
    """Element-wise Poisson negative log-likelihood without its constant: p - t ln p.

    `rate` and `target` have the same shape and are >= 0; the rate is floored at 1e-20 inside
    the logarithm, so that a rate that underflowed to zero gives a finite loss.
    """
    rate, target = rate.float(), target.float()
    return rate - target * torch.log(rate.clamp_min(_FLOOR))


def poisson_by_track(rate_BNT: Tensor, target_BNT: Tensor) -> Tensor:
    """Mean Poisson negative log-likelihood of each track's bins, (T,)."""
    return poisson_terms(rate_BNT, target_BNT).mean(dim=(0, 1))


def poisson_multinomial_by_track(
    rate_BNT: Tensor, target_BNT: Tensor, total_weight: float
) -> Tensor:
    """Negative log-likelihood of shape and total of each track's windows, per bin, (T,).

    The Poisson likelihood of a window's bins is that of their sum times the multinomial one of
    their shares. Here the first counts `total_weight` times; 1 gives `poisson_by_track`. Linder
    et al. (2025, Borzoi) use 0.2.
    """
    rate_BNT, target_BNT = rate_BNT.float(), target_BNT.float()
    rate_BT, target_BT = rate_BNT.sum(dim=1), target_BNT.sum(dim=1)
    whole_BT = poisson_terms(rate_BT, target_BT)
    # -sum t ln(p / P) = -sum t ln p + T ln P
    shape_BT = target_BT * torch.log(rate_BT.clamp_min(_FLOOR))
    shape_BT = shape_BT - (target_BNT * torch.log(rate_BNT.clamp_min(_FLOOR))).sum(dim=1)
    return (total_weight * whole_BT + shape_BT).mean(dim=0) / rate_BNT.shape[1]
