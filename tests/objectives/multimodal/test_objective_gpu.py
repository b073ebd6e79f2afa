"""The multi-modal objective on a CUDA device: no host synchronization, bf16 close to fp32."""

import copy
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from loci import batch, model
from torch import Tensor

from cislens.models.genebert.contract import RegionContext
from cislens.objectives.multimodal.batch import TorchRegionBatch
from cislens.objectives.multimodal.objective import TERMS, MultimodalObjective, term_gradients
from cislens.recipes.multimodal import MultimodalTerms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def objective(**terms: Any) -> MultimodalObjective:
    weights = {**dict.fromkeys(TERMS, 1.0), **terms}
    return MultimodalObjective(model(), MultimodalTerms(**weights))


def on_device(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cuda()
    if isinstance(value, TorchRegionBatch | RegionContext):
        parts = {each.name: on_device(getattr(value, each.name)) for each in fields(value)}
        return replace(value, **parts)
    return value


def test_training_step_does_not_wait_for_the_device() -> None:
    net, of = objective().cuda(), on_device(batch(12))

    def step() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            total = net.loss(of).total
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
    net, of = objective().eval(), batch(12)
    expected = net.loss(of)
    there = copy.deepcopy(net).cuda()
    found = there.loss(on_device(of))
    for name, value in expected.terms.items():
        torch.testing.assert_close(found.terms[name].cpu(), value, atol=1e-4, rtol=1e-4, msg=name)
    metrics = net.metrics()
    metrics.update(expected.predictions, None)
    on_gpu = net.metrics()
    on_gpu.update(found.predictions, None)
    assert on_gpu.summary() == pytest.approx(metrics.summary(), abs=1e-3)
    norms = term_gradients(net, of)
    assert term_gradients(there, on_device(of)) == pytest.approx(norms, rel=1e-3)


def test_bf16_stays_close() -> None:
    """Without the contexts that the model picks itself, which rounding may change."""
    net, of = objective(negatives="random").eval().cuda(), on_device(batch(12))
    with torch.no_grad():
        full = net.loss(of).terms
        with torch.autocast("cuda", torch.bfloat16):
            half = net.loss(of).terms
    for name, value in full.items():
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], value, rtol=0.03, atol=0.01, msg=name)
