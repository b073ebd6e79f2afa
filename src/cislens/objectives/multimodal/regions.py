"""What is asked of regions: the hidden ones of a context, and the motifs of the central one.

Dimensions: B locus, R region, T motif, C value of a region.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.models.genebert.columns import at_center, without_center_access
from cislens.models.genebert.contract import RegionContext
from cislens.nn.gathering import ratio_over_devices
from cislens.nn.precision import full_precision

# Distance at which a neighbor counts half as much as one at hand, bp.
_HALVING = 1000.0


def regions_term(motif_BRT: Tensor, access_BR: Tensor, context: RegionContext) -> Tensor:
    """Huber loss (delta 1) of the values of hidden regions, in fp32.

    The mean over the motif values of the regions that are hidden, plus the mean over the
    accessibility of those whose accessibility is, on all devices. Padding never counts; a part of
    which nothing is hidden is 0.
    """
    hidden_BR, access_hidden_BR = asked_regions(context)
    with full_precision(motif_BRT.device):
        of_motifs_BR = _huber(motif_BRT, context.motif_BRT).mean(dim=2)
        of_access_BR = _huber(access_BR, context.access_BR)
        return _mean_where(of_motifs_BR, hidden_BR) + _mean_where(of_access_BR, access_hidden_BR)


def asked_regions(context: RegionContext) -> tuple[Tensor, Tensor]:
    """The regions whose motif values, and those whose accessibility is asked for, (B, R) each."""
    return context.hidden_BR & ~context.pad_BR, context.access_hidden_BR & ~context.pad_BR


def motifs_term(motif_BT: Tensor, context: RegionContext) -> Tensor:
    """Mean Huber loss (delta 1) of the motif values of the central region, in fp32."""
    with full_precision(motif_BT.device):
        return _huber(motif_BT, center_motifs(context)).mean()


def center_motifs(context: RegionContext) -> Tensor:
    """Motif values of the central region, (B, T)."""
    return at_center(context.motif_BRT, context)


def shown(context: RegionContext) -> RegionContext:
    """The context with nothing hidden but the accessibility of its central region.

    That one is what a pair of sequence and cell type is asked for after training; a model that
    matched by it would be of no use then.
    """
    nothing_BR = torch.zeros_like(context.pad_BR)
    return without_center_access(
        replace(context, hidden_BR=nothing_BR, access_hidden_BR=nothing_BR)
    )


def neighbor_mean(value_BRC: Tensor, offset_BR: Tensor, seen_BR: Tensor) -> Tensor:
    """What the visible regions around each region say of it: the baseline of hidden regions.

    The mean of their values weighted by 1 / (1 + d / 1 kb), d the distance between the centers;
    0, which is the mean of training, where none is visible. (B, R, C) in fp32.
    """
    with full_precision(value_BRC.device):
        distance_BRR = (offset_BR[:, :, None] - offset_BR[:, None, :]).abs().float()
        weight_BRR = seen_BR[:, None, :] / (1 + distance_BRR / _HALVING)
        total_BR1 = weight_BRR.sum(dim=2, keepdim=True)
        return weight_BRR @ value_BRC.float() / total_BR1.where(total_BR1 > 0, 1.0)


def _huber(value: Tensor, target: Tensor) -> Tensor:
    return F.huber_loss(value.float(), target.float(), reduction="none")


def _mean_where(value_BR: Tensor, where_BR: Tensor) -> Tensor:
    return ratio_over_devices(value_BR.where(where_BR, 0.0).sum(), where_BR.sum().float())
