"""Integrated gradients of a network of one output.

Dimensions: n sequence, K background of a sequence, P point of a path, L base.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from cislens.effects.attribution.gradients import gradients
from cislens.effects.attribution.maps import Map
from cislens.genome.codes import Codes, N, one_hot
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.progress import track
from cislens.randomness import generator

Baseline = Literal["shuffled", "zeros"]


def integrated_gradients(
    module: nn.Module, codes_nL: Codes, baseline_nKL: Codes, steps: int, batch_size: int
) -> Map:
    """Hypothetical contributions (n, 4, L) by integrated gradients, the mean over backgrounds.

    With G the gradient's mean along the straight path from a background b to x (Sundararajan et
    al. 2017, arXiv 1703.01365, equation 1; Gauss-Legendre points), base c contributes
    G_c - sum_b b G. So x times this adds up to f(x) less the mean of f(b), completeness, where a
    background has no base that x lacks.

    Args:
        module: x (B, 4, L) gives (B, 1); in evaluation mode.
        baseline_nKL: N is the vector of zeros.
        steps: points of a path.
    """
    place_P, weight_P = _gauss_legendre(steps)
    n, backgrounds, length = baseline_nKL.shape
    found_n4L = np.zeros((n, 4, length), np.float64)
    points = n * backgrounds * steps
    for start in track(range(0, points, batch_size), "integrated gradients"):
        at = np.arange(start, min(start + batch_size, points))
        row, background = at // (backgrounds * steps), at // steps % backgrounds
        base_B4L = one_hot(baseline_nKL[row, background])
        along_B11 = place_P[at % steps, None, None].astype(np.float32)
        gradient_B4L = gradients(module, base_B4L + along_B11 * (one_hot(codes_nL[row]) - base_B4L))
        gradient_B4L -= (gradient_B4L * base_B4L).sum(1, keepdims=True)
        np.add.at(found_n4L, row, weight_P[at % steps, None, None] / backgrounds * gradient_B4L)
    return found_n4L.astype(np.float32)


def baselines(codes_nL: Codes, kind: Baseline, count: int, seed: int) -> Codes:
    """Backgrounds (n, K, L): `count` dinucleotide shuffles of each row, or one of N alone, zeros.

    N stays where it is: the bases around it are joined, shuffled and put back. The shuffles of a
    sequence depend on it and on the seed alone.
    """
    if kind == "zeros":
        return np.full((len(codes_nL), 1, codes_nL.shape[1]), N, np.uint8)
    found = np.empty((len(codes_nL), count, codes_nL.shape[1]), np.uint8)
    for row, codes in enumerate(codes_nL):
        rng = generator(seed, "baselines", codes.tobytes().hex())
        called = codes != N
        found[row] = codes
        found[row][:, called] = dinucleotide_shuffle(np.tile(codes[called], (count, 1)), rng)
    return found


def _gauss_legendre(
    points: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Places in 0 .. 1 and weights that add up to 1."""
    place, weight = np.polynomial.legendre.leggauss(points)
    return (place + 1) / 2, weight / 2
