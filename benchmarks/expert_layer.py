"""An expert layer against a dense layer with the same active multiplications.

    python benchmarks/expert_layer.py [--dims 96 768 1536] [--tokens 2048 8192] [--threads 1]
    python benchmarks/expert_layer.py --dims 768 1536 --device cuda --bf16 [--compile]

4 of 8 experts with hidden width D / 2 and a shared one of width D, forward and backward, router
included, against Linear D -> 3 D -> D. Both and a square matrix product run in turn; figures
are medians over the turns. Both layers are bound by their multiplications, and their shares of the
matrix product's speed are printed. What the experts add: every token's channels are read and
written once per kept expert in each of four gathers, 16 K D bytes per token in fp32 beside
18 D^2 multiplications, so that the ratio falls towards 1 as D grows. On one CPU core it was 1.05 to
1.1 at D = 1536, 1.1 to 1.2 at 768, and 1.3 to 1.5 at 96, above the 1.25 that is wanted: there the
router, the gathers and the sums take as long as half of the products.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cislens.nn.experts import Experts

EXPERTS, KEPT, CODE = 8, 4, 64
PRODUCT = {"cpu": 1024, "cuda": 8192}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=[96, 768, 1536])
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under bf16 autocast")
    parser.add_argument("--compile", action="store_true", help="compile both layers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    for dim in options.dims:
        for tokens in options.tokens:
            compare(dim, tokens, device, options)


def compare(dim: int, tokens: int, device: torch.device, options: argparse.Namespace) -> None:
    hidden = dim + KEPT * dim // 2
    dense = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim)).to(device)
    experts = Experts(dim, EXPERTS, KEPT, CODE, dropout=0.0).to(device)
    if options.compile:
        dense.compile()
        experts.compile(fullgraph=True)
    batch = 8
    z_BND = torch.randn(batch, tokens // batch, dim, device=device, requires_grad=True)
    seed_BND = torch.randn_like(z_BND)
    code_BC = torch.randn(batch, CODE, device=device)
    species_B = torch.zeros(batch, dtype=torch.int64, device=device)
    valid_BN = torch.ones(batch, tokens // batch, dtype=torch.bool, device=device)

    def step(layer: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                y_BND = layer()
            y_BND.backward(seed_BND.to(y_BND.dtype))

        return run

    size = PRODUCT[device.type]
    left, right = torch.randn(2, size, size, device=device).to(
        torch.bfloat16 if options.bf16 else torch.float32
    )
    runs = [
        step(lambda: experts(z_BND, code_BC, species_B, valid_BN)[0]),
        step(lambda: dense(z_BND)),
        lambda: left @ right,
    ]
    ours, twin, product = interleaved(runs, options.repeats, device)
    flop, peak = 12 * tokens * dim * hidden, 2 * size**3 / product
    print(
        f"D {dim}, {tokens} tokens: experts {1e3 * ours:.1f} ms, dense {1e3 * twin:.1f} ms, "
        f"ratio {ours / twin:.2f}; of the matrix product's {peak / 1e9:.0f} GFLOP/s "
        f"{100 * flop / ours / peak:.0f} % and {100 * flop / twin / peak:.0f} %"
    )


def interleaved(
    runs: list[Callable[[], object]], repeats: int, device: torch.device
) -> list[float]:
    """Median seconds of each, after three runs to warm up."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 3):
        for run, kept in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 3:
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


if __name__ == "__main__":
    main()
