"""A convolution of each channel for itself, with gaps between the places that it reads.

Dimensions: B window, N position, C channel, K tap. Activations are x_BNC, channels last.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def depthwise(x_BNC: Tensor, weight_CK: Tensor, dilation: int) -> Tensor:
    """Each channel with its own K (odd) taps, `dilation` positions apart; zeros beyond the ends."""
    if x_BNC.device.type == "cpu" and not torch.compiler.is_compiling():
        y_BNC: Tensor = _Taps.apply(x_BNC, weight_CK.to(x_BNC.dtype), dilation)  # type: ignore[no-untyped-call]
        return y_BNC
    width = weight_CK.shape[1]
    y_BCN = F.conv1d(
        x_BNC.transpose(1, 2),
        weight_CK.unsqueeze(1),
        padding=width // 2 * dilation,
        dilation=dilation,
        groups=len(weight_CK),
    )
    return y_BCN.transpose(1, 2)


class _Taps(torch.autograd.Function):
    """Tap by tap, each added to what lies there: no copy of the input, no padding.

    On a CPU torch's dilated convolutions of single channels leave its fast path and take 5 to 20
    times as long, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, x_BNC: Tensor, weight_CK: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x_BNC, weight_CK)
        ctx.dilation = dilation
        tap_KC = weight_CK.t().contiguous()
        middle = len(tap_KC) // 2
        y_BNC = x_BNC * tap_KC[middle]
        for reach, far in _reaches(x_BNC.shape[1], middle, dilation):
            y_BNC[:, far:].addcmul_(x_BNC[:, :-far], tap_KC[middle - reach])
            y_BNC[:, :-far].addcmul_(x_BNC[:, far:], tap_KC[middle + reach])
        return y_BNC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BNC: Tensor) -> tuple[Tensor, Tensor, None]:
        x_BNC, weight_CK = ctx.saved_tensors
        tap_KC = weight_CK.t().contiguous()
        middle = len(tap_KC) // 2
        dx_BNC = dy_BNC * tap_KC[middle]
        dtap_KC = torch.zeros_like(tap_KC)
        dtap_KC[middle] = (x_BNC * dy_BNC).sum((0, 1))
        for reach, far in _reaches(x_BNC.shape[1], middle, ctx.dilation):
            before, after = slice(None, -far), slice(far, None)
            dx_BNC[:, before].addcmul_(dy_BNC[:, after], tap_KC[middle - reach])
            dx_BNC[:, after].addcmul_(dy_BNC[:, before], tap_KC[middle + reach])
            dtap_KC[middle - reach] = (x_BNC[:, before] * dy_BNC[:, after]).sum((0, 1))
            dtap_KC[middle + reach] = (x_BNC[:, after] * dy_BNC[:, before]).sum((0, 1))
        return dx_BNC, dtap_KC.t(), None


def _reaches(positions: int, middle: int, dilation: int) -> list[tuple[int, int]]:
    """Steps to either side and how far they go, those that end inside the sequence."""
    steps = range(1, middle + 1)
    return [(step, step * dilation) for step in steps if step * dilation < positions]
