"""The running mean of the weights, which is what validation sees and what a run keeps."""

from typing import Any

import torch
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging
from torch import Tensor


class RunningMean(WeightAveraging):
    """Exponential moving average of parameters and statistics, `m + (1 - decay) (x - m)`.

    Written so, a value that does not change keeps its bits, which `decay m + (1 - decay) x` does
    not grant: what is frozen comes out as it went in. Counters are taken as they are.
    """

    def __init__(self, decay: float) -> None:
        def average(means: list[Tensor], values: list[Tensor], _: Any) -> None:
            with torch.no_grad():
                if means[0].is_floating_point():
                    torch._foreach_lerp_(means, values, 1 - decay)
                else:
                    torch._foreach_copy_(means, values)

        super().__init__(multi_avg_fn=average)
