"""Features of the relative position of two tokens.

Dimensions: F features, K features per family (F = 6 K), N tokens. Rows of a table run over the
distances d = j - i = -(N-1) .. N-1 in tokens. Families: exponential decay, central mask and
gamma density; then all three again with the sign of d (Enformer, Avsec et al. 2021).
"""

import math
from typing import Literal

import torch
from torch import Tensor

Positions = Literal["bp", "position", "feature-axis", "analytic"]

# The base-pair basis spans this distance whatever the input's length: Enformer's input.
REFERENCE_BP = 196_608
_CACHED_TABLES = 8


def relative_basis(tokens: int, features: int, positions: Positions, bin_size: int) -> Tensor:
    """The table of relative position features, (2 N - 1, F) in fp32 on the CPU.

    Args:
        tokens: N.
        features: F, a multiple of 6.
        positions: "bp" measures distance in base pairs against a fixed reference, so that the
            same distance has the same features at every input length. The others are derived
            from N as published and name how the gamma features are normalized: "position"
            divides every feature by its maximum over positions (DeepMind's Enformer);
            "feature-axis" divides every row by its maximum over features (enformer-pytorch and
            the published SPACE weights); "analytic" divides by the density at the mode.
        bin_size: base pairs per token; only "bp" uses it.
    """
    if features % 6:
        raise ValueError(f"Position features come in sixes, not {features}.")
    count = features // 6
    distance = torch.arange(1 - tokens, tokens, dtype=torch.float64)
    magnitude = distance.abs()[:, None]
    if positions == "bp":
        one_sided = _bp_features(magnitude * bin_size, count, bin_size)
    else:
        one_sided = _token_features(magnitude, count, tokens, positions)
    one_sided = one_sided.to(torch.float64)
    table = torch.cat([one_sided, distance.sign()[:, None] * one_sided], dim=1)
    return table.to(torch.float32)


def _bp_features(bp_D1: Tensor, count: int, bin_size: int) -> Tensor:
    half_life = 2.0 ** torch.linspace(10, math.log2(REFERENCE_BP), count, dtype=torch.float64)
    bins = math.log2(REFERENCE_BP / bin_size)
    width = bin_size * 2.0 ** torch.linspace(0, bins, count, dtype=torch.float64)
    return torch.cat(
        [
            2.0 ** (-bp_D1 / half_life),
            (bp_D1 < width).to(torch.float64),
            _gamma_at_mode(bp_D1, count, float(REFERENCE_BP)),
        ],
        dim=1,
    )


def _token_features(distance_D1: Tensor, count: int, tokens: int, positions: Positions) -> Tensor:
    half_life = 2.0 ** torch.linspace(3, math.log2(tokens), count, dtype=torch.float64)
    width = 2.0 ** torch.arange(1, count + 1, dtype=torch.float64) - 1
    if positions == "analytic":
        gamma = _gamma_at_mode(distance_D1, count, float(tokens))
    elif positions == "position":
        density = _gamma_density(distance_D1, count, tokens)
        gamma = density / density.amax(dim=0, keepdim=True)
    else:
        # fp32 with log-gamma, as the weights that need this basis were trained with it.
        density = _gamma_density(distance_D1.to(torch.float32), count, tokens)
        gamma = (density / density.amax(dim=1, keepdim=True)).to(torch.float64)
    exponential = 2.0 ** (-distance_D1 / half_life)
    return torch.cat([exponential, (distance_D1 < width).to(torch.float64), gamma], dim=1)


def _gamma_density(distance_D1: Tensor, count: int, tokens: int) -> Tensor:
    """Gamma density + 1e-8 with means i N / K and standard deviation N / (2 K)."""
    # Written as enformer-pytorch writes it: in fp32 at K = 32 the order of operations shows in
    # the third digit, and its weights were trained with these values.
    mean = torch.linspace(tokens / count, tokens, count, dtype=distance_D1.dtype)
    deviation = tokens / (2 * count)
    shape, rate = (mean / deviation) ** 2, mean / deviation**2
    log_density = torch.xlogy(shape - 1, distance_D1) - rate * distance_D1
    log_normalizer = torch.lgamma(shape) - shape * torch.log(rate)
    return torch.exp(log_density - log_normalizer) + 1e-8


def _gamma_at_mode(distance_D1: Tensor, count: int, span: float) -> Tensor:
    """The same densities divided by their value at the mode; independent of the grid."""
    index = torch.arange(1, count + 1, dtype=torch.float64)
    exponent = 4 * index**2 - 1
    relative = distance_D1 * (4 * index * count) / (exponent * span)
    return torch.exp(exponent * (1 + torch.log(relative) - relative))


class RelativeBasis:
    """Position tables of one model, computed once per length and device, outside autograd."""

    def __init__(self, features: int, positions: Positions, bin_size: int) -> None:
        self.features = features
        self.positions = positions
        self.bin_size = bin_size
        self._tables: dict[tuple[int, torch.device], Tensor] = {}

    def table(self, tokens: int, device: torch.device) -> Tensor:
        """(2 N - 1, F), fp32."""
        key = (tokens, device)
        if key not in self._tables:
            if len(self._tables) == _CACHED_TABLES:
                self._tables.pop(next(iter(self._tables)))
            # A table made under inference_mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                made = relative_basis(tokens, self.features, self.positions, self.bin_size)
                self._tables[key] = made.to(device)
        return self._tables[key]
