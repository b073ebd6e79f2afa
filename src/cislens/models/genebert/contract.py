"""What the sequence and the region half of a multi-modal model give each other.

Dimensions: B locus, L base pair, J token, R region, T motif, D and E channels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RegionContext:
    """`cislens.motifs.batch.RegionContext` as tensors."""

    row_BR: Tensor
    motif_BRT: Tensor
    access_BR: Tensor
    expression_BT: Tensor | None
    offset_BR: Tensor
    pad_BR: Tensor
    center_B: Tensor
    hidden_BR: Tensor
    access_hidden_BR: Tensor
    gc_B: Tensor

    def to(self, device: torch.device | str) -> "RegionContext":
        """The same contexts on `device`."""
        return RegionContext(*(moved(getattr(self, part.name), device) for part in fields(self)))

    @classmethod
    def from_numpy(cls, context: Any) -> "RegionContext":
        """The arrays of a `cislens.motifs.batch.RegionContext` as CPU tensors."""
        arrays = {part.name: getattr(context, part.name) for part in fields(cls)}
        return cls(
            **{
                name: None if array is None else torch.from_numpy(np.ascontiguousarray(array))
                for name, array in arrays.items()
            }  # type: ignore[arg-type]
        )


def moved(value: Any, device: torch.device | str) -> Any:
    """What can be moved to a device, there; None stays None."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return None if value is None else value.to(device)


@dataclass(frozen=True)
class RegionTokens:
    """What an encoder of regions makes of a context.

    Attributes:
        values_BRE: one vector per region.
        pad_BR: no region; its vector is finite and means nothing.
        center_BE: the vector of the central region.
        pooled_BE: one vector of the whole context.
    """

    values_BRE: Tensor
    pad_BR: Tensor
    center_BE: Tensor
    pooled_BE: Tensor


class RegionEncoder(nn.Module, ABC):
    """(Motif x region) matrix -> one vector per region.

    Attributes:
        dim: channels of the vectors.
    """

    dim: int

    @abstractmethod
    def forward(self, context: RegionContext) -> RegionTokens:
        """Encode contexts; nothing of hidden values and of padding reaches another vector."""
