"""Sequences to framed and padded batches; a long one is read in overlapping windows.

Legend: B sequences, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cislens.representations.huggingface.contract import Batch, Ids, Tokenizer, Tokens

# A window sees this share of its tokens beyond each end of what is kept of it.
_MARGIN = 1 / 8
_TOKENS_PER_BATCH = 8_192


@dataclass(frozen=True)
class Piece:
    """One window of a sequence as the model is given it, special tokens included.

    Attributes:
        row: the sequence that it is of.
        ids: (T,) tokens.
        spans: (T, 2) the bases that a token covers, counted from the start of the sequence; -1 for
            special tokens.
        kept: (T,) the tokens that are taken from this window.
        last: whether the sequence ends here.
    """

    row: int
    ids: Ids
    spans: Ids
    kept: npt.NDArray[np.bool_]
    last: bool


def pieces_of(row: int, tokens: Tokens, tokenizer: Tokenizer, max_tokens: int) -> list[Piece]:
    """The windows of one sequence; each token is kept in exactly one of them."""
    prefix, suffix = tokenizer.prefix, tokenizer.suffix
    room = max_tokens - len(prefix) - len(suffix)
    pieces = []
    for start, stop, first, end in windows(len(tokens.ids), room):
        ids = np.concatenate([prefix, tokens.ids[start:stop], suffix]).astype(np.int64)
        spans = np.full((len(ids), 2), -1, dtype=np.int64)
        spans[len(prefix) : len(prefix) + stop - start] = tokens.spans[start:stop]
        kept = np.zeros(len(ids), dtype=bool)
        kept[len(prefix) + first - start : len(prefix) + end - start] = True
        pieces.append(Piece(row, ids, spans, kept, end == len(tokens.ids)))
    return pieces


def windows(count: int, room: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, first kept, end of kept) of windows of up to `room` tokens over `count`."""
    if count <= room:
        return [(0, count, 0, count)]
    margin = int(room * _MARGIN)
    out = []
    first = 0
    while first < count:
        start = max(0, first - margin)
        stop = min(count, start + room)
        start = max(0, stop - room)
        end = count if stop == count else stop - margin
        out.append((start, stop, first, end))
        first = end
    return out


def batches_of(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces of similar length together, from short to long, a bounded number of tokens each."""
    batch: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: len(piece.ids)):
        if batch and len(piece.ids) * (len(batch) + 1) > _TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def collated(pieces: Sequence[Piece], pad_id: int, device: torch.device) -> Batch:
    """Pieces padded on the right; weights are the bases of kept tokens, 0 elsewhere."""
    longest = max(len(piece.ids) for piece in pieces)
    ids = np.full((len(pieces), longest), pad_id, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=bool)
    weight = np.zeros(ids.shape, dtype=np.float32)
    for i, piece in enumerate(pieces):
        ids[i, : len(piece.ids)] = piece.ids
        mask[i, : len(piece.ids)] = True
        weight[i, : len(piece.ids)] = (piece.spans[:, 1] - piece.spans[:, 0]) * piece.kept
    made = (torch.from_numpy(array).to(device) for array in (ids, mask, weight))
    return Batch(*made)
