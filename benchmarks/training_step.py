"""A training step of the dense trunk against enformer-pytorch: same shape, same weights.

    python benchmarks/training_step.py [--size tiny] [--length 8192] [--batch 8] [--threads 1]
    python benchmarks/training_step.py --size base --length 131072 --batch 2 --device cuda --bf16
        [--compile]

One step is forward, Poisson loss, backward, AdamW. The weights are copied, and before any timing
the two outputs are compared. Ours, theirs and a square matrix product of the same precision
run in turn, and every figure is a median over the turns, so that a slow moment of the
machine meets all three. A step is bound by its multiplications: the share of the product's speed
says how near the bound it is. The rest of the time goes to reading and writing activations, most
of it at full resolution, where a convolution has few channels (48 at the tiny size).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.models.presets import PRESETS
from cislens.representations.huggingface.enformer import KEYS
from cislens.representations.huggingface.loading import rename

TRACKS = 8
PRODUCT = {"cpu": 2048, "cuda": 8192}


class WithHead(nn.Module):
    """Our trunk and one head with Softplus: what enformer-pytorch's model computes."""

    def __init__(self, encoder: EnformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(encoder.dim, TRACKS), nn.Softplus())

    def forward(self, x_BL4: Tensor) -> Tensor:
        rates: Tensor = self.head(self.encoder(x_BL4.transpose(1, 2)).values_BND)
        return rates


class OneHead(nn.Module):
    """enformer-pytorch's model with its one head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BL4: Tensor) -> Tensor:
        rates: Tensor = self.model(x_BL4, head="tracks")
        return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["tiny", "small", "base"], default="tiny")
    parser.add_argument("--length", type=int, default=8192, help="bp per window")
    parser.add_argument("--batch", type=int, default=8, help="windows per step")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under bf16 autocast")
    parser.add_argument("--compile", action="store_true", help="compile both models")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    ours, theirs = (model.to(device) for model in twins(options.size))
    x_BL4 = nn.functional.one_hot(torch.randint(0, 4, (options.batch, options.length)), 4)
    x_BL4 = x_BL4.float().to(device)
    print(f"largest difference of the outputs: {difference(ours, theirs, x_BL4):.1e}")
    step = training_step(ours, x_BL4, options.bf16)
    with FlopCounterMode(display=False) as counter:
        step()
    if options.compile:
        ours.compile()
        theirs.compile()
    product, product_flop = square_product(device, options.bf16)
    seconds = interleaved(
        [step, training_step(theirs, x_BL4, options.bf16), product], options.repeats, device
    )
    speed, peak = counter.get_total_flops() / seconds[0], product_flop / seconds[2]
    print(
        f"{options.size}, {options.batch} x {options.length} bp: ours {1e3 * seconds[0]:.1f} ms, "
        f"enformer-pytorch {1e3 * seconds[1]:.1f} ms a step, ratio {seconds[1] / seconds[0]:.2f}"
    )
    print(
        f"ours {speed / 1e9:.0f} GFLOP/s, matrix product {peak / 1e9:.0f} GFLOP/s: "
        f"{100 * speed / peak:.0f} % of the peak"
    )


def twins(size: str) -> tuple[nn.Module, nn.Module]:
    """Our model and enformer-pytorch's with the same weights."""
    from enformer_pytorch import Enformer

    shape = {
        key: value
        for key, value in PRESETS[f"enformer-{size}"]["encoder"].items()
        if key != "stem_dim"
    }
    config = EnformerConfig(**shape, dropout=0.4, positions="feature-axis")
    theirs = Enformer.from_hparams(
        dim=config.dim,
        depth=config.depth,
        heads=config.heads,
        attn_dim_key=config.key_dim,
        dim_divisible_by=config.width_multiple,
        dropout_rate=config.dropout,
        target_length=-1,
        output_heads={"tracks": TRACKS},
        use_tf_gamma=False,
    )
    for name, value in theirs.state_dict().items():
        if name.endswith("to_out.weight"):  # zero at the start: the attention would not be compared
            nn.init.normal_(value, std=0.02)
    ours = WithHead(EnformerEncoder(config))
    ours.encoder.load_state_dict(rename(theirs.state_dict(), KEYS, "", "enformer-pytorch"))
    ours.head.load_state_dict(theirs.heads["tracks"].state_dict())
    return ours, OneHead(theirs)


def difference(ours: nn.Module, theirs: nn.Module, x_BL4: Tensor) -> float:
    with torch.no_grad():
        return (ours.eval()(x_BL4) - theirs.eval()(x_BL4)).abs().max().item()


def training_step(model: nn.Module, x_BL4: Tensor, bf16: bool) -> Callable[[], None]:
    model.train()
    device = x_BL4.device.type
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        target_BNT = torch.rand_like(model(x_BL4).float())

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            rates_BNT = model(x_BL4)
        loss = nn.functional.poisson_nll_loss(rates_BNT.float(), target_BNT, log_input=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def square_product(device: torch.device, bf16: bool) -> tuple[Callable[[], object], int]:
    """A matrix product that the library does at full speed, and its operations."""
    size = PRODUCT[device.type]
    left, right = torch.randn(2, size, size, device=device).to(
        torch.bfloat16 if bf16 else torch.float32
    )
    return lambda: left @ right, 2 * size**3


def interleaved(
    runs: list[Callable[[], object]], repeats: int, device: torch.device
) -> list[float]:
    """Median seconds of each, after two runs to warm up."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 2):
        for run, kept in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


if __name__ == "__main__":
    main()
