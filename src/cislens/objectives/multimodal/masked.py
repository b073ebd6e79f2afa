"""Whether the halves of a sequence are neighbors.

Dimensions: B locus.
"""

import torch.nn.functional as F
from torch import Tensor

from cislens.nn.precision import full_precision


def next_term(logits_B2: Tensor, next_B: Tensor) -> Tensor:
    """Mean cross-entropy in nats, in fp32, of whether the second half follows the first.

    `next_B` is 0 where it does and 1 where it is from elsewhere.
    """
    with full_precision(logits_B2.device):
        return F.cross_entropy(logits_B2.float(), next_B.long())
