"""From one vector per token to one per sequence, or one per bin of bases.

Legend: B pieces, T tokens, D channels, N bins.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cislens.representations.huggingface.contract import Batch, Ids, Tokenizer
from cislens.representations.huggingface.windows import Piece

Features = npt.NDArray[np.float32]


def poolings_of(tokenizer: Tokenizer, causal: bool) -> tuple[str, ...]:
    """The poolings that say different things for a model; the last is the default.

    `mean_bp` weighs every token by its bases, `mean_tok` all alike; `cls` is the token in front
    (a model that reads to the left only knows nothing there, and gives `last` instead).
    """
    names = ["max"]
    if causal:
        names.append("last")
    elif tokenizer.prefix:
        names.append("cls")
    if tokenizer.kind != "char":
        names.append("mean_tok")
    return (*names, "mean_bp")


class Pooled:
    """Features of sequences, gathered from the windows that they were read in.

    Args:
        count: sequences.
        pooling: see `poolings_of`.
    """

    def __init__(self, count: int, dim: int, pooling: str) -> None:
        self.pooling = pooling
        start = -np.inf if pooling == "max" else 0.0
        self._total = np.full((count, dim), start, dtype=np.float32)
        self._weight = np.zeros(count, dtype=np.float32)

    def add(self, pieces: list[Piece], batch: Batch, state_BTD: Tensor) -> None:
        """Take in one batch of windows."""
        rows = [piece.row for piece in pieces]
        if self.pooling == "max":
            kept_BT = batch.weight_BT > 0
            value = state_BTD.masked_fill(~kept_BT[..., None], -torch.inf).amax(dim=1)
            np.maximum.at(self._total, rows, value.cpu().numpy())
            self._weight[rows] = 1
            return
        weight_BT = self._weights(pieces, batch)
        value = torch.einsum("bt,btd->bd", weight_BT, state_BTD)
        np.add.at(self._total, rows, value.cpu().numpy())
        np.add.at(self._weight, rows, weight_BT.sum(1).cpu().numpy())

    def values(self) -> Features:
        """(n, D)"""
        return self._total / self._weight[:, None]

    def _weights(self, pieces: list[Piece], batch: Batch) -> Tensor:
        if self.pooling == "mean_bp":
            return batch.weight_BT
        if self.pooling == "mean_tok":
            return (batch.weight_BT > 0).float()
        weight_BT = torch.zeros_like(batch.weight_BT)
        if self.pooling == "cls":
            weight_BT[:, 0] = 1
        else:
            ends = batch.mask_BT.sum(1) - 1
            final = torch.tensor([float(piece.last) for piece in pieces], device=ends.device)
            weight_BT[torch.arange(len(pieces), device=ends.device), ends] = final
        return weight_BT


def to_bins(values_TD: Tensor, spans_T2: Ids, length: int, bin_size: int) -> Tensor:
    """(N, D): the mean over the bases of each bin of the token that covers the base.

    Args:
        values_TD: one vector per token.
        spans_T2: the bases that each covers, 0-based and half-open.
        length: bases; the last bin may be shorter.
    """
    count = -(-length // bin_size)
    sums_ND = torch.zeros(count, values_TD.shape[1], device=values_TD.device)
    add_to_bins(sums_ND, values_TD, spans_T2, bin_size)
    return sums_ND / torch.from_numpy(bases_per_bin(length, bin_size)).to(sums_ND.device)[:, None]


def add_to_bins(sums_ND: Tensor, values_TD: Tensor, spans_T2: Ids, bin_size: int) -> None:
    """Add to each bin every token's vector times the bases that token and bin share."""
    token, base = _owners(spans_T2)
    bins = torch.from_numpy(base // bin_size).to(values_TD.device)
    sums_ND.index_add_(0, bins, values_TD[torch.from_numpy(token).to(values_TD.device)])


def _owners(spans_T2: Ids) -> tuple[Ids, Ids]:
    """For each base that a token covers, the token's index and the base."""
    lengths = spans_T2[:, 1] - spans_T2[:, 0]
    token = np.repeat(np.arange(len(spans_T2)), lengths)
    within = np.arange(len(token)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return token, spans_T2[token, 0] + within


def bases_per_bin(length: int, bin_size: int) -> Features:
    """(N,) bases of each bin; the last may have fewer."""
    starts = np.arange(0, length, bin_size)
    return np.minimum(bin_size, length - starts).astype(np.float32)
