"""Agreeing on prototypes of whole sequences (DINO, Caron et al. 2021).

Dimensions: R row, V teacher's view, S student's view, B window, D channel, K prototype.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.nn.gathering import mean_over_rows, sum_over_devices
from cislens.nn.precision import full_precision
from cislens.nn.standardize import Standardize

MEMORY = 0.9
ROUNDS = 3
_LARGEST_HIDDEN, _LARGEST_NECK = 1024, 256
_FLOOR = 1e-12


class ProjectionHead(nn.Module):
    """Pooled vector -> three layers -> unit vector -> cosine with each prototype.

    The vectors of DNA windows share a large part, of which a network at its start makes nearly
    the same answer for all of them; standardizing them takes it away. docs/findna.md has what was
    tried with and without it.

    Without prototypes the channels of the pooled vector stand for them.
    """

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        self.prototypes = prototypes
        if prototypes:
            hidden, neck = min(_LARGEST_HIDDEN, 4 * dim), min(_LARGEST_NECK, dim)
            self.layers = nn.Sequential(
                Standardize(dim),
                nn.Linear(dim, hidden),
                nn.GELU(),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Linear(hidden, neck),
            )
            self.prototypes_KE = nn.Parameter(torch.randn(prototypes, neck))

    def forward(self, pooled_RD: Tensor) -> Tensor:
        """Logits before any temperature, (R, K) in fp32."""
        if not self.prototypes:
            return pooled_RD.float()
        unit_RE = self.layers(pooled_RD)
        with full_precision(pooled_RD.device):
            return F.normalize(unit_RE.float(), dim=1) @ F.normalize(self.prototypes_KE, dim=1).T


class Targets(nn.Module):
    """The teacher's logits as probabilities, kept from collapsing into one prototype.

    "center" subtracts the running mean of the logits (memory 0.9, over all devices) before the
    softmax; the batch at hand is taken in after it was asked. "sinkhorn" shares the prototypes out
    equally among the rows of a batch.
    """

    center_K: Tensor

    def __init__(self, channels: int, kind: Literal["center", "sinkhorn"]) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("center_K", torch.zeros(channels))

    def forward(self, logits_RK: Tensor, temperature: float) -> Tensor:
        """Probabilities (R, K); in training the center follows."""
        if self.kind == "sinkhorn" and self.training:
            return sinkhorn(logits_RK / temperature)
        share_RK = self.of_row(logits_RK, temperature)
        if self.kind == "center" and self.training:
            self.center_K.lerp_(mean_over_rows(logits_RK.detach()), 1 - MEMORY)
        return share_RK

    def of_row(self, logits_RK: Tensor, temperature: float) -> Tensor:
        """Probabilities of each row whatever the others are."""
        return ((logits_RK - self.center_K) / temperature).softmax(dim=1)


def sinkhorn(logits_RK: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Probabilities of which every prototype has the same sum over the rows of all devices.

    `rounds` of Sinkhorn and Knopp's algorithm from the softmax of each row on (Caron et al. 2020,
    SwAV): each row sums to 1, each column nearly to rows / K.
    """
    share_RK = logits_RK.softmax(dim=1)
    rows = sum_over_devices(share_RK.new_full((), len(share_RK)))
    for _ in range(rounds):
        total_K = sum_over_devices(share_RK.sum(dim=0))
        share_RK = share_RK * (rows / share_RK.shape[1] / total_K.clamp_min(_FLOOR))
        share_RK = share_RK / share_RK.sum(dim=1, keepdim=True).clamp_min(_FLOOR)
    return share_RK


def pooled_term(student_SBK: Tensor, share_VBK: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy in nats, in fp32, of every student's view against other teacher's views.

    The first V of the student's views are those that the teacher read, in its order; a view is
    never held against itself.
    """
    with full_precision(student_SBK.device):
        log_SBK = (student_SBK.float() / temperature).log_softmax(dim=2)
        nats_VS = -torch.einsum("vbk,sbk->vs", share_VBK, log_SBK) / log_SBK.shape[1]
        same_VS = torch.eye(*nats_VS.shape, dtype=torch.bool, device=nats_VS.device)
        pairs = nats_VS.numel() - len(nats_VS)
        return nats_VS.masked_fill(same_VS, 0.0).sum() / max(1, pairs)
