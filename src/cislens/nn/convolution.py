"""Convolution along the sequence, in the memory order in which it is fast.

Dimensions: B window, L position, C channel. Activations are x_BLC with the channels last: a
1 x 1 convolution, a norm and an attention pool then read consecutive memory, on CPU and GPU.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cislens.nn.batch_norm import BatchNorm
from cislens.nn.checkpointing import spare_buffers

SLOPE = 1.702


class Convolution(nn.Conv1d):
    """`nn.Conv1d` with stride 1 and "same" padding that maps x_BLC to y_BLO.

    The weight keeps the shape (O, C, k) of `nn.Conv1d`, as published checkpoints have it.
    """

    def __init__(self, inputs: int, outputs: int, width: int, bias: bool = True) -> None:
        if width % 2 == 0:
            raise ValueError(f"A convolution of even width ({width}) would shift the sequence.")
        super().__init__(inputs, outputs, width, padding=width // 2, bias=bias)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return convolve(x_BLC, self.weight, self.bias)


def convolve(x_BLC: Tensor, weight_OCK: Tensor, bias_O: Tensor | None) -> Tensor:
    """Stride-1 convolution, zero-padded to the same length; x_BLC -> y_BLO."""
    width = weight_OCK.shape[2]
    if x_BLC.shape[2] <= 4 and x_BLC.device.type == "cpu":
        return _convolve_few_channels(x_BLC, weight_OCK, bias_O)
    if width == 1:
        return F.linear(x_BLC, weight_OCK.squeeze(2), bias_O)
    # Channels-last memory seen as an image of height 1: no copy.
    x_BC1L = x_BLC.transpose(1, 2).unsqueeze(2)
    y_BO1L = F.conv2d(x_BC1L, weight_OCK.unsqueeze(2), bias_O, padding=(0, width // 2))
    return y_BO1L.squeeze(2).transpose(1, 2)


def _convolve_few_channels(x_BLC: Tensor, weight_OCK: Tensor, bias_O: Tensor | None) -> Tensor:
    # A one-hot input has 4 channels, too few to fill a vector register: on a CPU one matrix
    # product over overlapping windows takes 0.6 of the time of the convolution.
    batch, length, channels = x_BLC.shape
    width = weight_OCK.shape[2]
    padded = F.pad(x_BLC, (0, 0, width // 2, width // 2)).contiguous()
    row = (length + 2 * (width // 2)) * channels
    windows = padded.as_strided((batch, length, width * channels), (row, channels, 1))
    return F.linear(windows, weight_OCK.transpose(1, 2).flatten(1), bias_O)


def halved(x_BLC: Tensor, weight_OCK: Tensor, bias_O: Tensor | None) -> Tensor:
    """Convolution of stride 2 and odd width, zero-padded; x_BLC -> y_B(L/2)O, L even."""
    x_BC1L = x_BLC.transpose(1, 2).unsqueeze(2)
    padding = (0, weight_OCK.shape[2] // 2)
    y_BO1L = F.conv2d(x_BC1L, weight_OCK.unsqueeze(2), bias_O, stride=(1, 2), padding=padding)
    return y_BO1L.squeeze(2).transpose(1, 2)


class ConvBlock(nn.Module):
    """`Conv(g(BN(x)))` with g(x) = x * sigmoid(1.702 x) (Enformer, Avsec et al. 2021).

    Batch norm runs over all windows and positions of the batch, so that a batch with windows
    of several species has one set of statistics. Its statistics are fp32 under autocast.
    """

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm(inputs)
        self.conv = Convolution(inputs, outputs, width)

    def forward(self, x_BLC: Tensor, mask_BL1: Tensor | None = None) -> Tensor:
        """x_BLC -> y_BLO. Positions where the mask is 0 are seen as the zeros beyond the ends."""
        return convolve(self.activate(x_BLC, mask_BL1), self.conv.weight / SLOPE, self.conv.bias)

    def activate(self, x_BLC: Tensor, mask_BL1: Tensor | None = None) -> Tensor:
        """What the convolution reads, but for the factor 1.702 that its kernel is divided by."""
        # g(x) = silu(1.702 x) / 1.702: the first factor goes into the norm's scale and shift,
        # the second into the kernel. Half the passes over memory, the same function.
        scaled = {"weight": self.norm.weight * SLOPE, "bias": self.norm.bias * SLOPE}
        state = {**scaled, **spare_buffers(self.norm)}
        h_RC = functional_call(self.norm, state, (x_BLC.flatten(0, 1),))
        h_BLC = F.silu(h_RC).view_as(x_BLC)
        if mask_BL1 is not None:
            h_BLC = h_BLC * mask_BL1.to(h_BLC.dtype)
        return h_BLC


class Residual(nn.Module):
    """x + f(x), where f leaves the shape as it is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x_BLC: Tensor) -> Tensor:
        inner: Tensor = self.inner(x_BLC)
        return x_BLC + inner


def position_mask(valid_BN: Tensor, length: int) -> Tensor:
    """The bin mask at a resolution of `length` positions (a multiple of N), as (B, L, 1)."""
    batch, bins = valid_BN.shape
    return valid_BN.unsqueeze(2).expand(-1, -1, length // bins).reshape(batch, length, 1)
