"""Attention with relative positions (Transformer-XL form, as in Enformer).

Dimensions: B window, N token, D channel, H head, K key channel, V value channel, F position
feature, R relative distance (2 N - 1 of them).
"""

import torch
from torch import Tensor, nn


def shift(logits_BHNR: Tensor) -> Tensor:
    """From logits by query and distance, (B, H, N, 2N-1), to logits by query and key, (B, H, N, N).

    Entry (i, j) is entry (i, (j - i) + N - 1) of the input: in a row after row storage a view whose
    rows are one element shorter and start at N - 1. A padded copy would take a third more time.
    """
    logits_BHNR = logits_BHNR.contiguous()
    batch, heads, tokens, distances = logits_BHNR.shape
    window = tokens * distances
    return logits_BHNR.as_strided(
        (batch, heads, tokens, tokens),
        (heads * window, window, distances - 1, 1),
        logits_BHNR.storage_offset() + tokens - 1,
    )


class RelativeAttention(nn.Module):
    """Multi-head attention whose logits add content and relative position.

    `logit_ij = (q_i / sqrt(d_k) + u_h) . k_j + (q_i / sqrt(d_k) + v_h) . W_R r_(j-i)`; the
    output projection starts at zero. Logits and softmax are fp32 under autocast.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        key_dim: int,
        position_features: int,
        dropout: float = 0.05,
        position_dropout: float = 0.01,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = key_dim**-0.5
        self.to_q = nn.Linear(dim, heads * key_dim, bias=False)
        self.to_k = nn.Linear(dim, heads * key_dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)
        self.to_rel_k = nn.Linear(position_features, heads * key_dim, bias=False)
        self.content_bias = nn.Parameter(torch.randn(1, heads, 1, key_dim))
        self.position_bias = nn.Parameter(torch.randn(1, heads, 1, key_dim))
        self.dropout = nn.Dropout(dropout)
        self.position_dropout = nn.Dropout(position_dropout)

    def forward(self, x_BND: Tensor, basis_RF: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """Keys where `valid_BN` is False get no attention; without any valid key all are equal."""
        q_BHNK = self._split(self.to_q(x_BND)) * self.scale
        k_BHNK, v_BHNV = self._split(self.to_k(x_BND)), self._split(self.to_v(x_BND))
        basis_RF = self.position_dropout(basis_RF.to(self.to_rel_k.weight.dtype))
        r_HRK = self._split(self.to_rel_k(basis_RF).unsqueeze(0))
        content = (q_BHNK + self.content_bias) @ k_BHNK.transpose(-1, -2)
        position = (q_BHNK + self.position_bias) @ r_HRK.transpose(-1, -2)
        dtype = torch.promote_types(content.dtype, torch.float32)
        logits_BHNN = content.to(dtype) + shift(position).to(dtype)
        if valid_BN is not None:
            logits_BHNN = logits_BHNN.masked_fill(
                ~valid_BN[:, None, None, :], torch.finfo(logits_BHNN.dtype).min
            )
        weights = self.dropout(logits_BHNN.softmax(dim=-1)).to(v_BHNV.dtype)
        y_BND = (weights @ v_BHNV).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(y_BND)
        return out

    def _split(self, x_BNX: Tensor) -> Tensor:
        batch, tokens, _ = x_BNX.shape
        return x_BNX.reshape(batch, tokens, self.heads, -1).transpose(1, 2)
