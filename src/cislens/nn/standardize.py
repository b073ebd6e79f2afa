"""Batch normalization without a scale whose statistics are those of all processes, on any device.

Dimensions: B row of this process, A row of all processes, D channel.
"""

import torch
from torch import Tensor, nn

from cislens.nn.gathering import gather_rows
from cislens.nn.precision import full_precision

_MEMORY = 0.9
_EPS = 1e-5


class Standardize(nn.Module):
    """Every channel with mean 0 and variance 1 over the rows.

    In training over those of the batch, the gradient going through the statistics; in evaluation
    with their running means, which are plain means until the memory of 0.9 is full.
    """

    mean_D: Tensor
    variance_D: Tensor
    batches: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("variance_D", torch.ones(dim))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B, D) in fp32."""
        with full_precision(x_BD.device):
            x_BD = x_BD.float()
            mean_D, variance_D = self.mean_D, self.variance_D
            if self.training:
                rows_AD, _ = gather_rows(x_BD)
                variance_D, mean_D = torch.var_mean(rows_AD, dim=0, correction=0)
                self._remember(mean_D.detach(), variance_D.detach())
            return (x_BD - mean_D) * (variance_D + _EPS).rsqrt()

    def _remember(self, mean_D: Tensor, variance_D: Tensor) -> None:
        self.batches += 1
        share = (1 / self.batches).clamp_min(1 - _MEMORY)
        self.mean_D.lerp_(mean_D, share)
        self.variance_D.lerp_(variance_D, share)
