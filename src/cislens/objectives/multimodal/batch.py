"""Batches of a region store as tensors; the fields are those of `cislens.motifs.batch`.

Dimensions: B locus of this process, A of all processes in the order of the batch.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cislens.models.genebert.contract import RegionContext, moved
from cislens.nn.gathering import gather_rows


@dataclass(frozen=True)
class TorchRegionBatch:
    """See `cislens.motifs.batch.RegionBatch`.

    Attributes:
        apart_BB: in the share of a process, its rows with the columns of the whole batch.
        place_B: places of the share's rows in the whole batch; None where it is the whole.
    """

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
    place_B: Tensor | None = None

    def windows(self, species: str = "") -> int:
        """Number of loci."""
        return len(self.row_B)

    def apart(self) -> Tensor:
        """`apart_BB` with the columns of what all processes hold at this moment, (B, A)."""
        if self.place_B is None:
            return self.apart_BB
        place_A, _ = gather_rows(self.place_B)
        return self.apart_BB[:, place_A]

    def to(self, device: torch.device | str) -> "TorchRegionBatch":
        """The same batch on `device`."""
        return TorchRegionBatch(*(moved(getattr(self, part.name), device) for part in fields(self)))
