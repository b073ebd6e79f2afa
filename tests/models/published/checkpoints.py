"""Random tiny checkpoints in the published key layouts, written from their tables of keys.

The shapes are listed here once more, apart from the package, so that a wrong key in the package
cannot agree with itself. Values come from numpy, whose streams do not change between releases.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cislens.models.published.files import Checkpoint
from cislens.signal.tracks import Track, TrackTable, track_table

DIM, DEPTH, HEADS, KEY_DIM, MULTIPLE = 48, 2, 4, 8, 8
GAIN = 1.2
EXPERTS, TRACK_EXPERTS, BINS = 4, 8, 896
TRACKS = {"human": 6, "mouse": 5}
# Type of each track: 0 DNASE/ATAC, 1 TF ChIP, 2 histone ChIP, 3 CAGE.
TYPES = {"human": [0, 1, 1, 2, 2, 3], "mouse": [0, 1, 2, 3, 3]}
GROUPS = ("accessibility", "TF", "histone", "CAGE")
TYPE_NAMES = ("DNASE/ATAC", "TF ChIP-seq", "Histone ChIP-seq", "CAGE")

Shapes = dict[str, tuple[int, ...]]


def tower_widths(dim: int = DIM, multiple: int = MULTIPLE) -> list[int]:
    half = dim // 2
    ratio = (dim / half) ** (1 / 5)
    return [round(half * ratio**stage / multiple) * multiple for stage in range(6)]


def batch_norm(at: str, channels: int) -> Shapes:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{at}.{name}": (channels,) for name in names} | {f"{at}.num_batches_tracked": ()}


def linear(at: str, *shape: int) -> Shapes:
    return {f"{at}.weight": shape, f"{at}.bias": shape[:1]}


def trunk() -> Shapes:
    half, widths = DIM // 2, tower_widths()
    shapes = linear("stem.0", half, 4, 15) | batch_norm("stem.1.fn.0", half)
    shapes |= linear("stem.1.fn.2", half, half, 1)
    shapes["stem.2.to_attn_logits.weight"] = (half, half, 1, 1)
    for i, (c, o) in enumerate(zip([half, *widths[:-1]], widths, strict=True)):
        shapes |= batch_norm(f"conv_tower.{i}.0.0", c) | linear(f"conv_tower.{i}.0.2", o, c, 5)
        shapes |= batch_norm(f"conv_tower.{i}.1.fn.0", o) | linear(
            f"conv_tower.{i}.1.fn.2", o, o, 1
        )
        shapes[f"conv_tower.{i}.2.to_attn_logits.weight"] = (o, o, 1, 1)
    shapes |= batch_norm("final_pointwise.1.0", DIM)
    return shapes | linear("final_pointwise.1.2", 2 * DIM, DIM, 1)


def attention(norm: str, at: str) -> Shapes:
    keys = HEADS * KEY_DIM
    shapes = linear(norm, DIM)
    shapes |= {f"{at}.{name}.weight": (keys, DIM) for name in ("to_q", "to_k")}
    shapes |= {f"{at}.to_v.weight": (DIM, DIM)} | linear(f"{at}.to_out", DIM, DIM)
    shapes[f"{at}.to_rel_k.weight"] = (keys, DIM // HEADS)
    shapes |= {
        f"{at}.{name}": (1, HEADS, 1, KEY_DIM) for name in ("rel_content_bias", "rel_pos_bias")
    }
    return shapes


def space_shapes() -> Shapes:
    """Without the `model.` prefix."""
    shapes = trunk()
    for i in range(DEPTH):
        at = f"transformer.transformer.{i}"
        shapes |= attention(f"{at}.attention.fn.0", f"{at}.attention.fn.1")
        at = f"{at}.feed_forward"
        shapes |= linear(f"{at}.layer_norm", DIM)
        for species in TRACKS:
            shapes |= linear(f"{at}.gates.{species}.0", EXPERTS, DIM)
        for name, inputs, outputs in (("input", DIM, 2 * DIM), ("output", 2 * DIM, DIM)):
            shapes[f"{at}.{name}.weight"] = (EXPERTS, inputs, outputs)
            shapes[f"{at}.{name}.bias"] = (EXPERTS, outputs)
    for species, tracks in TRACKS.items():
        shapes[f"transformer.species_embedding.{species}"] = (1, 1, DIM)
        shapes |= linear(f"heads.{species}.0", tracks, 2 * DIM)
    shapes |= linear("tracks.gate_selector", 8, 2 * DIM)
    shapes |= linear("tracks.embedding_gate_selector", 8, DIM)
    for gate in range(8):
        shapes |= linear(f"tracks.gates.{gate}.0", TRACK_EXPERTS, BINS)
    shapes |= linear("tracks.layer_norm", BINS)
    for name, inputs, outputs in (("input", BINS, 2 * BINS), ("output", 2 * BINS, BINS)):
        shapes[f"tracks.{name}_proj.weight"] = (TRACK_EXPERTS, inputs, outputs)
        shapes[f"tracks.{name}_proj.bias"] = (TRACK_EXPERTS, outputs)
    for name in TYPE_NAMES:
        shapes[f"tracks.tracks_embedding.{name}"] = (1, 1, BINS)
    return shapes


def enformer_shapes() -> Shapes:
    """Each tensor of the trunk under its first name only."""
    shapes = trunk()
    for i in range(DEPTH):
        shapes |= attention(f"transformer.{i}.0.fn.0", f"transformer.{i}.0.fn.1")
        at = f"transformer.{i}.1.fn"
        shapes |= linear(f"{at}.0", DIM)
        shapes |= linear(f"{at}.1", 2 * DIM, DIM) | linear(f"{at}.4", DIM, 2 * DIM)
    for species, tracks in TRACKS.items():
        shapes |= linear(f"_heads.{species}.0", tracks, 2 * DIM)
    return shapes


def fill(shapes: Shapes, gain: float = GAIN) -> dict[str, Tensor]:
    """Values of a size that lets every part show in the output; `gain` is that of convolutions."""
    rng = np.random.default_rng(0)
    return {key: torch.from_numpy(value(rng, key, shapes[key], gain)) for key in sorted(shapes)}


def value(rng: np.random.Generator, key: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.array(28_000)
    if key.endswith("running_var"):
        return rng.uniform(0.5, 2, shape).astype(np.float32)
    drawn = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1 and key.endswith(
        ("norm.weight", "fn.0.weight", ".0.0.weight", "1.0.weight")
    ):
        return 1 + 0.2 * drawn
    if len(shape) < 2 or (key.endswith("bias") and "rel_" not in key) or "tracks_embedding" in key:
        return np.float32(0.2) * drawn
    if ("rel_" in key and key.endswith("bias")) or "species_embedding" in key:
        return drawn
    stacked = key.endswith(("input.weight", "output.weight", "_proj.weight"))
    fan_in = shape[1] if stacked else math.prod(shape[1:])
    gain = gain if len(shape) == 3 and not stacked else 1
    return np.float32(gain * fan_in**-0.5) * drawn


def space_checkpoint(prefix: str = "model.") -> dict[str, Tensor]:
    return {prefix + key: value for key, value in fill(space_shapes()).items()}


def sequence(length: int = 131_072, seed: int = 1) -> Tensor:
    """One-hot (1, 4, L), with a stretch of N inside."""
    codes = np.random.default_rng(seed).integers(0, 4, length)
    x = np.eye(4, dtype=np.float32)[:, codes]
    x[:, 40_000:40_050] = 0
    return torch.from_numpy(x[None])


def tables() -> dict[str, TrackTable]:
    """The tracks of the tiny checkpoint with their groups."""
    return {
        species: track_table(
            Track(f"{species}-{row}", "x.bw", species, group=GROUPS[kind])
            for row, kind in enumerate(types)
        )
        for species, types in TYPES.items()
    }


def as_read(tensors: dict[str, Tensor]) -> Checkpoint:
    """Tensors as if they had been read from a file."""
    return Checkpoint(Path("weights.safetensors"), (Path("weights.safetensors"),), "0", tensors)
