"""Test-time averaging: one prediction from several views of the same bases.

The views are the two strands and shifts by a base or so. As in Basenji and Enformer the sequence
is shifted and the bins stay where they are, since a bin is far wider than the shift, and the
prediction for the reverse complement is turned around before it is averaged: its bins are flipped
and the tracks of a strand pair change places.

Dimensions: B window, W base pair with margin, L base pair, N bin, T track.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, one_hot

# The shifts over which Basenji's and Enformer's published accuracies are averaged, in bp.
SHIFTS = (1, 0, -1)
_VIEWS = ("rc", "shift", "none")


@dataclass(frozen=True)
class Averaging:
    """Which views are averaged.

    Attributes:
        reverse_complement: both strands, else the forward strand alone.
        shifts: bp by which the window is moved to the right.
    """

    reverse_complement: bool = False
    shifts: tuple[int, ...] = (0,)

    @property
    def margin(self) -> int:
        """Bases that a window must have at either side, beyond its own."""
        return max(abs(shift) for shift in self.shifts)

    @property
    def views(self) -> int:
        """Predictions that one window takes."""
        return len(self.shifts) * (1 + self.reverse_complement)

    def __str__(self) -> str:
        named = ["rc"] * self.reverse_complement + ["shift"] * (len(self.shifts) > 1)
        return ",".join(named) or "none"


def read_averaging(text: str) -> Averaging:
    """`rc`, `shift`, both with a comma between them, or `none`.

    Raises:
        CislensError: for any other word.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in _VIEWS:
            raise CislensError(
                f"--average {text!r}: {word!r} is none of {', '.join(_VIEWS)}. "
                f"{nearest(word, _VIEWS)}"
            )
    if not words or ("none" in words and len(words) > 1):
        raise CislensError(f"--average {text!r}: give rc, shift, both with a comma, or none.")
    return Averaging("rc" in words, SHIFTS if "shift" in words else (0,))


@torch.inference_mode()
def averaged_rates(
    rates: Callable[[Tensor], Tensor],
    codes_BW: Codes,
    margin: int,
    pair_T: Tensor | None,
    averaging: Averaging,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Mean of the rates over all views, (B, T, N) float32.

    Args:
        rates: one-hot windows (B, 4, L) to rates (B, T, N).
        codes_BW: windows with `margin` bases at either side, W = L + 2 margin.
        pair_T: the track that each track becomes on the other strand; its own where it has none.
            Needed for the reverse complement.

    Raises:
        CislensError: if a shift leaves the margin.
    """
    if averaging.margin > margin:
        raise CislensError(
            f"shifts of up to {averaging.margin} bp need as many bases beside each window, and "
            f"there are {margin}; build the store with a larger margin or average without shifts."
        )
    assert pair_T is not None or not averaging.reverse_complement
    length = codes_BW.shape[1] - 2 * margin
    total = torch.zeros(())
    for shift in averaging.shifts:
        first = margin + shift
        x_B4L = torch.from_numpy(one_hot(codes_BW[:, first : first + length])).to(device)
        total = total.to(device) + rates(x_B4L).float()
        if averaging.reverse_complement:
            assert pair_T is not None
            # Channels are A, C, G, T: turning them around is the complement.
            total = total + rates(x_B4L.flip(1, 2)).float()[:, pair_T.to(device)].flip(2)
    return total / averaging.views
