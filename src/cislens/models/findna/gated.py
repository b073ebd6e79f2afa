"""The gated block of FinDNA-plus: what is read about a token, times a gate that is read too.

Dimensions: B window, N token, D channel, K tap.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.depthwise import depthwise
from cislens.nn.transformer import SwiGLU

EPS = 1e-6
_TAPS = 9
_DILATIONS = (1, 2, 4, 8, 16, 32)
_RATIO = 2


def dilations(depth: int) -> tuple[int, ...]:
    """Of each block: 1, 2, 4, 8, 16, 32 and again."""
    return tuple(_DILATIONS[layer % len(_DILATIONS)] for layer in range(depth))


class GatedConvolution(nn.Module):
    """W_o (DW(W_a x) * sigmoid(DW(W_b x))).

    DW is a convolution of each channel for itself over 9 tokens, `dilation` apart. No biases, so
    that tokens which are zeros look like what lies beyond the ends.
    """

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.to_both = nn.Linear(dim, 2 * dim, bias=False)
        bound = 1 / math.sqrt(_TAPS)
        self.taps = nn.Parameter(torch.empty(2 * dim, _TAPS).uniform_(-bound, bound))
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        both = depthwise(self.to_both(x_BND), self.taps, self.dilation)
        out: Tensor = self.to_out(F.glu(both, dim=2))
        return out


class GatedBlock(nn.Module):
    """x + gated convolution of RMSNorm(x), then x + SwiGLU(RMSNorm(x))."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=EPS)
        self.gated = GatedConvolution(dim, dilation)
        self.ffn_norm = nn.RMSNorm(dim, eps=EPS)
        self.ffn = SwiGLU(dim, _RATIO * dim)

    def forward(self, x_BND: Tensor, mask_BN1: Tensor | None = None) -> Tensor:
        """`mask_BN1` is 0 for tokens that nobody may read; None where there are none."""
        u_BND = self.norm(x_BND)
        if mask_BN1 is not None:
            u_BND = u_BND * mask_BN1.to(u_BND.dtype)
        read: Tensor = self.gated(u_BND)
        x_BND = x_BND + read
        update: Tensor = self.ffn(self.ffn_norm(x_BND))
        return x_BND + update
