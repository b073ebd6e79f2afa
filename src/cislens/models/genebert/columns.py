"""What is known of each region, as one vector.

Dimensions: B locus, R region, T motif, E channel.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.genebert.contract import RegionContext

_VECTOR_SD = 0.02


class RegionColumns(nn.Module):
    """Motifs, accessibility and the cell type's expression of a region, added up.

    `x_r = W_m m_r + w_a a_r + W_e e`. Learned vectors stand for what is hidden of a region. The
    expression is of the cell type, the same for all its regions, and never hidden.
    """

    def __init__(self, motifs: int, dim: int, expression: bool) -> None:
        super().__init__()
        self.motif = nn.Linear(motifs, dim)
        self.access = nn.Linear(1, dim, bias=False)
        self.expression = nn.Linear(motifs, dim, bias=False) if expression else None
        self.hidden_motif = nn.Parameter(torch.randn(dim) * _VECTOR_SD)
        self.hidden_access = nn.Parameter(torch.randn(dim) * _VECTOR_SD)

    def forward(self, context: RegionContext) -> Tensor:
        """(B, R, E); zeros for padding."""
        unseen_BR1 = (context.hidden_BR | context.pad_BR).unsqueeze(2)
        # `where`, not a product: nothing that is hidden may get through, not even a NaN.
        motif_BRT = context.motif_BRT.where(~unseen_BR1, 0.0)
        motif_BRE = torch.where(
            context.hidden_BR.unsqueeze(2), self.hidden_motif, self.motif(motif_BRT)
        )
        closed_BR1 = unseen_BR1 | context.access_hidden_BR.unsqueeze(2)
        access_BR1 = context.access_BR.unsqueeze(2).where(~closed_BR1, 0.0)
        access_BRE = torch.where(closed_BR1, self.hidden_access, self.access(access_BR1))
        x_BRE = motif_BRE + access_BRE
        if self.expression is not None:
            x_BRE = x_BRE + self.expression(expression_of(context)).unsqueeze(1)
        return x_BRE.where(~context.pad_BR.unsqueeze(2), 0.0)


def expression_of(context: RegionContext) -> Tensor:
    """The expression of each motif's factor, (B, T), for a model that reads it.

    Raises:
        CislensError: if the context has none.
    """
    if context.expression_BT is None:
        raise CislensError(
            "The model reads the expression of factors and the context has none; use a region "
            "store built with `expression`, or a model without it."
        )
    return context.expression_BT


def at_center(values_BRE: Tensor, context: RegionContext) -> Tensor:
    """The vector of the central region, (B, E)."""
    loci = torch.arange(len(values_BRE), device=values_BRE.device)
    return values_BRE[loci, context.center_B]


def without_center_access(context: RegionContext) -> RegionContext:
    """The context with the accessibility of its central region hidden."""
    regions = context.access_hidden_BR.shape[1]
    center_BR = F.one_hot(context.center_B, regions).bool()
    return replace(context, access_hidden_BR=context.access_hidden_BR | center_BR)
