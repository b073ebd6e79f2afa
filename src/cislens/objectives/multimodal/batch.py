"""Batches of a region store as tensors; the fields are those of `cislens.motifs.batch`."""

from dataclasses import dataclass

from torch import Tensor

from cislens.models.genebert.contract import RegionContext


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
