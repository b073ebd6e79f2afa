"""Which contexts a sequence is matched against.

Dimensions: B locus, R region, E channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.models.genebert.contract import RegionTokens
from cislens.nn.precision import full_precision

# GC content within which a sequence and a context count as alike.
GC_WIDTH = 0.02
# One row of so many gets the most alike context of its batch.
_EVERY = 3
_ROUNDING = 1e-6


def match_term(own_B: Tensor, other_B: Tensor) -> Tensor:
    """Mean binary cross-entropy, in fp32, of the logits of pairs that belong together or do not."""
    with full_precision(own_B.device):
        return 0.5 * (F.softplus(-own_B.float()).mean() + F.softplus(other_B.float()).mean())


def gc_gap(gc_B: Tensor, context_gc_B: Tensor) -> Tensor:
    """By how much the GC contents differ beyond `GC_WIDTH`, in which negatives are matched.

    A smaller difference is no difference here: that of a pair that belongs together is 0 to the
    last digit, which no context tells, as its values are what GC content leaves unexplained.
    """
    return ((gc_B - context_gc_B).abs() - GC_WIDTH - _ROUNDING).clamp_min(0.0)


def most_alike(
    q_BE: Tensor, m_BE: Tensor, apart_BB: Tensor, gc_B: Tensor, context_gc_B: Tensor
) -> tuple[Tensor, Tensor]:
    """For every third sequence, the context of the batch that the model takes for its own.

    Of those that do not belong to it and are alike in GC content, the one of the highest q.m.

    Returns:
        The row of the context, and whether there is one, (B,) each.
    """
    with torch.no_grad(), full_precision(q_BE.device):
        like_BB = q_BE.float() @ m_BE.float().T
        allowed_BB = apart_BB & (gc_gap(gc_B[:, None], context_gc_B[None, :]) == 0)
        row_B = like_BB.masked_fill(~allowed_BB, -torch.inf).argmax(dim=1)
        turn_B = torch.arange(len(q_BE), device=q_BE.device) % _EVERY == 0
        return row_B, allowed_BB.any(dim=1) & turn_B


def mixed(own: RegionTokens, given: RegionTokens, row_B: Tensor, found_B: Tensor) -> RegionTokens:
    """`given`, with row i taken from row `row_B[i]` of `own` where `found_B`."""

    def pick(own: Tensor, given: Tensor) -> Tensor:
        found = found_B.reshape(-1, *(1,) * (own.ndim - 1))
        return own[row_B].where(found, given)

    return RegionTokens(
        values_BRE=pick(own.values_BRE, given.values_BRE),
        pad_BR=pick(own.pad_BR, given.pad_BR),
        center_BE=pick(own.center_BE, given.center_BE),
        pooled_BE=pick(own.pooled_BE, given.pooled_BE),
    )
