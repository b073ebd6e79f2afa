"""Self-distillation on a GPU."""

import pytest
import torch
from views_by_hand import batch, model

from cislens.objectives.distillation.objective import DistillationObjective
from cislens.recipes.sequence_terms import DistillationTerms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("target", ["center", "sinkhorn"])
def test_terms_and_teacher_are_those_of_a_cpu(target: str) -> None:
    """In fp32 to 1e-3, before and after a step."""
    terms = DistillationTerms(contrast=0.2, prototypes=16, target=target)
    nets = [DistillationObjective(model(), terms, 10, 4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    nets[1].to("cuda")
    for seed in (0, 1):
        for net, device in zip(nets, ("cpu", "cuda"), strict=True):
            losses = net.loss(batch(seed=seed).to(device))
            net.zero_grad()
            losses.total.backward()
            with torch.no_grad():
                for weight in net.parameters():
                    if weight.grad is not None:
                        weight.sub_(0.1 * weight.grad)
            net.after_step()
        found = [net.eval().loss(batch(seed=9).to(net.step.device)).terms for net in nets]
        for net in nets:
            net.train()
        for name, value in found[0].items():
            assert found[1][name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-3), name
