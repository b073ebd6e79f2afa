"""The mixer block of FinDNA-plus: channels are moved along the sequence, each group by its offset.

After ChordMixer (Khalitov, Yu, Cheng and Yang, ICLR 2023), but to both sides, with zeros beyond
the ends instead of a ring, and with a depth that the length does not decide.
Dimensions: B window, N token, D channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.models.findna.gated import EPS

_SCALE = 0.1
# Offsets 2^0 .. 2^5: any distance below 64 tokens, 512 bp, in 4 blocks or fewer.
_DOUBLINGS = 6
OFFSETS = (0, *(sign * 2**power for power in range(_DOUBLINGS) for sign in (1, -1)))


class MixerBlock(nn.Module):
    """x + s * shift(MLP(RMSNorm(x))); s starts at 0.1 (LayerScale).

    The hidden channels are as many as give the block the weights of a gated one.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=EPS)
        hidden = 9 * dim // 2
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.scale = nn.Parameter(torch.full((dim,), _SCALE))

    def forward(self, x_BND: Tensor, mask_BN1: Tensor | None = None) -> Tensor:
        """`mask_BN1` is 0 for tokens that nobody may read; None where there are none."""
        z_BND = self.mlp(self.norm(x_BND)) * self.scale
        if mask_BN1 is not None:
            z_BND = z_BND * mask_BN1.to(z_BND.dtype)
        return x_BND + shift(z_BND)


def shift(z_BND: Tensor) -> Tensor:
    """Each of the groups of channels from as many tokens further on; zeros beyond the ends."""
    tokens = z_BND.shape[1]
    moved = []
    for group, offset in zip(z_BND.tensor_split(len(OFFSETS), dim=2), OFFSETS, strict=True):
        far = max(-tokens, min(tokens, offset))
        moved.append(F.pad(group, (0, 0, -far, far)))
    return torch.cat(moved, dim=2)
