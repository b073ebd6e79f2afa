"""Halving the resolution: attention over adjacent pairs.

Dimensions: B window, L position, C channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.convolution import convolve


class AttentionPool(nn.Module):
    """Softmax-weighted sum of adjacent pairs, per channel; (B, L, C) -> (B, ceil(L/2), C).

    The logits are W x with W (C, C, 1, 1) without bias and 2 I at the start (Enformer). Of an
    odd length the last position stands alone and passes unchanged.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(2.0 * torch.eye(channels)[:, :, None, None])

    def forward(self, x_BLC: Tensor) -> Tensor:
        odd = x_BLC.shape[1] % 2
        padded = F.pad(x_BLC, (0, 0, 0, odd)) if odd else x_BLC
        batch, length, channels = padded.shape
        first, second = padded.reshape(batch, length // 2, 2, channels).unbind(2)
        # A softmax over two logits is the sigmoid of their difference, and W a - W b is
        # W (a - b): half the product at half the resolution.
        difference = first - second
        share = torch.sigmoid(convolve(difference, self.weight.squeeze(3), None))
        if odd:
            share = torch.cat([share[:, :-1], torch.ones_like(share[:, -1:])], dim=1)
        return torch.addcmul(second, share, difference)
