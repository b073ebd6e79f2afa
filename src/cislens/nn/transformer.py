"""Transformer blocks on torch's scaled dot product attention.

With `valid_BN` None no matrix of N x N entries is made, neither forward nor backward.
Dimensions: B window, N token, D channel, H head, K key channel, P pair of key channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.rotary import rotate

# As BERT has it.
POST_NORM_EPS = 1e-12
_WHOLE = 8


class SelfAttention(nn.Module):
    """Multi-head self-attention, `softmax(q k^T / sqrt(K)) v`.

    Args:
        dropout: of the attention weights, in training.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.to_out = nn.Linear(dim, dim, bias=bias)

    def forward(
        self, x_BND: Tensor, valid_BN: Tensor | None = None, table_2NP: Tensor | None = None
    ) -> Tensor:
        """Attend among the tokens of each window.

        Args:
            valid_BN: tokens that may be read; None where all may. See `readable`.
            table_2NP: rotary positions; None leaves queries and keys as they are.
        """
        batch, tokens, dim = x_BND.shape
        qkv = self.to_qkv(x_BND).view(batch, tokens, 3, self.heads, dim // self.heads)
        if table_2NP is not None:
            # Queries and keys turn together: half the passes over memory.
            turned = rotate(qkv[:, :, :2].permute(0, 2, 3, 1, 4), table_2NP)
            q_BHNK, k_BHNK = turned.unbind(1)
        else:
            q_BHNK, k_BHNK = (qkv[:, :, part].transpose(1, 2) for part in (0, 1))
        y_BHNK = F.scaled_dot_product_attention(
            q_BHNK,
            k_BHNK,
            qkv[:, :, 2].transpose(1, 2),
            attn_mask=None if valid_BN is None else valid_BN[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.to_out(y_BHNK.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class SwiGLU(nn.Module):
    """W (silu(U x) * V x) (Shazeer 2020).

    Args:
        hidden: channels within; about 8/3 D unless given, which makes 8 D^2 weights.
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or -(-8 * dim // (3 * _WHOLE)) * _WHOLE
        self.to_hidden = nn.Linear(dim, 2 * hidden, bias=False)
        self.to_out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        gate, value = self.to_hidden(x_BND).chunk(2, dim=-1)
        out: Tensor = self.to_out(F.silu(gate) * value)
        return out


class PreNormBlock(nn.Module):
    """x + attention(RMSNorm x), then x + SwiGLU(RMSNorm x); no biases."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, heads)
        self.ffn_norm = nn.RMSNorm(dim, eps=1e-6)
        self.ffn = SwiGLU(dim)

    def forward(
        self, x_BND: Tensor, valid_BN: Tensor | None = None, table_2NP: Tensor | None = None
    ) -> Tensor:
        attended: Tensor = self.attention(self.attention_norm(x_BND), valid_BN, table_2NP)
        x_BND = x_BND + attended
        update: Tensor = self.ffn(self.ffn_norm(x_BND))
        return x_BND + update


class PostNormBlock(nn.Module):
    """LN(x + attention(x)), then LN(x + MLP(x)) with 4 D hidden channels and GELU, as BERT."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads, dropout, bias=True)
        self.attention_dropout = nn.Dropout(dropout)
        self.attention_norm = nn.LayerNorm(dim, eps=POST_NORM_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
        )
        self.mlp_norm = nn.LayerNorm(dim, eps=POST_NORM_EPS)

    def forward(self, x_BND: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        attended = self.attention_dropout(self.attention(x_BND, valid_BN))
        x_BND = self.attention_norm(x_BND + attended)
        out: Tensor = self.mlp_norm(x_BND + self.mlp(x_BND))
        return out


def readable(valid_BN: Tensor | None) -> Tensor | None:
    """The mask for attention: in a window without any valid token all are read.

    A softmax over no key has no value, and what such a window gives means nothing anyway.
    """
    if valid_BN is None:
        return None
    return valid_BN | ~valid_BN.any(dim=1, keepdim=True)
