"""Layers of ChordMixer: a map of each position, then channels that move along a ring.

Channel group 0 stays; of group i >= 1 a position takes what lies 2^(i-1) to its right, round the
ring (Khalitov et al. 2023, arXiv 2206.05852). So distance 2^k is crossed in one layer.
Dimensions: B window, T slot of the ring, D channel, G channel group, H hidden channel.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cislens.errors import CislensError


def chord_offsets(groups: int) -> tuple[int, ...]:
    """How far to the right each channel group reads: 0, 1, 2, 4, ..."""
    return (0, *(2**power for power in range(groups - 1)))


@dataclass(frozen=True)
class Ring:
    """Rings of slots, one per window, each closed where its window ends.

    Attributes:
        offsets: per channel group.
        size: slots T of the tensors.
        sources_BTG, targets_BTG: which slot each slot takes from, and which takes from it. None
            where every window fills all slots.
    """

    offsets: tuple[int, ...]
    size: int
    sources_BTG: Tensor | None = None
    targets_BTG: Tensor | None = None

    @classmethod
    def of(cls, offsets: tuple[int, ...], size: int, used_B: Tensor | None = None) -> "Ring":
        """Rings over the first `used_B` of `size` slots; slots after them keep to themselves."""
        if used_B is None:
            return cls(offsets, size)
        slot_1T1 = torch.arange(size, device=used_B.device)[None, :, None]
        offset_G = torch.tensor(offsets, device=used_B.device)
        used_B11 = used_B[:, None, None]
        inside_BT1 = slot_1T1 < used_B11
        sources_BTG = ((slot_1T1 + offset_G) % used_B11).where(inside_BT1, slot_1T1)
        targets_BTG = ((slot_1T1 - offset_G) % used_B11).where(inside_BT1, slot_1T1)
        return cls(offsets, size, sources_BTG, targets_BTG)

    def add_moved(self, x_BTD: Tensor, z_BTD: Tensor, back: bool = False) -> None:
        """Add to x, in place, what each slot takes of z; `back`: what others take of it."""
        groups = len(self.offsets)
        index_BTG = self.targets_BTG if back else self.sources_BTG
        if index_BTG is not None:
            z_BTGC = z_BTD.reshape(*z_BTD.shape[:2], groups, -1)
            moved_BTGC = z_BTGC.gather(1, index_BTG.unsqueeze(3).expand_as(z_BTGC))
            x_BTD += moved_BTGC.flatten(2)
            return
        width = z_BTD.shape[2] // groups
        for group, offset in enumerate(self.offsets):
            channels = slice(group * width, (group + 1) * width)
            step = (-offset if back else offset) % self.size
            split = self.size - step
            x_BTD[:, :split, channels] += z_BTD[:, step:, channels]
            if step:
                x_BTD[:, split:, channels] += z_BTD[:, :step, channels]


class _Moved(torch.autograd.Function):
    """x + moved z. Both gradients are copies along the ring, so nothing is kept for them."""

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, z_BTD: Tensor, ring: Ring) -> Tensor:
        ctx.ring, ctx.type = ring, z_BTD.dtype
        y_BTD = x_BTD.clone()
        ring.add_moved(y_BTD, z_BTD)
        return y_BTD

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        (dy_BTD,) = gradients
        dz_BTD = torch.zeros_like(dy_BTD, dtype=ctx.type)
        ctx.ring.add_moved(dz_BTD, dy_BTD, back=True)
        return dy_BTD, dz_BTD, None


class ChordLayer(nn.Module):
    """x + moved(W2 GELU(W1 x)); no norm, as published."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict(
            {"expand": nn.Linear(dim, hidden_dim), "contract": nn.Linear(hidden_dim, dim)}
        )

    def forward(self, x_BTD: Tensor, ring: Ring) -> Tensor:
        z_BTD = self.mlp["contract"](nn.functional.gelu(self.mlp["expand"](x_BTD)))
        y_BTD: Tensor = _Moved.apply(x_BTD, z_BTD, ring)  # type: ignore[no-untyped-call]
        return y_BTD


class ChordOffsets(nn.Module):
    """The map of the channel groups, which weights are good for alone: kept and checked with them.

    Attributes:
        groups: offset to the right of each channel group.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = chord_offsets(groups)
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
