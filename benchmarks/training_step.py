"""Time of a training step of the tiny presets, by stage, and against enformer-pytorch.

    python benchmarks/training_step.py [--length 4096] [--batch 32] [--threads 2] [--bf16]

Prints seconds per megabase (forward and backward), GFLOP/s (multiplications and additions of
convolutions and matrix products, forward and backward), the share of each stage, and the ratio
to enformer-pytorch at the same widths. Times are the best of several runs.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.objectives.profile import ProfileObjective, TorchProfileBatch, one_hot

TRACKS = {"yeast": ("a", "b", "c"), "human": ("d", "e"), "fly": ("f",)}
CROP = 4
REPEATS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=4096, help="bp per window")
    parser.add_argument("--batch", type=int, default=32, help="windows per step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="under bf16 autocast")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    codes = torch.randint(0, 4, (options.batch, options.length), dtype=torch.uint8)
    megabases = codes.numel() / 1e6
    for preset in ("enformer-tiny", "space-plus-tiny"):
        model = build_model(preset_config(preset, TRACKS, crop=CROP)).train()
        step = training_step(model, codes, options.bf16)
        with FlopCounterMode(display=False) as counter:
            step()
        seconds = best_time(step)
        print(
            f"{preset}: {seconds / megabases:.2f} s/Mb, {options.batch / seconds:.0f} windows/s, "
            f"{counter.get_total_flops() / seconds / 1e9:.0f} GFLOP/s"
        )
        if preset == "space-plus-tiny":
            print_stages(model, codes, options.bf16)
        else:
            print_peer(model, codes, seconds, options.bf16)


def training_step(model: ProfileModel, codes_BL: Tensor, bf16: bool) -> Callable[[], None]:
    objective = ProfileObjective(model)
    species_B = torch.arange(len(codes_BL)) % len(TRACKS)
    bins = codes_BL.shape[1] // model.encoder.bin_size - 2 * CROP
    targets = {
        name: torch.rand(int((species_B == index).sum()), bins, len(tracks))
        for index, (name, tracks) in enumerate(TRACKS.items())
    }
    batch = TorchProfileBatch(codes_BL, species_B, targets)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            total = objective.loss(batch).total
        model.zero_grad()
        total.backward()

    return step


def print_stages(model: ProfileModel, codes_BL: Tensor, bf16: bool) -> None:
    """Forward and backward time of each stage alone, on inputs of the right shape."""
    encoder = model.encoder
    tower = encoder.tower
    x_BLC = one_hot(codes_BL).transpose(1, 2)
    stages: dict[str, Callable[[Tensor], Tensor]] = {"stem": tower.stem}
    for index, stage in enumerate(tower.stages):
        stages[f"tower {index}"] = lambda x_BLC, stage=stage: stage(x_BLC, None)
    species_B = torch.zeros(len(codes_BL), dtype=torch.int64)
    stages["blocks"] = lambda x_BND: run_blocks(encoder, x_BND, species_B)
    stages["pointwise"] = encoder.pointwise
    times = {}
    for name, stage in stages.items():
        times[name], x_BLC = stage_time(stage, x_BLC, name != "stem", bf16)
    total = sum(times.values())
    print("  " + ", ".join(f"{name} {100 * t / total:.0f} %" for name, t in times.items()))


def run_blocks(encoder: nn.Module, x_BND: Tensor, species_B: Tensor) -> Tensor:
    valid_BN = torch.ones(x_BND.shape[:2], dtype=torch.bool)
    basis_RF = encoder.basis.table(x_BND.shape[1], x_BND.device)
    code_BC = encoder.codes[species_B]
    for block in encoder.blocks:
        x_BND, _ = block(x_BND, basis_RF, valid_BN, code_BC, species_B)
    return x_BND


def stage_time(
    stage: Callable[[Tensor], Tensor], x: Tensor, needs_grad: bool, bf16: bool
) -> tuple[float, Tensor]:
    x = x.detach().requires_grad_(needs_grad)

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = stage(x)
        y.backward(torch.ones_like(y))
        return y

    y = run()
    return best_time(run), y


def print_peer(model: ProfileModel, codes_BL: Tensor, seconds: float, bf16: bool) -> None:
    """The same step by enformer-pytorch with its own tower widths set to ours."""
    try:
        from enformer_pytorch import Enformer
    except ImportError:
        print("  enformer-pytorch is not installed: no ratio (pip install cislens[peers])")
        return
    shape = model.config.encoder
    wide = preset_config("enformer-tiny", TRACKS, crop=CROP, stem_dim=None)
    ours = best_time(training_step(build_model(wide).train(), codes_BL, bf16))
    peer = Enformer.from_hparams(
        dim=shape.dim,
        depth=shape.depth,
        heads=shape.heads,
        attn_dim_key=shape.key_dim,
        dim_divisible_by=shape.width_multiple,
        target_length=codes_BL.shape[1] // shape.bin_size - 2 * CROP,
        output_heads={"yeast": 6},
        use_tf_gamma=False,
    ).train()
    x_BL4 = one_hot(codes_BL).transpose(1, 2).contiguous()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            rate = peer(x_BL4)["yeast"]
        peer.zero_grad()
        rate.float().sum().backward()

    theirs = best_time(step)
    print(
        f"  at enformer-pytorch's stem width ({shape.dim // 2}): ours {1e3 * ours:.0f} ms, "
        f"theirs {1e3 * theirs:.0f} ms a step, ratio {theirs / ours:.1f}"
    )


def best_time(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
