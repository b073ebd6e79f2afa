"""An encoder's network for training it further.

Legend: B sequences, L bases, N bins, D channels.
"""

import copy

import torch
from torch import Tensor, nn

from cislens.models.contract import Embedding, Encoder

_TUNED = ("attention", "gated", "mlp", "ffn")
_ROUTERS = ("router", "species_router")


class EncoderNetwork(nn.Module):
    """A trainable copy of an encoder: one-hot windows and species to values and weights."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.encoder.requires_grad_(True)

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Values (B, N, D) of the last layer and the called bases (B, N) that each bin covers."""
        device = next(self.encoder.parameters()).device
        x_B4L, species_B = (part.to(device) for part in batch)
        embedding: Embedding = self.encoder(x_B4L, species_B)
        called_BL = x_B4L.ne(0).any(dim=1)
        missing = -called_BL.shape[1] % embedding.bin_size
        called_BL = nn.functional.pad(called_BL, (0, missing))
        covered_BN = called_BL.view(len(called_BL), -1, embedding.bin_size).sum(dim=2)
        return embedding.values_BND, covered_BN.to(torch.float32)


def lora_targets(encoder: nn.Module) -> tuple[str, ...]:
    """Endings of the names of the linear layers that mix places and channels; no router's."""
    found: dict[str, None] = {}
    for name, module in encoder.named_modules():
        parts = name.split(".")
        inside = [place for place, part in enumerate(parts) if part in _TUNED]
        if isinstance(module, nn.Linear) and inside and parts[-1] not in _ROUTERS:
            found[".".join(parts[inside[0] :])] = None
    return tuple(found)
