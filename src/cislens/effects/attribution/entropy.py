"""How sure a masked language model is of each base.

Dimensions: n sequence, L base.
"""

import numpy as np
import numpy.typing as npt

from cislens.effects.attribution.maps import Map
from cislens.genome.codes import Codes, N, reverse_complement
from cislens.representations.contract import MaskedLikelihood


def entropy_map(
    model: MaskedLikelihood, codes_nL: Codes, species: str | None, stranded: bool = False
) -> Map:
    """How sure a masked language model is of each position, (n, L): max_j H_j - H_i.

    H_i is the entropy (nats) of the model's four probabilities at position i, masked; the mean of
    both strands unless stranded. 0 where the model is least sure; N gets 0.
    """
    found = np.empty(codes_nL.shape, np.float32)
    for row, codes in enumerate(codes_nL):
        entropy = _entropies(model, codes, species)
        if not stranded:
            entropy = (entropy + _entropies(model, reverse_complement(codes), species)[::-1]) / 2
        called = codes != N
        worst = entropy[called].max() if called.any() else 0.0
        found[row] = np.where(called, worst - entropy, 0.0)
    return found


def _entropies(
    model: MaskedLikelihood, codes: Codes, species: str | None
) -> npt.NDArray[np.float64]:
    """(L,) nats; 0 at N, which cannot be asked for."""
    called = np.flatnonzero(codes != N)
    entropy = np.zeros(len(codes))
    if called.size:
        log_p = model.base_log_probabilities([codes] * called.size, called.tolist(), species)
        log_p = log_p.astype(np.float64)
        entropy[called] = -(np.exp(log_p) * log_p).sum(1)
    return entropy
