"""Which contexts a sequence is matched against.

Dimensions: B locus of this process, A of all processes in the order of the batch, R region, E
channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.models.genebert.contract import RegionTokens
from cislens.nn.gathering import gather_rows
from cislens.nn.precision import full_precision

# GC content within which a sequence and a context count as alike.
GC_WIDTH = 0.02
# One row of so many exchanges its context with another one of the batch.
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
    q_BE: Tensor, m_BE: Tensor, apart_BA: Tensor, gc_B: Tensor, context_gc_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Every third sequence of the batch and its context, two and two, to exchange their contexts.

    Of the loci that are apart and alike in GC content, those of the highest `q_i.m_j + q_j.m_i`
    come together first. A context that is taken is given up by its own sequence, so that it is as
    often a wrong one as a right one: if each sequence took the most alike, many would take the
    same few, and these would be told by themselves, whatever the sequence.

    Returns:
        The row of the context in the whole batch, and whether there is one, (B,) each.
    """
    with torch.no_grad(), full_precision(q_BE.device):
        q_AE, own_B = gather_rows(q_BE.float())
        (m_AE, _), (gc_A2, _) = (
            gather_rows(part) for part in (m_BE.float(), torch.stack([gc_B, context_gc_B], dim=1))
        )
        apart_AA = gather_rows(apart_BA.to(torch.uint8))[0].bool()
        rows = len(q_AE)
        place_A = torch.arange(rows, device=q_BE.device)
        turn_A = place_A % _EVERY == 0
        allowed_AA = apart_AA & (gc_gap(gc_A2[:, None, 0], gc_A2[None, :, 1]) == 0)
        allowed_AA = allowed_AA & allowed_AA.T & (turn_A[:, None] & turn_A)
        like_AA = q_AE @ m_AE.T
        left_AA = (like_AA + like_AA.T).masked_fill(~allowed_AA, -torch.inf)
        row_A = place_A
        for _ in range(-(-rows // _EVERY) // 2):
            best = left_AA.argmax()
            pair_P = torch.stack([best // rows, best % rows])
            # Nothing changes where no pair is left.
            some = left_AA.amax() > -torch.inf
            row_A = row_A.index_copy(0, pair_P, pair_P.flip(0)).where(some, row_A)
            left_AA = left_AA.index_fill(0, pair_P, -torch.inf).index_fill(1, pair_P, -torch.inf)
        row_B = row_A[own_B]
        return row_B, row_B != own_B


def mixed(own: RegionTokens, given: RegionTokens, row_B: Tensor, found_B: Tensor) -> RegionTokens:
    """`given`, with row i taken from row `row_B[i]` of all processes' `own` where `found_B`."""

    def pick(own: Tensor, given: Tensor) -> Tensor:
        found = found_B.reshape(-1, *(1,) * (own.ndim - 1))
        if own.dtype == torch.bool:
            return pick(own.to(torch.uint8), given.to(torch.uint8)).bool()
        return gather_rows(own)[0][row_B].where(found, given)

    return RegionTokens(
        values_BRE=pick(own.values_BRE, given.values_BRE),
        pad_BR=pick(own.pad_BR, given.pad_BR),
        center_BE=pick(own.center_BE, given.center_BE),
        pooled_BE=pick(own.pooled_BE, given.pooled_BE),
    )
