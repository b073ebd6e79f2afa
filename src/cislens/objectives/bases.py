"""Hidden bases, and how well they are told.

Dimensions: B window, L base pair.
"""

import torch.nn.functional as F
from torch import Tensor

from cislens.nn.gathering import ratio_over_devices
from cislens.nn.precision import full_precision

_UNKNOWN_BASE = 4
_IGNORED = -100


def masked_term(
    logits_BL4: Tensor, target_BL: Tensor, scored_BL: Tensor, weight_BL: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of the scored bases in nats, in fp32; N is never scored.

    The bases are those of all devices that train together. 0 where nothing is scored; the gradient
    is exactly zero at all other bases.

    Args:
        weight_BL: what each base counts in the mean; all alike unless given.
    """
    loss_BL = base_nats(logits_BL4, target_BL, scored_BL)
    with full_precision(logits_BL4.device):
        asked_BL = scored_bases(target_BL, scored_BL)
        weight_BL = asked_BL.float() if weight_BL is None else weight_BL.where(asked_BL, 0.0)
        return ratio_over_devices((weight_BL * loss_BL).sum(), weight_BL.sum())


def base_nats(logits_BL4: Tensor, target_BL: Tensor, scored_BL: Tensor) -> Tensor:
    """Cross-entropy of each scored base in nats, (B, L) in fp32; 0 at all others and at N."""
    with full_precision(logits_BL4.device):
        return F.cross_entropy(
            logits_BL4.float().transpose(1, 2),
            target_BL.long().where(scored_bases(target_BL, scored_BL), _IGNORED),
            ignore_index=_IGNORED,
            reduction="none",
        )


def scored_bases(target_BL: Tensor, scored_BL: Tensor) -> Tensor:
    """The bases asked for: scored, and not N."""
    return scored_BL & (target_BL < _UNKNOWN_BASE)


def repeat_weights(repeat_BL: Tensor, repeat_weight: float) -> Tensor:
    """1 for a base, `repeat_weight` for a soft-masked one; (B, L) in fp32."""
    return 1.0 - (1.0 - repeat_weight) * repeat_BL.float()
