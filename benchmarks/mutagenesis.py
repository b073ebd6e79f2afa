"""How fast every substitution of a window is scored, against tangermeme on the same network.

    python benchmarks/mutagenesis.py [--window 2048] [--span 256] [--repeats 3] [--threads 1]

Four nets with heads for four tracks, fresh but for noise on every parameter, so that no layer is at
the zero it starts from. The score is the mean rate, differences of which to the mean over the four
bases are compared. The `span` positions in the middle are mutated, by both sides, in one window;
the pass for the reference and all that is cached count. tangermeme's `saturation_mutagenesis` runs
with fast=False, in turn with ours; figures are medians over the turns. Then it runs once with
fast=True, which it would not try on so short a job: its limit of 30 s is set to 0 here, and that it
captures and checks the net is part of its time. Where it refuses the fast way, what it says stands
there in place of a ratio.

The bound is that of a perfect implementation: multiplications of a pass over the window, divided
by those of the outputs that a substitution changes at all. These are counted: of every layer, by
the share of its output positions that differ between a window and its mutants. It is
one of products, not of time: whole activations leave the caches and those of what changes do not,
so that more than the bound can be reached.
"""

import argparse
import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tangermeme.saturation_mutagenesis as peer
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cislens.effects.mutagenesis import mutagenesis
from cislens.models.presets import preset_config
from cislens.models.profile import SpeciesView, build_model

PRESETS = ("space-plus-tiny", "enformer-tiny", "basenji-tiny", "findna-plus-tiny")
TRACKS = ("a", "b", "c", "d")
TOLERANCE = 1e-4
ROUNDING = 1e-13
COUNTED = 6  # mutants whose changed outputs are counted
FlopCounts = dict[str, int]


class MeanRate(nn.Module):
    """The score as a network, (B, 4, L) -> (B, 1)."""

    def __init__(self, view: SpeciesView) -> None:
        super().__init__()
        self.view = view

    def forward(self, x_B4L: Tensor) -> Tensor:
        return mean_rate(self.view(x_B4L))[:, None]


def main() -> None:
    """Print a line for each net and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--span", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-batch", type=int, default=32)
    parser.add_argument("--batch", type=int, default=None, help="of ours")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = [measure(name, options) for name in options.presets]
    shape = {key: getattr(options, key) for key in ("window", "span", "threads", "repeats")}
    print(json.dumps({"benchmark": "mutagenesis", **shape, "results": results}))


def measure(preset: str, options: argparse.Namespace) -> dict[str, Any]:
    view, x = network(preset), window(options.window)
    start = (options.window - options.span) // 2
    end = start + options.span
    positions = range(start, end)
    said: list[str] = []
    bound = most_possible(view, x, positions)

    def ours() -> np.ndarray:
        found = mutagenesis(view, x, mean_rate, positions=positions, batch_size=options.batch)
        return found[:, start:end].transpose(0, 2, 1)

    def theirs(fast: bool) -> np.ndarray:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = peer.saturation_mutagenesis(
                MeanRate(view), x, start=start, end=end, batch_size=options.peer_batch,
                hypothetical=True, device="cpu", fast=fast,
            )  # fmt: skip
        said.extend(str(entry.message) for entry in caught if "fast=False" in str(entry.message))
        return found.numpy()

    peer._FAST_MIN_SECONDS = 0
    ways: dict[str, Callable[[], np.ndarray]] = {
        "cislens": ours,
        "plain": lambda: theirs(fast=False),
    }
    seconds, found = timed(ways, options.repeats)
    fast, _ = timed({"fast": lambda: theirs(fast=True)}, 1)
    seconds |= fast
    ratio = seconds["plain"] / seconds["cislens"]
    result = {
        "preset": preset,
        **{f"{name}_s": round(value, 3) for name, value in seconds.items()},
        "times_plain": round(ratio, 2),
        "times_fast": None if said else round(seconds["fast"] / seconds["cislens"], 2),
        "bound": round(bound, 2),
        "share_of_bound": round(ratio / bound, 3),
        "largest_effect": float(np.abs(found["plain"]).max()),
        "largest_difference": float(np.abs(found["cislens"] - found["plain"]).max()),
        "fast_said": said[0] if said else "",
    }
    fast_line = said[0] if said else f"{result['times_fast']} x"
    print(
        f"{preset}: plain {seconds['plain']:.2f} s, ours {seconds['cislens']:.2f} s, {ratio:.2f}"
        f" x; bound {bound:.1f}, {result['share_of_bound']:.0%} of it; largest difference "
        f"{result['largest_difference']:.1e} of effects up to {result['largest_effect']:.1e}\n"
        f"    against fast=True, {seconds['fast']:.2f} s: {fast_line}",
        flush=True,
    )
    if result["largest_difference"] > TOLERANCE:
        raise SystemExit(f"{preset}: the outputs differ by more than {TOLERANCE}.")
    return result


def network(preset: str) -> SpeciesView:
    """One species of a model none of whose layers is zero."""
    torch.manual_seed(0)
    model = build_model(preset_config(preset, {"species": TRACKS})).eval()
    for parameter in model.parameters():
        # The weights of the bases most, so that a substitution is felt.
        size = 1.0 if 4 in parameter.shape[1:2] else 0.1
        parameter.data += size * torch.randn(parameter.shape)
    return model.view("species")


def window(length: int) -> Tensor:
    """One random one-hot window, (1, 4, L)."""
    code_BL = torch.randint(0, 4, (1, length), generator=torch.Generator().manual_seed(1))
    return nn.functional.one_hot(code_BL, 4).transpose(1, 2).float()


def mean_rate(rates_MTN: Tensor) -> Tensor:
    """(M,)."""
    return rates_MTN.mean((1, 2))


def timed(
    ways: dict[str, Callable[[], np.ndarray]], repeats: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median seconds and last result of each, all of them in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}, found


def most_possible(view: SpeciesView, x_14L: Tensor, positions: range) -> float:
    """Multiplications of a window over those whose results a substitution changes."""
    # In fp64, where rounding is told from a change.
    view, x_14L = copy.deepcopy(view).double(), x_14L.double()
    chosen = np.linspace(positions[0], positions[-1], COUNTED).round().astype(int)
    whole, needed = 0.0, 0.0
    with torch.inference_mode():
        reference, flops = outputs_and_flops(view, x_14L)
        own = own_flops(flops)
        for position in chosen:
            mutant = x_14L.clone()
            mutant[:, :, position] = x_14L[:, :, position].roll(1, dims=1)
            changed, _ = outputs_and_flops(view, mutant)
            whole += sum(own.values())
            needed += sum(
                count * share_changed(reference.get(name, []), changed.get(name, []))
                for name, count in own.items()
            )
    return whole / needed


def outputs_and_flops(view: SpeciesView, x: Tensor) -> tuple[dict[str, list[Tensor]], FlopCounts]:
    """Outputs of every module in the order of its calls, and the products in it and below."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, found: Any) -> None:
            if isinstance(found, tuple):
                found = found[0]
            if isinstance(found, Tensor):
                outputs.setdefault(name, []).append(found.clone())

        return hook

    named = [(f"SpeciesView.{name}", part) for name, part in view.named_modules() if name]
    hooks = [part.register_forward_hook(keep(name)) for name, part in named]
    with FlopCounterMode(display=False) as counter:
        view(x)
    for hook in hooks:
        hook.remove()
    counts = {name: sum(parts.values()) for name, parts in counter.get_flop_counts().items()}
    return outputs, counts


def own_flops(counts: FlopCounts) -> FlopCounts:
    """Of each module the products that are not those of a module inside of it."""
    inner = {name: count for name, count in counts.items() if "." in name}
    return {
        name: count
        - sum(below for other, below in inner.items() if nearest_above(other, inner) == name)
        for name, count in inner.items()
    }


def nearest_above(name: str, known: FlopCounts) -> str | None:
    """The innermost counted module around one; not every level has products."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in known:
            return name
    return None


def share_changed(before: list[Tensor], after: list[Tensor]) -> float:
    """Of the positions of a module's outputs, those that differ in any channel."""
    if not before or [part.shape for part in before] != [part.shape for part in after]:
        return 1.0
    different = [
        ((one - other).abs() > ROUNDING * one.abs().max()).any(-1).flatten()
        for one, other in zip(before, after, strict=True)
    ]
    return float(torch.cat(different).float().mean())


if __name__ == "__main__":
    main()
