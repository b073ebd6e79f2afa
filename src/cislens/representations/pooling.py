"""From one vector per bin to one vector per sequence.

Legend: B sequences, N bins, D channels.
"""

import torch
from torch import Tensor

from cislens.errors import CislensError, nearest
from cislens.models.contract import Embedding

# The last is the default: in most published comparisons the mean is the best of the three.
POOLINGS = ("center", "max", "mean")
# The vector that the encoder itself makes of a window, for those that make one.
SUMMARY = "summary"


def pool(embedding: Embedding, pooling: str, length: int) -> Tensor:
    """One vector (B, D) per sequence of `length` bp, from its informative bins alone.

    `mean` and `max` are over the informative bins, per channel. `center` is the informative bin
    nearest to the middle of the sequence, or the mean of two that are equally near. `summary` is
    the encoder's own.

    Raises:
        CislensError: for another pooling, or the summary of an encoder that makes none.
    """
    if pooling == SUMMARY and embedding.summary_BD is not None:
        return embedding.summary_BD
    if pooling == "mean":
        return embedding.mean()
    if pooling not in POOLINGS:
        raise CislensError(f"there is no pooling {pooling!r}. {nearest(pooling, POOLINGS)}")
    valid_BN1 = embedding.valid_BN.unsqueeze(2)
    if pooling == "max":
        return embedding.values_BND.masked_fill(~valid_BN1, -torch.inf).amax(dim=1)
    return Embedding(embedding.values_BND, embedding.bin_size, _central(embedding, length)).mean()


def _central(embedding: Embedding, length: int) -> Tensor:
    """(B, N): which informative bins are the nearest to the middle of `length` bp."""
    valid_BN = embedding.valid_BN
    bins = torch.arange(valid_BN.shape[1], device=valid_BN.device)
    # Twice the distance in bp of a bin's middle from the sequence's, so that it is whole.
    distance_N = ((2 * bins + 1) * embedding.bin_size - length).abs()
    distance_BN = distance_N.expand_as(valid_BN).masked_fill(
        ~valid_BN, torch.iinfo(torch.int64).max
    )
    return valid_BN & (distance_BN == distance_BN.amin(dim=1, keepdim=True))
