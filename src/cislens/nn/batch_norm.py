"""Batch normalization whose statistics are those of all processes, on CPUs too.

Dimensions: R row (a position of a window), C channel.
"""

import torch
from torch import Tensor, nn

from cislens.nn.gathering import sum_over_devices, world_size


class BatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` of (R, C), in training over the rows of all processes.

    Torch has such a norm for GPUs only. Lightning puts that one into the place of this one there;
    in evaluation and on one process this one is `nn.BatchNorm1d`.
    """

    def forward(self, x_RC: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x_RC)
        y_RC: Tensor = self._over_devices(x_RC)
        return y_RC

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _over_devices(self, x_RC: Tensor) -> Tensor:
        wide_RC = x_RC.float()
        rows = wide_RC.new_full((1,), len(wide_RC))
        sums = sum_over_devices(torch.cat([wide_RC.sum(dim=0), rows]))
        mean_C, rows = sums[:-1] / sums[-1], sums[-1].detach()
        centered_RC = wide_RC - mean_C
        variance_C = sum_over_devices(centered_RC.square().sum(dim=0)) / rows
        self._remember(mean_C.detach(), variance_C.detach() * rows / (rows - 1).clamp_min(1))
        y_RC = centered_RC * (variance_C + self.eps).rsqrt()
        return (y_RC * self.weight + self.bias).to(x_RC.dtype)

    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)
