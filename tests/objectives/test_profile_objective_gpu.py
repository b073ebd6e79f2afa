"""The profile objective on a CUDA device: no host synchronization, bf16 close to fp32."""

import copy
from typing import Any

import pytest
import torch

from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.nn.experts import grouped_product, looped_product, masked_product
from cislens.objectives.profile import ProfileObjective, TorchProfileBatch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TRACKS = {"yeast": ("a", "b"), "fly": ("c",)}


def objective() -> ProfileObjective:
    torch.manual_seed(0)
    return ProfileObjective(build_model(preset_config("space-plus-tiny", TRACKS, crop=1)))


def batch_on(device: str) -> TorchProfileBatch:
    rng = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 4, (6, 2048), generator=rng, dtype=torch.uint8)
    species = torch.tensor([0, 1, 1, 0, 1, 0])
    targets = {name: torch.rand(3, 14, len(ids), generator=rng) for name, ids in TRACKS.items()}
    return TorchProfileBatch(codes, species, targets).to(device)


def test_training_step_does_not_wait_for_the_device() -> None:
    net, batch = objective().cuda(), batch_on("cuda")

    def step() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            total = net.loss(batch).total
        total.backward()
        return total.detach()

    step()  # makes the position table
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert total.isfinite()


def test_gpu_is_cpu_in_fp32() -> None:
    net = objective().eval()
    expected = net.loss(batch_on("cpu"))
    found = copy.deepcopy(net).cuda().loss(batch_on("cuda"))
    for name, rate in expected.predictions.items():
        torch.testing.assert_close(found.predictions[name].cpu(), rate, atol=1e-4, rtol=1e-4)


def test_bf16_stays_close() -> None:
    net, batch = objective().eval().cuda(), batch_on("cuda")
    with torch.no_grad():
        full = net.loss(batch).predictions
        with torch.autocast("cuda", torch.bfloat16):
            half = net.loss(batch).predictions
    for name, rate in full.items():
        assert half[name].isfinite().all()
        assert ((half[name] - rate).norm() / rate.norm()).item() < 2e-2


@pytest.mark.parametrize("product", [grouped_product, masked_product])
def test_products_agree_in_bf16_with_an_empty_expert(product: Any) -> None:
    torch.manual_seed(0)
    rows = torch.randn(64, 32, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(4, 32, 16, device="cuda", dtype=torch.bfloat16)
    ends = torch.tensor([20, 20, 40, 64], dtype=torch.int32, device="cuda")
    expected = looped_product(rows.double(), weight.double(), ends)
    found = product(rows, weight, ends).double()
    assert ((found - expected).norm() / expected.norm()).item() < 1e-2
