"""What is asked of a sequence alone: its hidden bases, and whether its halves are neighbors.

Dimensions: B locus, L base pair.
"""

import torch.nn.functional as F
from torch import Tensor

from cislens.nn.precision import full_precision

_UNKNOWN_BASE = 4
_IGNORED = -100


def masked_term(logits_BL4: Tensor, target_BL: Tensor, scored_BL: Tensor) -> Tensor:
    """Mean cross-entropy of the scored bases in nats, in fp32; N is never scored.

    The gradient is exactly zero at all other bases. 0 where nothing is scored.
    """
    asked_BL = scored_bases(target_BL, scored_BL)
    with full_precision(logits_BL4.device):
        loss_BL = F.cross_entropy(
            logits_BL4.float().transpose(1, 2),
            target_BL.long().where(asked_BL, _IGNORED),
            ignore_index=_IGNORED,
            reduction="none",
        )
        return loss_BL.sum() / asked_BL.sum().clamp_min(1)


def scored_bases(target_BL: Tensor, scored_BL: Tensor) -> Tensor:
    """The bases asked for: scored, and not N."""
    return scored_BL & (target_BL < _UNKNOWN_BASE)


def next_term(logits_B2: Tensor, next_B: Tensor) -> Tensor:
    """Mean cross-entropy in nats, in fp32, of whether the second half follows the first.

    `next_B` is 0 where it does and 1 where it is from elsewhere.
    """
    with full_precision(logits_B2.device):
        return F.cross_entropy(logits_B2.float(), next_B.long())
