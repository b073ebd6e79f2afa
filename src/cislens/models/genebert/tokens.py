"""A transformer over regions: one token per region, placed by its distance in base pairs.

Dimensions: B locus, R region, T motif, E channel, H head, K channel of a head, F frequency.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from cislens.models.genebert.columns import RegionColumns, at_center
from cislens.models.genebert.contract import RegionContext, RegionEncoder, RegionTokens
from cislens.recipes.reading import Section

# Of the sines over sign(d) ln(1 + |d|), which runs from -16 to 16: the slowest does not repeat.
_FREQUENCIES = (0.1, 10.0)
# The distance bias is slope * ln(1 + |d| / this), d in bp; regions are about that far apart.
_NEAR = 1000.0
_STEEPEST, _FLATTEST = 2.0, 0.05


class RegionTokensConfig(Section):
    """Shape of the region-token transformer.

    Attributes:
        dim: channels of a region.
        depth: layers.
        heads: attention heads per layer.
        dropout: behind attention and behind the feed-forward part of each layer.
    """

    kind: Literal["tokens"] = "tokens"
    dim: int = Field(ge=2)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> "RegionTokensConfig":
        if self.dim % 2 or self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be even and a multiple of heads {self.heads}")
        return self


class RegionLayer(nn.Module):
    """Pre-norm attention among regions, then two linear layers, both beside the identity.

    Attention logits get `-slope_h ln(1 + |d| / 1 kb)`, with a learned slope per head.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.slopes = nn.Parameter(
            torch.logspace(math.log2(_STEEPEST), math.log2(_FLATTEST), heads, base=2.0)
        )
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BRE: Tensor, distance_BRR: Tensor, pad_BR: Tensor) -> Tensor:
        """`distance_BRR` is ln(1 + |d| / 1 kb). Regions that are padding are not attended to."""
        qkv = self.to_qkv(self.attention_norm(x_BRE))
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias_BHRR = (-self.slopes[:, None, None] * distance_BRR.unsqueeze(1)).to(q.dtype)
        # The lowest finite number: a context of nothing but padding must not give NaN.
        lowest = torch.finfo(q.dtype).min
        bias_BHRR = bias_BHRR.masked_fill(pad_BR[:, None, None, :], lowest)
        y_BHRK = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_BHRR)
        x_BRE = x_BRE + self.dropout(self.to_out(y_BHRK.transpose(1, 2).flatten(2)))
        update: Tensor = self.dropout(self.mlp(self.mlp_norm(x_BRE)))
        return x_BRE + update


class CenterPool(nn.Module):
    """A context as its central region plus what that one attends to."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, values_BRE: Tensor, center_BE: Tensor, pad_BR: Tensor) -> Tensor:
        """(B, E)."""
        k_BRE, v_BRE = self.to_kv(values_BRE).chunk(2, dim=2)
        q_B1E = self.to_q(center_BE).unsqueeze(1)
        mask_B1R = torch.zeros_like(pad_BR, dtype=q_B1E.dtype).unsqueeze(1)
        mask_B1R = mask_B1R.masked_fill(pad_BR.unsqueeze(1), torch.finfo(q_B1E.dtype).min)
        y_B1E = F.scaled_dot_product_attention(q_B1E, k_BRE, v_BRE, attn_mask=mask_B1R)
        pooled: Tensor = center_BE + self.to_out(y_B1E.squeeze(1))
        return pooled


class RegionTokensEncoder(RegionEncoder):
    """Region columns plus place, transformer layers, final norm.

    The order of the motifs means nothing, and the order of the regions nothing but their places.
    """

    def __init__(self, config: RegionTokensConfig, motifs: int, expression: bool) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.columns = RegionColumns(motifs, config.dim, expression)
        self.layers = nn.ModuleList(
            RegionLayer(config.dim, config.heads, config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.pool = CenterPool(config.dim)

    def forward(self, context: RegionContext) -> RegionTokens:
        pad_BR = context.pad_BR
        # What padding has for an offset is nobody's business, be it NaN.
        offset_BR = context.offset_BR.where(~pad_BR, 0.0)
        x_BRE = self.columns(context) + place(offset_BR, self.dim)
        distance_BRR = torch.log1p((offset_BR[:, :, None] - offset_BR[:, None, :]).abs() / _NEAR)
        for layer in self.layers:
            x_BRE = layer(x_BRE, distance_BRR, pad_BR)
        values_BRE = self.norm(x_BRE)
        center_BE = at_center(values_BRE, context)
        pooled_BE = self.pool(values_BRE, center_BE, pad_BR)
        return RegionTokens(values_BRE, pad_BR, center_BE, pooled_BE)


def place(offset_BR: Tensor, dim: int) -> Tensor:
    """Sines and cosines of sign(d) ln(1 + |d|), d the offset in bp; (B, R, E), fp32."""
    low, high = (math.log2(each) for each in _FREQUENCIES)
    rate_F = torch.logspace(low, high, dim // 2, base=2.0, device=offset_BR.device)
    phase_BRF = (offset_BR.sign() * offset_BR.abs().log1p()).float().unsqueeze(2) * rate_F
    return torch.cat([phase_BRF.sin(), phase_BRF.cos()], dim=2)
