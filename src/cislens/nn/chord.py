"""Layers of ChordMixer: a map of each position, then channels that move along a ring.

Channel group 0 stays; of group i >= 1 a position takes what lies 2^(i-1) to its right, round the
ring (Khalitov et al. 2023, arXiv 2206.05852). So distance 2^k is crossed in one layer.
Dimensions: B window, T slot of the ring, D channel, G channel group, C channel of a group.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cislens.errors import CislensError


@dataclass(frozen=True)
class Ring:
    """Rings of slots, one per window, each closed where its window ends.

    Attributes:
        offsets: how far to the right each channel group reads.
        size: slots T of the tensors.
        used_B: how many of them each window's ring has, the first ones; None where all.
    """

    offsets: tuple[int, ...]
    size: int
    used_B: Tensor | None = None

    @cached_property
    def sources(self) -> Tensor:
        """(B, T, G, 1): the slot that each slot takes from; its own after the ring."""
        return self._places(1)

    @cached_property
    def targets(self) -> Tensor:
        """(B, T, G, 1): the slot that takes from each slot."""
        return self._places(-1)

    def _places(self, sign: int) -> Tensor:
        assert self.used_B is not None
        slot_1T1 = torch.arange(self.size, device=self.used_B.device)[None, :, None]
        used_B11 = self.used_B[:, None, None]
        offset_G = torch.tensor(self.offsets, device=self.used_B.device)
        place_BTG = (slot_1T1 + sign * offset_G) % used_B11
        return place_BTG.where(slot_1T1 < used_B11, slot_1T1).unsqueeze(3)

    def moved(self, z_BTD: Tensor, back: bool = False) -> Tensor:
        """What each slot takes of z; `back`: what is taken from each slot."""
        z_BTGC = z_BTD.reshape(*z_BTD.shape[:2], len(self.offsets), -1)
        if self.used_B is not None:
            place_BTG1 = self.targets if back else self.sources
            return z_BTGC.gather(1, place_BTG1.expand_as(z_BTGC)).flatten(2)
        parts = [
            group_BTC.roll(offset if back else -offset, 1)
            for group_BTC, offset in zip(z_BTGC.unbind(2), self.offsets, strict=True)
        ]
        return torch.cat(parts, dim=2)


class _Moved(torch.autograd.Function):
    """`Ring.moved`; its gradient is a copy along the ring too, and adds nothing up."""

    @staticmethod
    def forward(ctx: Any, z_BTD: Tensor, ring: Ring) -> Tensor:
        ctx.ring = ring
        return ring.moved(z_BTD)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        return ctx.ring.moved(gradients[0], back=True), None


class ChordLayer(nn.Module):
    """x + moved(W2 GELU(W1 x)); no norm, as published."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict(
            {"expand": nn.Linear(dim, hidden_dim), "contract": nn.Linear(hidden_dim, dim)}
        )

    def forward(self, x_BTD: Tensor, ring: Ring) -> Tensor:
        z_BTD = self.mlp["contract"](nn.functional.gelu(self.mlp["expand"](x_BTD)))
        moved_BTD: Tensor = _Moved.apply(z_BTD, ring)  # type: ignore[no-untyped-call]
        return x_BTD + moved_BTD


class ChordOffsets(nn.Module):
    """The map of the channel groups, without which weights mean nothing: kept and checked.

    Attributes:
        groups: how far to the right each channel group reads: 0, 1, 2, 4, ...
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = (0, *(2**power for power in range(groups - 1)))
        self.register_buffer("map", torch.tensor(self.groups))
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _refuse_other_map
        )


def _refuse_other_map(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    assert isinstance(module, ChordOffsets)
    found = state.get(f"{prefix}map")
    if found is not None and tuple(found.flatten().tolist()) != module.groups:
        raise CislensError(
            f"{prefix}map: the weights were trained with channel groups that move by "
            f"{found.flatten().tolist()}, this encoder's move by {list(module.groups)}; they "
            "mean nothing to each other. Build the encoder of the weights' own configuration."
        )
