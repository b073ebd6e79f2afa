"""Small heads that put a sequence and a context side by side.

Dimensions: B locus, N place of the sequence, S step of the sequence, R region, Y whatever is
attended to, D channel of the sequence, E of the regions, C of the head, H attention head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.models.contract import Embedding
from cislens.models.genebert.contract import RegionTokens
from cislens.models.reading import Reading

# Steps in which a context reads a sequence, bp: about a motif.
STEP = 16
_CROSS_LAYERS = 2
_CROSS_HEADS = 4
# Temperature and bias at the start (SigLIP, Zhai et al., ICCV 2023).
_SCALE, _BIAS = math.log(10.0), -10.0
_VECTOR_SD = 0.02


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class Projection(nn.Module):
    """Sequences and contexts as unit vectors of one space."""

    def __init__(self, dim: int, region_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.sequence = mlp(dim, joint_dim, joint_dim)
        self.context = mlp(region_dim, joint_dim, joint_dim)
        self.log_scale = nn.Parameter(torch.tensor(_SCALE))
        self.bias = nn.Parameter(torch.tensor(_BIAS))

    def forward(self, reading: Reading, tokens: RegionTokens) -> tuple[Tensor, Tensor]:
        """Both (B, C), fp32 at least."""
        q_BC, m_BC = self.sequence(reading.pooled_BD), self.context(tokens.pooled_BE)
        dtype = torch.promote_types(q_BC.dtype, torch.float32)
        return F.normalize(q_BC.to(dtype), dim=1), F.normalize(m_BC.to(dtype), dim=1)


class PooledMatch(nn.Module):
    """Does the context belong to the sequence, judged by their two pooled vectors."""

    def __init__(self, dim: int, region_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.judge = mlp(dim + region_dim, joint_dim, 1)

    def forward(self, reading: Reading, tokens: RegionTokens) -> Tensor:
        """Logits, (B,)."""
        both = torch.cat([reading.pooled_BD, tokens.pooled_BE], dim=1)
        logits: Tensor = self.judge(both).squeeze(1)
        return logits


class CrossLayer(nn.Module):
    """Regions attend to the steps of the sequence and to each other; pre-norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = mlp(dim, 2 * dim, dim)

    def forward(self, x_BRC: Tensor, steps_BSC: Tensor, blind_BY: Tensor) -> Tensor:
        """`blind_BY` tells which of the steps, and then of the regions, are not attended to."""
        q_BRC = self.query_norm(x_BRC)
        k_BYC, v_BYC = self.to_kv(torch.cat([steps_BSC, q_BRC], dim=1)).chunk(2, dim=2)
        q, k, v = (_heads(each) for each in (self.to_q(q_BRC), k_BYC, v_BYC))
        lowest = torch.finfo(q.dtype).min
        mask_BY = torch.zeros_like(blind_BY, dtype=q.dtype).masked_fill(blind_BY, lowest)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BY[:, None, None, :])
        x_BRC = x_BRC + self.to_out(y.transpose(1, 2).flatten(2))
        update: Tensor = self.mlp(self.mlp_norm(x_BRC))
        return x_BRC + update


class CrossMatch(nn.Module):
    """Does the context belong to the sequence: regions read it, and the central one judges."""

    def __init__(self, dim: int, region_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.sequence = nn.Sequential(nn.Linear(dim, joint_dim), nn.LayerNorm(joint_dim))
        self.region = nn.Linear(region_dim, joint_dim)
        self.central = nn.Parameter(torch.randn(joint_dim) * _VECTOR_SD)
        self.layers = nn.ModuleList(CrossLayer(joint_dim) for _ in range(_CROSS_LAYERS))
        self.norm = nn.LayerNorm(joint_dim)
        self.judge = nn.Linear(joint_dim, 1)

    def forward(self, reading: Reading, tokens: RegionTokens) -> Tensor:
        """Logits, (B,)."""
        steps_BSD, blind_BS = in_steps(reading.embedding)
        steps_BSC = self.sequence(steps_BSD)
        # The central region is put first, where its answer is found whatever its column was.
        central_B1C = self.region(tokens.center_BE).unsqueeze(1) + self.central
        x_BRC = torch.cat([central_B1C, self.region(tokens.values_BRE)], dim=1)
        seen_B1 = torch.zeros_like(blind_BS[:, :1])
        blind_BY = torch.cat([blind_BS, seen_B1, tokens.pad_BR], dim=1)
        for layer in self.layers:
            x_BRC = layer(x_BRC, steps_BSC, blind_BY)
        logits: Tensor = self.judge(self.norm(x_BRC[:, 0])).squeeze(1)
        return logits


def in_steps(embedding: Embedding) -> tuple[Tensor, Tensor]:
    """Means over the valid places of every 16 bp, (B, S, D), and which have none, (B, S)."""
    width = max(1, STEP // embedding.bin_size)
    valid_BN1 = embedding.valid_BN.unsqueeze(2)
    x_BND = embedding.values_BND.where(valid_BN1, 0.0)
    batch, places, dim = x_BND.shape
    more = -places % width
    sum_BSD = F.pad(x_BND, (0, 0, 0, more)).reshape(batch, -1, width, dim).sum(dim=2)
    count_BS1 = F.pad(valid_BN1, (0, 0, 0, more)).reshape(batch, -1, width, 1).sum(dim=2)
    return sum_BSD / count_BS1.clamp_min(1), count_BS1.squeeze(2) == 0


def _heads(x_BYC: Tensor) -> Tensor:
    batch, places, _ = x_BYC.shape
    return x_BYC.reshape(batch, places, _CROSS_HEADS, -1).transpose(1, 2)
