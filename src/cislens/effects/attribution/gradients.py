"""Attributions by a network's gradient.

Networks are plain modules: x (B, 4, L) gives (B, T), or (B, T, N), of which an output's bins are
summed.

Dimensions: B and n sequence, L base, D channel, N bin, T output.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from cislens.effects.attribution.maps import Map
from cislens.effects.devices import running
from cislens.genome.codes import Codes, one_hot


class BothStrands(nn.Module):
    """The mean of a network's outputs for a sequence and its reverse complement, (B, T)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_B4L: Tensor) -> Tensor:
        # Channels are A, C, G, T: turning both axes around is the reverse complement.
        forward, backward = self.module(x_B4L), self.module(x_B4L.flip(1, 2))
        both: Tensor = (summed_bins(forward) + summed_bins(backward)) / 2
        return both


def saliency(module: nn.Module, codes_nL: Codes, output: int = 0, batch_size: int = 64) -> Map:
    """Gradient-corrected saliency (n, L): A[i] = sum_c x[i,c] (G[i,c] - mean_c G[i,c]).

    The gradient's mean over the four channels is noise of directions off the simplex of one-hot
    sequences (Majdandzic et al. 2023, Genome Biology 24:109). N gets 0.
    """
    parts = []
    for rows, gradient_B4L in corrected_gradients(module, codes_nL, output, batch_size):
        parts.append((gradient_B4L * one_hot(codes_nL[rows])).sum(1))
    return np.concatenate(parts)


def corrected_gradients(
    module: nn.Module, codes_nL: Codes, output: int = 0, batch_size: int = 64
) -> Iterator[tuple[slice, Map]]:
    """The gradient less its mean over channels, (B, 4, L), for one batch of rows after another.

    In evaluation mode, which is undone; the parameters' own gradients are left alone.
    """
    with running(module):
        for start in range(0, len(codes_nL), batch_size):
            rows = slice(start, start + batch_size)
            gradient_B4L = gradients(module, one_hot(codes_nL[rows]), output)
            yield rows, gradient_B4L - gradient_B4L.mean(1, keepdims=True)


def gradients(module: nn.Module, x_B4L: Map, output: int = 0) -> Map:
    """The gradient (B, 4, L) of one output, where the module lies and in the mode it is in."""
    x = torch.from_numpy(x_B4L).to(place_of(module)).requires_grad_(True)
    with torch.enable_grad():
        score = summed_bins(module(x))[:, output].sum()
        (gradient_B4L,) = torch.autograd.grad(score, x)
    found: Map = gradient_B4L.float().cpu().numpy()
    return found


def embedding_gradient(head: nn.Module, values_BND: Tensor, bin_size: int, length: int) -> Map:
    """The norm of a head's gradient at each bin's vector, copied to its bases, (B, L).

    Args:
        head: (B, N, D) -> (B, T); its first output is explained.
        length: bases of the sequence; those of a last, incomplete bin are left out.
    """
    with running(head), torch.enable_grad():
        values = values_BND.detach().clone().requires_grad_(True)
        (gradient_BND,) = torch.autograd.grad(summed_bins(head(values))[:, 0].sum(), values)
    norm_BN: Map = gradient_BND.norm(dim=2).float().cpu().numpy()
    return np.repeat(norm_BN, bin_size, axis=1)[:, :length]


def summed_bins(scores: Tensor) -> Tensor:
    """(B, T) from (B,), (B, T) or (B, T, N)."""
    if scores.ndim == 1:
        return scores[:, None]
    return scores.sum(2) if scores.ndim == 3 else scores


def place_of(module: nn.Module) -> torch.device:
    """Where a module's parameters lie; the CPU if it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))
