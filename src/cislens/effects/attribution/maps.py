"""Attributions of any function of sequences.

A function of sequences (`Predict`) takes codes and gives (n,) or (n, T).

Dimensions: n sequence, L base, T output.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import Codes, N

Predict = Callable[[tuple[Codes, ...]], npt.NDArray[np.float32]]
Map = npt.NDArray[np.float32]

_BASES_AT_ONCE = 1 << 18


def at_sequence(values_nL4: Map, codes_nL: Codes) -> Map:
    """The value (n, L) at the base that each position has; 0 at N."""
    picked = np.take_along_axis(values_nL4, np.minimum(codes_nL, 3)[..., None].astype(int), axis=2)
    return np.where(codes_nL == N, np.float32(0), picked[..., 0])


def ism(predict: Predict, codes_nL: Codes, output: int = 0) -> Map:
    """In-silico mutagenesis (n, L, 4): the score with each base at each position, mean-centered.

    All three substitutions are scored; each position's four scores are then centered on their
    mean, so the value at the base that is there is what it adds over an average base. 0 at N.
    """
    length = codes_nL.shape[1]
    found = np.zeros((len(codes_nL), length, 4), np.float32)
    at_once = max(1, _BASES_AT_ONCE // length // (3 * length))
    for start in range(0, len(codes_nL), at_once):
        part = codes_nL[start : start + at_once]
        row, position = np.nonzero(part != N)
        mutated = np.repeat(part[row], 3, axis=0)
        base = (part[row, position][:, None] + np.arange(1, 4)) % 4
        mutated[np.arange(len(mutated)), np.repeat(position, 3)] = base.ravel()
        own = column(predict, part, output)
        scores = column(predict, mutated, output).reshape(-1, 3)
        four = np.empty((len(row), 4))
        here = np.arange(len(row))
        four[here, part[row, position]] = own[row]
        four[here[:, None], base] = scores
        found[start + row, position] = four - four.mean(1, keepdims=True)
    return found


def column(predict: Predict, codes_nL: Codes, output: int) -> npt.NDArray[np.float64]:
    """One output (n,) of a function of sequences, in batches of a bounded number of bases."""
    step = max(1, _BASES_AT_ONCE // codes_nL.shape[1])
    parts = []
    for start in range(0, len(codes_nL), step):
        part = codes_nL[start : start + step]
        parts.append(np.asarray(predict(tuple(part)), np.float64).reshape(len(part), -1)[:, output])
    return np.concatenate(parts)
