"""What a network is trained to make small, for each kind of task; all losses take real scores.

Labels that were not measured (NaN) are left out of the mean. Dimensions: B example, T output.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cislens.errors import CislensError, nearest

Loss = Callable[[Tensor, Tensor], Tensor]
_PSI_CLIP = 1e-5


def loss_for(kind: str) -> Loss:
    """The loss of a kind of task: (scores_BT, y_BT) -> mean over the observed labels.

    - binary, multilabel: logits against 0 or 1, binary cross-entropy.
    - multiclass: logits (B, C) against the class numbers (B, 1), cross-entropy.
    - regression, multi_regression: squared error; standardize the labels beforehand.
    - splicing: delta-logits against the percent spliced in, Kullback-Leibler divergence.

    Raises:
        CislensError: for a kind that no network is trained on as such.
    """
    if kind not in _LOSSES:
        raise CislensError(f"no loss for tasks of kind {kind!r}. {nearest(kind, _LOSSES)}")
    return _LOSSES[kind]


def _binary(scores_BT: Tensor, y_BT: Tensor) -> Tensor:
    observed = ~y_BT.isnan()
    each = F.binary_cross_entropy_with_logits(scores_BT, y_BT.nan_to_num(), reduction="none")
    return _mean(each, observed)


def _classes(scores_BC: Tensor, y_B1: Tensor) -> Tensor:
    return F.cross_entropy(scores_BC, y_B1[:, 0].long())


def _squared(scores_BT: Tensor, y_BT: Tensor) -> Tensor:
    observed = ~y_BT.isnan()
    return _mean((scores_BT - y_BT.nan_to_num()) ** 2, observed)


def _spliced(scores_BT: Tensor, psi_BT: Tensor) -> Tensor:
    # KL(p || q) of Bernoulli p = psi and q = sigmoid(score + logit(mean of the observed psi)), as
    # MTSplice has it (Cheng et al. 2021, Genome Biology 22:94).
    observed = ~psi_BT.isnan()
    mean_B1 = _mean_over_tissues(psi_BT.nan_to_num(), observed)
    p = psi_BT.nan_to_num(0.5).clamp(_PSI_CLIP, 1 - _PSI_CLIP)
    logit_q = scores_BT + torch.logit(mean_B1.clamp(_PSI_CLIP, 1 - _PSI_CLIP))
    cross = F.binary_cross_entropy_with_logits(logit_q, p, reduction="none")
    entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
    return _mean(cross - entropy, observed)


def _mean_over_tissues(psi_BT: Tensor, observed: Tensor) -> Tensor:
    clipped = psi_BT.clamp(_PSI_CLIP, 1 - _PSI_CLIP) * observed
    return clipped.sum(1, keepdim=True) / observed.sum(1, keepdim=True).clamp(min=1)


def _mean(each: Tensor, observed: Tensor) -> Tensor:
    return (each * observed).sum() / observed.sum().clamp(min=1)


_LOSSES: dict[str, Loss] = {
    "binary": _binary,
    "multilabel": _binary,
    "multiclass": _classes,
    "regression": _squared,
    "multi_regression": _squared,
    "splicing": _spliced,
}
