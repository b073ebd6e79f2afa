"""Rotary positions (Su et al. 2021, arXiv 2104.09864): attention sees distances, at any length.

Dimensions: B window, N token, H head, K key channel, P pair of key channels (K / 2 of them).
"""

import torch
from torch import Tensor

# Slowest wave: 2 pi 10,000 tokens, far beyond the inputs read at base resolution.
_BASE = 10_000.0
_CACHED_TABLES = 8


def rotation_table(tokens: int, key_dim: int) -> Tensor:
    """Cosines and sines of the angles n * base^(-p / P), (2, N, P) in fp32 on the CPU.

    Raises:
        ValueError: if `key_dim` is odd; channels turn in pairs.
    """
    if key_dim % 2:
        raise ValueError(f"Rotary positions turn pairs of channels; {key_dim} is odd.")
    frequency_P = _BASE ** -(torch.arange(0, key_dim, 2, dtype=torch.float64) / key_dim)
    angle_NP = torch.arange(tokens, dtype=torch.float64)[:, None] * frequency_P
    return torch.stack([angle_NP.cos(), angle_NP.sin()]).to(torch.float32)


def rotate(x_BHNK: Tensor, table_2NP: Tensor) -> Tensor:
    """Turn channel p and channel p + P of every token by its angles; in fp32, returned as given.

    The product of a turned query and a turned key depends on the difference of their places only.
    """
    cosine_NP, sine_NP = table_2NP
    first, second = x_BHNK.chunk(2, dim=-1)
    turned = (first * cosine_NP - second * sine_NP, second * cosine_NP + first * sine_NP)
    return torch.cat(turned, dim=-1).to(x_BHNK.dtype)


class Rotary:
    """Tables of one model, computed once per length and device, outside autograd."""

    def __init__(self, key_dim: int) -> None:
        self.key_dim = key_dim
        self._tables: dict[tuple[int, torch.device], Tensor] = {}

    def table(self, tokens: int, device: torch.device) -> Tensor:
        """(2, N, P), fp32."""
        key = (tokens, device)
        if key not in self._tables:
            if len(self._tables) == _CACHED_TABLES:
                self._tables.pop(next(iter(self._tables)))
            # A table made under inference_mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._tables[key] = rotation_table(tokens, self.key_dim).to(device)
        return self._tables[key]
