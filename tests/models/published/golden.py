"""Stored outputs of the plain reference for the tiny SPACE checkpoint.

`python tests/models/published/golden.py` writes the file anew.
"""

from pathlib import Path

import torch
from torch import Tensor

FILE = Path(__file__).parent / "golden_space.safetensors"
# Every second bin of the tracks, every 16th of the embedding: small, and spread over the window.
STRIDES = {"tracks": 2, "auxiliary": 4, "embedding": 16}


def subset(name: str, values_BNC: Tensor) -> Tensor:
    """The part of an output that is stored; `name` ends in a key of `STRIDES`."""
    return values_BNC[0, :: STRIDES[name.split(".")[-1]]].contiguous()


def main() -> None:
    from checkpoints import TYPES, sequence, space_checkpoint
    from reference import space
    from safetensors.torch import save_file

    stored = {}
    for species, types in TYPES.items():
        outputs = space(space_checkpoint(), sequence(), species, types)
        for name, values_BNC in zip(STRIDES, outputs, strict=True):
            stored[f"{species}.{name}"] = subset(name, values_BNC)
    save_file(stored, FILE)


if __name__ == "__main__":
    with torch.no_grad():
        main()
