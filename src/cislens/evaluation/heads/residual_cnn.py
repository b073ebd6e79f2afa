"""The trunk of `onehot-cnn-base`: dilated residual convolutions, pooled by attention.

Stem of width 19, residual blocks of width 3 with dilations 1 to 16 at base resolution, max pool
of 5, convolution of width 7, residual blocks with dilations 1 to 4 (the class of Tang et al. 2025's
one-hot ResNet, with squeeze-and-excitation and attention pooling).

Dimensions: B sequence, L position, C channel.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.evaluation.heads.fitting import Dropout

_SQUEEZE = 8


class ResidualTrunk(nn.Module):
    """(B, 4, L) -> (B, C); the features of a sequence before the dense layer."""

    def __init__(self, channels: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.features = channels
        self.stem = nn.Conv1d(4, channels, 19, padding=9, bias=False)
        self.stem_norm = nn.BatchNorm1d(channels)
        self.fine = nn.Sequential(
            *[_Block(channels, 2**i, dropout, seed + i) for i in range(5)]
        )  # fmt: skip
        self.middle = nn.Conv1d(channels, channels, 7, padding=3, bias=False)
        self.middle_norm = nn.BatchNorm1d(channels)
        self.coarse = nn.Sequential(
            *[_Block(channels, 2**i, dropout, seed + 5 + i) for i in range(3)]
        )
        self.pool = _AttentionPool(channels)

    def forward(self, x_B4L: Tensor) -> Tensor:
        """Training runs in bf16 where the processor has it, scoring always in fp32.

        So the weights that a seed leads to differ between processors, within training noise.
        """
        device = x_B4L.device.type
        enabled = self.training and has_fast_bf16(device)
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            h_BCL = F.silu(self.stem_norm(self.stem(x_B4L)))
            h_BCL = F.max_pool1d(self.fine(h_BCL), 5, ceil_mode=True)
            h_BCL = F.silu(self.middle_norm(self.middle(h_BCL)))
            pooled: Tensor = self.pool(self.coarse(h_BCL))
        return pooled.float()


class _Block(nn.Module):
    """`x + g * dropout(BN(conv(SiLU(x))))` with a gate g per channel (Hu et al. 2018)."""

    def __init__(self, channels: int, dilation: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )  # fmt: skip
        self.norm = nn.BatchNorm1d(channels)
        squeezed = max(4, channels // _SQUEEZE)
        self.gate = nn.Sequential(
            nn.Linear(channels, squeezed), nn.SiLU(), nn.Linear(squeezed, channels), nn.Sigmoid()
        )
        self.dropout = Dropout(dropout, seed)

    def forward(self, x_BCL: Tensor) -> Tensor:
        h_BCL = self.norm(self.conv(F.silu(x_BCL)))
        # Gate and dropout are one factor per channel: one pass over memory for both.
        factor_BC1 = self.dropout(self.gate(h_BCL.mean(-1))).unsqueeze(-1)
        return torch.addcmul(x_BCL, h_BCL, factor_BC1.to(h_BCL.dtype))


class _AttentionPool(nn.Module):
    """Weighted mean over positions, the weights a softmax per channel of W x.

    W is 2 I at the start, as in Enformer: a channel follows the positions where it is high, and
    a motif counts wherever it lies. From equal weights few steps do not get there.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.logits = nn.Conv1d(channels, channels, 1, bias=False)
        self.logits.weight.data = 2 * torch.eye(channels)[:, :, None]

    def forward(self, x_BCL: Tensor) -> Tensor:
        x_BCL = F.silu(self.norm(x_BCL))
        weight_BCL = self.logits(x_BCL).float().softmax(-1)
        pooled_BC: Tensor = (weight_BCL * x_BCL).sum(-1)
        return pooled_BC


@cache
def has_fast_bf16(device: str) -> bool:
    """Whether products in bf16 have instructions of their own.

    On a CPU that has them a training step takes 0.55 of the time in fp32, and nearly all of it
    is products, at 0.7 of the rate of one large matrix product; in fp32 it is 0.9 of that rate.
    Channels-last memory is no faster in either.
    """
    if device != "cpu":
        return device == "cuda"
    # Older versions of torch do not tell.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16", False))
