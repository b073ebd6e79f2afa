"""The gated block of FinDNA-plus: what is read about a token, times a gate that is read too.

Dimensions: B window, N token, D channel, K tap.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.depthwise import depthwise

EPS = 1e-6
_TAPS = 9
_DILATIONS = (1, 2, 4, 8, 16, 32)
_RATIO = 2


def dilations(depth: int) -> tuple[int, ...]:
    """Of each block: 1, 2, 4, 8, 16, 32 and again."""
    return tuple(_DILATIONS[layer % len(_DILATIONS)] for layer in range(depth))


class GatedBlock(nn.Module):
    """x + W_o (DW(W_a u) * sigmoid(DW(W_b u))) with u = RMSNorm(x), then x + SwiGLU(RMSNorm(x)).

    DW is a convolution of each channel for itself over 9 tokens, `dilation` apart. No biases, so
    that tokens which nobody may read are zeros to those about them, as beyond the ends.
    """

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.RMSNorm(dim, eps=EPS)
        self.to_both = nn.Linear(dim, 2 * dim, bias=False)
        bound = 1 / math.sqrt(_TAPS)
        self.taps = nn.Parameter(torch.empty(2 * dim, _TAPS).uniform_(-bound, bound))
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.ffn_norm = nn.RMSNorm(dim, eps=EPS)
        self.to_hidden = nn.Linear(dim, 2 * _RATIO * dim, bias=False)
        self.from_hidden = nn.Linear(_RATIO * dim, dim, bias=False)

    def forward(self, x_BND: Tensor, mask_BN1: Tensor | None = None) -> Tensor:
        """`mask_BN1` is 0 for tokens that nobody may read; None where there are none."""
        u_BND = self.norm(x_BND)
        if mask_BN1 is not None:
            u_BND = u_BND * mask_BN1.to(u_BND.dtype)
        both = depthwise(self.to_both(u_BND), self.taps, self.dilation)
        x_BND = x_BND + self.to_out(F.glu(both, dim=2))
        gate, value = self.to_hidden(self.ffn_norm(x_BND)).chunk(2, dim=2)
        out: Tensor = x_BND + self.from_hidden(F.silu(gate) * value)
        return out
