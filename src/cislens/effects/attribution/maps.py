"""Values of every base of a sequence.

Dimensions: n sequence, L base.
"""

import numpy as np
import numpy.typing as npt

from cislens.genome.codes import Codes, N

Map = npt.NDArray[np.float32]


def at_sequence(values_nL4: Map, codes_nL: Codes) -> Map:
    """The value (n, L) at the base that each position has; 0 at N."""
    picked = np.take_along_axis(values_nL4, np.minimum(codes_nL, 3)[..., None].astype(int), axis=2)
    return np.where(codes_nL == N, np.float32(0), picked[..., 0])
