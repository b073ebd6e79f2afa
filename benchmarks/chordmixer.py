"""Training positions per second of findna-paper's layers against one operation after the other.

    python benchmarks/chordmixer.py [--batch 8] [--size 1010] [--blocks 4] [--threads 1]

The other side is written here from the formula of the published layer: Linear, GELU, Linear, one
roll per channel group, cat, add. Both have the same weights; outputs are compared to 1e-5 and
gradients to 1e-4 of their largest value before any timing. One step is forward and backward. The
two, and the bare matrix product of a Linear with as many operations, run in turn; figures are
medians over the turns, as time on the clock and as time of this process on the CPU (on a machine
that does other work, only the second means something). No layer can be faster than its products:
what the other side needs, divided by what they need, is the most that the ratio could be.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cislens.nn.chord import ChordLayer, ChordOffsets, Ring

DIM, HIDDEN, GROUPS = 308, 512, 11


def one_after_the_other(layer: ChordLayer, x_BTD: Tensor) -> Tensor:
    z_BTD = layer.mlp["contract"](nn.functional.gelu(layer.mlp["expand"](x_BTD)))
    groups = z_BTD.split(DIM // GROUPS, dim=2)
    moved = [torch.roll(z, -(2 ** (i - 1)), 1) if i else z for i, z in enumerate(groups)]
    return x_BTD + torch.cat(moved, dim=2)


class Sides:
    """The same layers, run in the two ways."""

    def __init__(self, batch: int, size: int, blocks: int) -> None:
        self.layers = nn.ModuleList(ChordLayer(DIM, HIDDEN) for _ in range(blocks * (GROUPS - 1)))
        self.ring = Ring(ChordOffsets(GROUPS).groups, size)
        self.x_BTD, self.weight_BTD = torch.randn(2, batch, size, DIM)
        self.x_BTD.requires_grad_(True)
        self.flop = 3 * 2 * 2 * DIM * HIDDEN * batch * size * len(self.layers)

    def forward(self, ours: bool) -> Tensor:
        x_BTD = self.x_BTD
        for layer in self.layers:
            x_BTD = layer(x_BTD, self.ring) if ours else one_after_the_other(layer, x_BTD)
        return x_BTD

    def step(self, ours: bool) -> list[Tensor]:
        """The output and all gradients."""
        y_BTD = self.forward(ours)
        wanted = [self.x_BTD, *self.layers.parameters()]
        return [y_BTD.detach(), *torch.autograd.grad((y_BTD * self.weight_BTD).sum(), wanted)]

    def difference(self) -> tuple[float, float]:
        """Of the outputs and of the gradients, as shares of the largest value."""
        off = [
            ((one - other).abs().max() / other.abs().max()).item()
            for one, other in zip(self.step(True), self.step(False), strict=True)
        ]
        return off[0], max(off[1:])

    def kept(self, ours: bool) -> int:
        """Bytes that are kept for the gradient, weights not counted."""
        weights = {p.untyped_storage().data_ptr() for p in self.layers.parameters()}
        sizes: dict[int, int] = {}

        def look(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            y_BTD = self.forward(ours)
        del y_BTD
        return sum(sizes.values())


def product(flop: int, positions: int) -> Callable[[], None]:
    """As many operations, as products of `positions` by the weights of a Linear."""
    left, right = torch.randn(positions, DIM), torch.randn(HIDDEN, DIM)
    out = torch.empty(positions, HIDDEN)

    def run() -> None:
        for _ in range(round(flop / (2 * DIM * HIDDEN * positions))):
            torch.mm(left, right.t(), out=out)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8, help="windows per step")
    parser.add_argument("--size", type=int, default=1010, help="bases and [CLS] of a window")
    parser.add_argument("--blocks", type=int, default=4, help="of ten layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sides = Sides(options.batch, options.size, options.blocks)
    output, gradient = sides.difference()
    print(f"largest differences: output {output:.1e}, gradients {gradient:.1e}")
    assert output < 1e-5
    assert gradient < 1e-4
    positions = options.batch * options.size
    kept = [sides.kept(ours) / positions / len(sides.layers) for ours in (True, False)]
    print(f"kept per position and layer: ours {kept[0]:.0f} bytes, theirs {kept[1]:.0f} bytes")
    runs: list[Callable[[], object]] = [
        lambda: sides.step(True),
        lambda: sides.step(False),
        product(sides.flop, positions),
    ]
    clock, cpu = interleaved(runs, options.repeats)
    for what, (ours, theirs, bound) in {"clock": clock, "CPU": cpu}.items():
        print(
            f"{what}: ours {positions / ours:.0f}, theirs {positions / theirs:.0f} positions/s, "
            f"ratio {theirs / ours:.2f} of at most {theirs / bound:.2f}; "
            f"ours {sides.flop / ours / 1e9:.0f}, products {sides.flop / bound / 1e9:.0f} GFLOP/s"
        )


def interleaved(runs: list[Callable[[], object]], repeats: int) -> tuple[list[float], list[float]]:
    """Median seconds of each on the clock and on the CPU."""
    clock: list[list[float]] = [[] for _ in runs]
    cpu: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, on_clock, on_cpu in zip(runs, clock, cpu, strict=True):
            start, used = time.perf_counter(), time.process_time()
            run()
            on_clock.append(time.perf_counter() - start)
            on_cpu.append(time.process_time() - used)
    return [statistics.median(x) for x in clock], [statistics.median(x) for x in cpu]


if __name__ == "__main__":
    main()
