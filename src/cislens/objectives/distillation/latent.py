"""Telling the teacher's vectors of hidden places (data2vec, Baevski et al. 2022).

Dimensions: R view of a window, N bin, D channel.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.models.contract import Embedding, Encoder
from cislens.nn.convolution import Convolution
from cislens.nn.gathering import ratio_over_devices
from cislens.nn.precision import full_precision
from cislens.objectives.distillation.alignment import hidden_shares, same_bins
from cislens.objectives.sequence_batch import Views

# Width of the predictor's convolutions, bins.
WIDTH = 9
# Bins of which a smaller share is hidden are not asked.
LEAST_HIDDEN = 0.25
_EPS = 1e-5


class Predictor(nn.Module):
    """Two convolutions over the student's bins; what it has of bins without a base is zeros."""

    def __init__(self, dim: int, target_dim: int) -> None:
        super().__init__()
        self.first = Convolution(dim, dim, WIDTH)
        self.second = Convolution(dim, target_dim, WIDTH)

    def forward(self, embedding: Embedding) -> Tensor:
        """(R, N, D of the targets)."""
        valid_RN1 = embedding.valid_BN.unsqueeze(2)
        h_RND = F.gelu(self.first(embedding.values_BND.where(valid_RN1, 0.0)))
        told_RND: Tensor = self.second(h_RND.where(valid_RN1, 0.0))
        return told_RND


def target_layers(encoder: Encoder) -> tuple[str, ...]:
    """The upper half of an encoder's blocks, `L<n>`; its output where it names none."""
    blocks = [name for name in encoder.layers if name[:1] == "L" and name[1:].isdigit()]
    return tuple(blocks[len(blocks) // 2 :]) or encoder.layers[-1:]


def target_width(encoder: Encoder) -> int:
    """Channels of the layers that are told."""
    device = next(encoder.parameters()).device
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        x_141 = torch.eye(4, device=device)[None, :, :1]
        widths = {
            name: layer.values_BND.shape[2]
            for name, layer in zip(encoder.layers, encoder.hidden(x_141), strict=True)
        }
    encoder.train(training)
    return widths[target_layers(encoder)[-1]]


def targets_of(layers: Iterable[Embedding]) -> Tensor:
    """Mean of layers, each normalized over the bins of its sequence, (R, N, D) in fp32.

    Every channel of a layer has mean 0 and variance 1 over the valid bins of a sequence: what a
    whole sequence has in common, its composition first of all, is not asked of its places. Zeros
    at other bins.
    """
    normalized = [over_bins(layer.values_BND, layer.valid_BN) for layer in layers]
    return torch.stack(normalized).mean(dim=0)


def over_bins(values_RND: Tensor, valid_RN: Tensor) -> Tensor:
    """Every channel with mean 0 and variance 1 over the valid bins; zeros at others."""
    with full_precision(values_RND.device):
        valid_RN1 = valid_RN.unsqueeze(2)
        values_RND = values_RND.float().where(valid_RN1, 0.0)
        count_R11 = valid_RN1.sum(dim=1, keepdim=True).clamp_min(1)
        centered_RND = values_RND - values_RND.sum(dim=1, keepdim=True) / count_R11
        centered_RND = centered_RND.where(valid_RN1, 0.0)
        variance_R1D = centered_RND.square().sum(dim=1, keepdim=True) / count_R11
        return centered_RND * torch.rsqrt(variance_R1D + _EPS)


def asked_bins(share_RN: Tensor, valid_RN: Tensor) -> Tensor:
    """What each bin counts: the share of its bases that are hidden; 0 below `LEAST_HIDDEN`."""
    return share_RN.where((share_RN >= LEAST_HIDDEN) & valid_RN, 0.0)


def pairings(
    views: Views,
    targets_RND: Tensor,
    valid_RN: Tensor,
    parent: int,
    bin_size: int,
    by_strand: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """What each bin of the student's views is to tell, and what that counts, for `latent_term`.

    First the teacher's vectors of the same view; then, for each other view of the window, those of
    the bins that see the same bases.

    Args:
        targets_RND, valid_RN: of the teacher, for the same views.
        parent: length of a window, bp.
        by_strand: the first half of the channels is of the strand that is read and the second of
            the other one, so that they change places between views of which one is turned.
    """
    count, windows = views.place_VBL.shape[:2]
    share_RN = hidden_shares(views.hidden_VBL.flatten(0, 1), bin_size)
    weight_RN = asked_bins(share_RN, valid_RN)
    yield targets_RND, weight_RN
    place_RL = views.place_VBL.flatten(0, 1)
    for other in range(1, count):
        # Rows of the next view, and of the first one for the last.
        ahead = -other * windows
        bin_RN = same_bins(place_RL, place_RL.roll(ahead, 0), parent, bin_size)
        found_RN, at_RN = bin_RN >= 0, bin_RN.clamp_min(0)
        found_RN = found_RN & valid_RN.roll(ahead, 0).gather(1, at_RN)
        at_RND = at_RN.unsqueeze(2).expand(-1, -1, targets_RND.shape[2])
        told_RND = targets_RND.roll(ahead, 0).gather(1, at_RND)
        if by_strand:
            turned_R = views.turned_VB.flatten()
            apart_R11 = (turned_R != turned_R.roll(ahead, 0))[:, None, None]
            told_RND = told_RND.roll(told_RND.shape[2] // 2, 2).where(apart_R11, told_RND)
        yield told_RND, weight_RN.where(found_RN, 0.0)


def latent_term(told_RND: Tensor, targets: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Weighted mean of the smooth L1 loss (1 at the knee) of bins, in fp32.

    Args:
        targets: vectors (R, N, D), and the weights (R, N) of these bins; the mean is over all of
            them on all devices together. 0 where nothing has a weight.
    """
    with full_precision(told_RND.device):
        loss = told_RND.new_zeros((), dtype=torch.float32)
        total = torch.zeros_like(loss)
        for target_RND, weight_RN in targets:
            gap_RND = F.smooth_l1_loss(told_RND.float(), target_RND, reduction="none")
            loss = loss + (gap_RND.mean(dim=2) * weight_RN).sum()
            total = total + weight_RN.sum()
        return ratio_over_devices(loss, total)
