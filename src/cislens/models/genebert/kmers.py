"""Overlapping k-mers: tokens of a sequence and back to its bases.

Slot j is the k-mer of bases j .. j + k - 1; a sequence has L - k + 1 of them, at least one.
Dimensions: B sequence, L base pair, J slot, R row of the transformer, N token of a row, X anything.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.models.contract import whole_bins

# [PAD] fills up, [UNK] is a k-mer with an N, [MASK] one with a hidden base; k-mers follow in
# alphabetical order.
PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = 5


@dataclass(frozen=True)
class Kmers:
    """The slots of sequences.

    Attributes:
        ids_BJ: tokens.
        read_BJ: slots that are read. Padding is not: k-mers that reach into the N at either end
            of a sequence, or hold N only.
        valid_BL: bases that are called, or hidden whatever they are.
        tangent_BJ4K: zeros whose gradient is that of the one-hot bases of each slot; None if
            nobody asks for a gradient.
    """

    ids_BJ: Tensor
    read_BJ: Tensor
    valid_BL: Tensor
    tangent_BJ4K: Tensor | None


def kmers(x_B4L: Tensor, hidden_BL: Tensor | None, k: int) -> Kmers:
    """The k-mers of one-hot sequences.

    Every called base lies in a slot that is read: where fewer than k bases lie between the first
    and the last called one, one slot with N is read ([UNK]).
    """
    if hidden_BL is None:
        hidden_BL = torch.zeros_like(x_B4L[:, 0], dtype=torch.bool)
    # Called, whatever it is: not even whether it is N may be seen.
    x_B4L, valid_BL, _ = whole_bins(x_B4L.masked_fill(hidden_BL[:, None], 1.0), 1)
    length = x_B4L.shape[2]
    short = max(0, k - length)
    windows_BJK = F.pad(valid_BL, (0, short)).unfold(1, k, 1)
    ids_BJ = _codes(F.pad(x_B4L.detach(), (0, short)), k) + SPECIALS
    ids_BJ = ids_BJ.masked_fill(~windows_BJK.all(dim=2), UNK)
    touched_BJ = F.pad(hidden_BL, (0, short)).unfold(1, k, 1).any(dim=2)
    ids_BJ = ids_BJ.masked_fill(touched_BJ, MASK)
    read_BJ = windows_BJK.any(dim=2) & _between_ends(valid_BL, ids_BJ.shape[1], k)
    tangent = None
    if x_B4L.requires_grad and torch.is_grad_enabled():
        known_BJ = (ids_BJ >= SPECIALS)[:, :, None, None].to(x_B4L.dtype)
        padded_B4L = F.pad(x_B4L - x_B4L.detach(), (0, short))
        tangent = padded_B4L.unfold(2, k, 1).transpose(1, 2) * known_BJ
    return Kmers(ids_BJ, read_BJ, valid_BL, tangent)


def neighbors(ids_BJ: Tensor, offset: int, k: int) -> Tensor:
    """The four k-mers that differ in one base, at that offset, (B, J, 4); no more for specials."""
    step = 4 ** (k - 1 - offset)
    words_BJ = (ids_BJ - SPECIALS).clamp_min(0)
    without_BJ = words_BJ - words_BJ // step % 4 * step
    four = torch.arange(4, device=ids_BJ.device) * step
    changed_BJ4: Tensor = without_BJ[:, :, None] + four + SPECIALS
    return changed_BJ4


def per_base(values_BJKX: Tensor, read_BJ: Tensor, k: int, length: int) -> Tensor:
    """What slots say of each base, averaged over the slots that are read and cover it, (B, L, X).

    Args:
        values_BJKX: of each base of a slot; of size 1 along K where a slot says one thing of all.
    """
    weight_BJ1 = read_BJ.unsqueeze(2).to(values_BJKX.dtype)
    total_BLX = _spread((values_BJKX * weight_BJ1.unsqueeze(3)).unbind(2), k)
    count_BL1 = _spread((weight_BJ1,), k).clamp_min(1.0)
    return (total_BLX / count_BL1)[:, :length]


@dataclass(frozen=True)
class Rows:
    """Slots as the transformer reads them: [CLS] segment [SEP], or with a second segment [SEP].

    [SEP] follows the last slot that is read, so that a row reads the same whatever pads it.

    Attributes:
        ids_RN, read_RN: tokens, and which of them are read.
        types_N: 0 for the first segment, 1 for the second.
        pieces: rows of a sequence; 1 where it fits.
    """

    ids_RN: Tensor
    read_RN: Tensor
    types_N: Tensor
    pieces: int
    segments: int
    slots: int

    @classmethod
    def of(cls, tokens: Kmers, segments: int, capacity: int) -> "Rows":
        """Lay out slots of (B * segments) sequences in rows.

        Args:
            capacity: slots that a row can take; sequences with more are cut into pieces.
        """
        slots = tokens.ids_BJ.shape[1]
        pieces = -(-slots // capacity)
        ids_RJ, read_RJ = (
            _cut(part, slots, pieces, capacity) for part in (tokens.ids_BJ, tokens.read_BJ)
        )
        width = ids_RJ.shape[1]
        place_J = torch.arange(1, width + 1, device=ids_RJ.device)
        end_R1 = (place_J * read_RJ).amax(dim=1, keepdim=True)
        ids_RN = F.pad(ids_RJ.masked_fill(~read_RJ, PAD), (0, 1)).scatter(1, end_R1, SEP)
        read_RN = F.pad(read_RJ, (0, 1)).scatter(1, end_R1, True)
        rows = len(ids_RN) // segments
        ids_RN = F.pad(ids_RN.reshape(rows, -1), (1, 0), value=CLS)
        read_RN = F.pad(read_RN.reshape(rows, -1), (1, 0), value=True)
        types_N = (torch.arange(ids_RN.shape[1], device=ids_RN.device) - 1) // (width + 1)
        return cls(ids_RN, read_RN, types_N.clamp_min(0), pieces, segments, slots)

    def to_slots(self, states_RNX: Tensor) -> Tensor:
        """The states of the slots, (B * segments, J, X)."""
        rows, tokens, channels = states_RNX.shape
        width = (tokens - 1) // self.segments
        parts = states_RNX[:, 1:].reshape(rows * self.segments, width, channels)[:, :-1]
        return parts.reshape(-1, self.pieces * (width - 1), channels)[:, : self.slots]

    def from_slots(self, values_BJX: Tensor) -> Tensor:
        """Values of slots at their places in the rows, zeros elsewhere; `to_slots` undoes it."""
        width = (self.ids_RN.shape[1] - 1) // self.segments - 1
        parts = F.pad(values_BJX, (0, 0, 0, self.pieces * width - self.slots))
        parts = parts.reshape(-1, width, values_BJX.shape[2])
        parts = F.pad(parts, (0, 0, 0, 1)).reshape(len(self.ids_RN), -1, values_BJX.shape[2])
        return F.pad(parts, (0, 0, 1, 0))


def _codes(x_B4L: Tensor, k: int) -> Tensor:
    """Each k-mer as a number in base 4, most significant base first, (B, J)."""
    codes_BL = x_B4L.argmax(dim=1)
    slots = codes_BL.shape[1] - k + 1
    words_BJ = codes_BL[:, :slots]
    for offset in range(1, k):
        words_BJ = 4 * words_BJ + codes_BL[:, offset : offset + slots]
    return words_BJ


def _between_ends(valid_BL: Tensor, slots: int, k: int) -> Tensor:
    """Slots from the first called base on that end at the last one, (B, J); at least one."""
    length = valid_BL.shape[1]
    place_L = torch.arange(length, device=valid_BL.device)
    first_B1 = place_L.where(valid_BL, length).amin(dim=1, keepdim=True)
    last_B1 = place_L.where(valid_BL, -1).amax(dim=1, keepdim=True)
    low_B1 = torch.minimum(first_B1, last_B1 - k + 1).clamp_min(0)
    high_B1 = torch.maximum(last_B1 - k + 1, low_B1)
    return (place_L[:slots] >= low_B1) & (place_L[:slots] <= high_B1)


def _spread(parts_BJX: tuple[Tensor, ...], k: int) -> Tensor:
    """The sum over slots of what each says of its bases, (B, J + k - 1, X)."""
    batch, slots, channels = parts_BJX[0].shape
    total = parts_BJX[0].new_zeros(batch, slots + k - 1, channels)
    for offset in range(k):
        part = parts_BJX[min(offset, len(parts_BJX) - 1)]
        total[:, offset : offset + slots] += part
    return total


def _cut(part_BJ: Tensor, slots: int, pieces: int, capacity: int) -> Tensor:
    """(B, J) -> (B * pieces, capacity), filled up with zeros; whole where it fits."""
    if pieces == 1:
        return part_BJ
    return F.pad(part_BJ, (0, pieces * capacity - slots)).reshape(-1, capacity)
