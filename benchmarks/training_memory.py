"""Memory of a training step of the published size, with and without checkpointing.

    python benchmarks/training_memory.py [--preset space-plus-base] [--windows 2]
        [--length 131072] [--tiny 65536] [--device cuda]

Counts the bytes that the forward pass keeps for the backward pass, every storage once, on the
meta device: shapes are real, no memory is. fp32; under bf16 autocast activations are about half.
Checkpointed, a step needs at its peak the inputs of all parts, the activations of the largest
part, which is computed again, and the gradients in flight, for which three times the largest
tensor is set aside. Weights, gradients and the two moments of AdamW are 16 bytes a parameter.
The bound is the inputs of the parts: they cannot be computed again.

With two windows of 131,072 bp a step of space-plus-base needs 14 GB checkpointed and 25 GB without.

Then the tiny preset really takes a step, in a process of its own: on a CPU the growth of the
resident memory, on a GPU the allocator's peak.
"""

import argparse
import multiprocessing
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import ProfileModel, build_model

GB = 1e9
# Tracks of the published data: accessibility, CAGE, histone, transcription factor.
COUNTS = {"human": (684, 638, 1998, 1993), "mouse": (228, 357, 750, 308)}
TINY_COUNTS = {"human": (2, 2, 2, 2), "mouse": (2, 2, 2, 2)}
GROUPS = ("accessibility", "CAGE", "histone", "TF")
BYTES_PER_PARAMETER = 16
LIMIT_GB = 80


@dataclass(frozen=True)
class Kept:
    """Bytes kept for the backward pass.

    Attributes:
        by_part: of each part of the model, "rest" for what lies outside.
        largest: of the largest tensor.
    """

    by_part: dict[str, int]
    largest: int

    @property
    def total(self) -> int:
        return sum(self.by_part.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="space-plus-base")
    parser.add_argument("--windows", type=int, default=2, help="per step, half of each species")
    parser.add_argument("--length", type=int, default=131_072, help="bp per window")
    parser.add_argument("--tiny", type=int, default=65_536, help="bp per window of the tiny step")
    parser.add_argument("--device", default="cpu", help="of the tiny step")
    options = parser.parse_args()
    with torch.device("meta"):
        model = make(options.preset, COUNTS, options.length).to("meta")
    step_gb = predict(model, options.preset, options.windows, options.length, "meta")
    verdict = "fits" if step_gb < LIMIT_GB else "does not fit"
    print(f"  a checkpointed fp32 step of {step_gb:.1f} GB {verdict} in {LIMIT_GB} GB\n")
    tiny = options.preset.rsplit("-", 1)[0] + "-tiny"
    predict(make(tiny, TINY_COUNTS, options.tiny), tiny, 4, options.tiny, "cpu")
    for checkpointing in (False, True):
        job = (tiny, options.tiny, options.device, checkpointing)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(measure, job)
        print(f"  measured, checkpointing {checkpointing}: {measured / GB:.2f} GB in a step")


def make(preset: str, counts: dict[str, tuple[int, ...]], length: int) -> ProfileModel:
    tracks = {
        species: HeadTracks(
            ids=[f"{species}{track}" for track in range(sum(sizes))],
            groups=[group for group, size in zip(GROUPS, sizes, strict=True) for _ in range(size)],
        )
        for species, sizes in counts.items()
    }
    bins = length // 128
    model = build_model(preset_config(preset, tracks, crop=bins // 16, bins=bins))
    return model.train()


def predict(model: ProfileModel, name: str, windows: int, length: int, device: str) -> float:
    """Prints the account of a step; the peak with checkpointing in GB."""
    plain = kept_bytes(model, windows, length, device)
    model.encoder.checkpointing = True
    checkpointed = kept_bytes(model, windows, length, device)
    state = BYTES_PER_PARAMETER * sum(p.numel() for p in model.parameters())
    part, again = max(
        ((part, size) for part, size in plain.by_part.items() if part != "rest"),
        key=lambda item: item[1],
    )
    flight = 3 * plain.largest
    peak = state + checkpointed.total + again + flight
    print(f"{name}, {windows} x {length} bp, GB:")
    print(f"  weights, gradients, AdamW {state / GB:.2f}")
    print(f"  kept without checkpointing {plain.total / GB:.2f}, step {_sum(state, plain):.2f}")
    print(
        f"  kept with checkpointing {checkpointed.total / GB:.2f}, largest part ({part}) "
        f"{again / GB:.2f}, in flight {flight / GB:.2f}, step {peak / GB:.2f}"
    )
    return peak / GB


def _sum(state: int, kept: Kept) -> float:
    return (state + kept.total + 3 * kept.largest) / GB


def kept_bytes(model: ProfileModel, windows: int, length: int, device: str) -> Kept:
    """What one forward pass and its loss keep, by part of the encoder."""
    encoder = model.encoder
    parts: dict[str, nn.Module] = {"stem": encoder.tower.stem, "pointwise": encoder.pointwise}
    parts |= {f"stage {index}": stage for index, stage in enumerate(encoder.tower.stages)}
    parts |= {f"block {index}": block for index, block in enumerate(encoder.blocks)}
    part = "rest"

    def enter(name: str) -> None:
        nonlocal part
        part = name

    handles = []
    for name, module in parts.items():
        handles.append(
            module.register_forward_pre_hook(lambda _module, _inputs, name=name: enter(name))
        )
        handles.append(module.register_forward_hook(lambda *_: enter("rest")))
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    # The tensors are held, so that no two storages get the same address.
    held: dict[int, Tensor] = {}
    by_part: dict[str, int] = defaultdict(int)

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in held:
            held[storage._cdata] = x
            by_part[part] += storage.nbytes()
        return x

    # The meta device knows no autocast, not even one that is off.
    autocast = nullcontext() if device != "meta" else patch("torch.autocast", _no_autocast)
    with autocast, saved_tensors_hooks(keep, lambda x: x):
        loss_of(model, windows, length, device)
    for handle in handles:
        handle.remove()
    return Kept(dict(by_part), max(x.untyped_storage().nbytes() for x in held.values()))


def _no_autocast(*_: object, **__: object) -> AbstractContextManager[None]:
    return nullcontext()


def loss_of(model: ProfileModel, windows: int, length: int, device: str) -> Tensor:
    x_B4L = torch.zeros(windows, 4, length, device=device)
    x_B4L[:, 0] = 1.0
    species_B = torch.arange(windows, device=device) % 2
    halves = {"human": windows - windows // 2, "mouse": windows // 2}
    output = model.predict(x_B4L, species_B, halves)
    terms = [
        nn.functional.poisson_nll_loss(rate, torch.zeros_like(rate), log_input=False)
        for rates in (output.tracks, output.auxiliary)
        for rate in rates.values()
    ]
    return torch.stack(terms).sum()


def measure(preset: str, length: int, device: str, checkpointing: bool) -> int:
    """Bytes by which the peak of a real step exceeds what is there before it."""
    torch.set_num_threads(1)
    model = make(preset, TINY_COUNTS, length).to(device)
    model.encoder.checkpointing = checkpointing
    optimizer = torch.optim.AdamW(model.parameters())
    before = resident_bytes("VmRSS") if device == "cpu" else torch.cuda.memory_allocated()
    loss_of(model, 4, length, device).backward()
    optimizer.step()
    if device == "cpu":
        return resident_bytes("VmHWM") - before
    return torch.cuda.max_memory_allocated() - before


def resident_bytes(key: str) -> int:
    """This process's resident memory (VmRSS) or its largest so far (VmHWM)."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith(key + ":"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
