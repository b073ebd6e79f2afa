"""Which bins of two views of one window see the same bases.

Dimensions: B row, L base pair of a view, N bin, S base pair of a bin.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# No such base or bin in the other view.
NOWHERE = -1


def same_bases(place_BL: Tensor, other_BL: Tensor, parent: int) -> Tensor:
    """Where in another view of the same window each base of a view lies, (B, L) int64.

    Args:
        place_BL, other_BL: position of each base of the two views in the window; -1 where one
            was inserted. The order is free, so views may be turned, shifted and edited.
        parent: length of the window, bp.

    Returns:
        Index into the other view; `NOWHERE` for what it does not show and for inserted bases.
    """
    other_BL, place_BL = (place.long().where(place >= 0, parent) for place in (other_BL, place_BL))
    rows, length = other_BL.shape
    index_BP = torch.full((rows, parent + 1), NOWHERE, device=other_BL.device)
    index_BP.scatter_(1, other_BL, torch.arange(length, device=other_BL.device).expand(rows, -1))
    index_BP[:, parent] = NOWHERE
    return index_BP.gather(1, place_BL)


def same_bins(place_BL: Tensor, other_BL: Tensor, parent: int, bin_size: int) -> Tensor:
    """The bin of another view that holds at least half of the bases of each bin, (B, N) int64.

    Of two that hold half of them each it is one of the two. `NOWHERE` without such a bin. Bins
    are counted from the first base of a view as it is read; the last may be shorter, and half is
    half of a full one.
    """
    bin_BL = same_bases(place_BL, other_BL, parent).div(bin_size, rounding_mode="floor")
    if bin_size == 1:
        return bin_BL
    bin_BNS = in_bins(bin_BL, bin_size, NOWHERE).sort(dim=2).values
    # One that fills half of a sorted bin fills one of the two places in its middle.
    low_BN, high_BN = bin_BNS[:, :, (bin_size - 1) // 2], bin_BNS[:, :, bin_size // 2]
    held_low_BN, held_high_BN = ((bin_BNS == one.unsqueeze(2)).sum(2) for one in (low_BN, high_BN))
    most_BN = high_BN.where(held_high_BN > held_low_BN, low_BN)
    # The middle may be bases that are nowhere although another bin holds as many.
    most_BN = most_BN.where(low_BN != NOWHERE, high_BN)
    held_BN = (bin_BNS == most_BN.unsqueeze(2)).sum(2)
    return most_BN.where(2 * held_BN >= bin_size, NOWHERE)


def in_bins(value_BL: Tensor, bin_size: int, fill: float) -> Tensor:
    """(B, L) as (B, N, S), the last bin filled up."""
    missing = -value_BL.shape[1] % bin_size
    value_BL = F.pad(value_BL, (0, missing), value=fill) if missing else value_BL
    return value_BL.view(len(value_BL), -1, bin_size)


def hidden_shares(hidden_BL: Tensor, bin_size: int) -> Tensor:
    """Share of the bases of each bin that are hidden, (B, N) in fp32; a last bin's of its own."""
    held_BN = in_bins(torch.ones_like(hidden_BL), bin_size, False).sum(dim=2)
    return in_bins(hidden_BL, bin_size, False).sum(dim=2) / held_BN
