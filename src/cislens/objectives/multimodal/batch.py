"""Batches of a region store as tensors; the fields are those of `cislens.motifs.batch`."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cislens.models.genebert.contract import RegionContext, moved


@dataclass(frozen=True)
class TorchRegionBatch:
    """See `cislens.motifs.batch.RegionBatch`."""

    row_B: Tensor
    cell_B: Tensor
    target_BL: Tensor
    codes_BL: Tensor
    hidden_BL: Tensor
    scored_BL: Tensor
    next_B: Tensor | None
    context: RegionContext
    other: RegionContext | None
    apart_BB: Tensor
    gc_B: Tensor

    def windows(self, species: str = "") -> int:
        """Number of loci."""
        return len(self.row_B)

    def to(self, device: torch.device | str) -> "TorchRegionBatch":
        """The same batch on `device`."""
        return TorchRegionBatch(*(moved(getattr(self, part.name), device) for part in fields(self)))
