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
        return self.gate(self.spread(self.to_both(x_BND)))

    def spread(self, both_BNC: Tensor) -> Tensor:
        """The convolution alone, which is linear."""
        return depthwise(both_BNC, self.taps, self.dilation)

    def gate(self, both_BNC: Tensor) -> Tensor:
        """What the two halves of the channels tell, token by token."""
        out: Tensor = self.to_out(F.glu(both_BNC, dim=2))
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
        return self.finish(x_BND, self.spread(self.read(x_BND, mask_BN1)))

    @property
    def reach(self) -> int:
        """Tokens on either side of a token that it reads."""
        return self.gated.taps.shape[1] // 2 * self.gated.dilation

    def read(self, x_BND: Tensor, mask_BN1: Tensor | None) -> Tensor:
        """What the convolution reads, token by token."""
        u_BND = self.norm(x_BND)
        if mask_BN1 is not None:
            u_BND = u_BND * mask_BN1.to(u_BND.dtype)
        both_BNC: Tensor = self.gated.to_both(u_BND)
        return both_BNC

    def spread(self, read_BNC: Tensor, bias: bool = True) -> Tensor:
        """The convolution; it has no bias."""
        return self.gated.spread(read_BNC)

    def finish(self, x_BND: Tensor, spread_BNC: Tensor) -> Tensor:
        """The block's output from its input and from what the convolution gives."""
        x_BND = x_BND + self.gated.gate(spread_BNC)
        update: Tensor = self.ffn(self.ffn_norm(x_BND))
        return x_BND + update
