"""Two processes have the statistics, losses and gradients of one with all windows.

What each of them is compared in: the targets of Sinkhorn, the center, the running mean after two
steps, the nearest vectors of KoLeo with their gradient, rows of unequal number.
"""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from views_by_hand import batch, model, rows

from cislens.nn.gathering import gather_rows, mean_over_rows
from cislens.objectives.distillation.objective import DistillationObjective
from cislens.objectives.distillation.prototypes import sinkhorn
from cislens.objectives.distillation.spread import koleo_term
from cislens.recipes.sequence_terms import DistillationTerms

WINDOWS, STEPS = 6, 2
TARGETS = ("center", "sinkhorn")


def values() -> Tensor:
    return torch.randn(WINDOWS, 5, generator=torch.Generator().manual_seed(0))


def statistics(mine: Tensor) -> dict[str, Tensor]:
    """Of the rows of one process; gradients are those of the mean over all rows."""
    row_BD = values()[mine].requires_grad_()
    share = len(row_BD) / WINDOWS
    term = koleo_term(row_BD, gathered=True)
    (share * term).backward()
    assert row_BD.grad is not None
    gathered, first = gather_rows(values()[mine])
    assert torch.equal(gathered[first : first + len(mine)], values()[mine])
    return {
        "koleo": share * term.detach(),
        "koleo slope": row_BD.grad,
        "gathered": gathered,
        "mean": mean_over_rows(values()[mine]),
        "sinkhorn": sinkhorn(values()[mine] / 0.1),
    }


def trained(target: str, mine: Tensor) -> dict[str, Tensor]:
    """Two steps of gradient descent on the windows of one process, as data-parallel training."""
    terms = DistillationTerms(
        masked=0.0, latent=0.0, pooled=0.5, koleo=0.1, prototypes=8, target=target, ramp=0.0
    )
    net = DistillationObjective(model(), terms, 10, WINDOWS)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        losses = net.loss(rows(batch(WINDOWS, seed=step), mine))
        optimizer.zero_grad()
        losses.total.backward()
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            if dist.is_initialized():
                dist.all_reduce(weight.grad)
                weight.grad /= dist.get_world_size()
        optimizer.step()
        net.after_step()
        found[f"{target} loss {step}"] = losses.total.detach()
    assert net.targets is not None
    found[f"{target} center"] = net.targets.center_K
    found[f"{target} teacher"] = torch.cat([w.flatten() for w in net.teacher.parameters()])
    found[f"{target} head"] = torch.cat([w.flatten() for w in net.teacher_head.parameters()])
    return found


def run(rank: int, folder: Path) -> dict[str, Tensor]:
    """One of two processes; unequal shares for the statistics, equal ones for the steps."""
    dist.init_process_group(
        "gloo",
        f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    try:
        place = torch.arange(WINDOWS)
        found = statistics(place[:4] if rank == 0 else place[4:])
        for target in TARGETS:
            found |= trained(target, place[rank::2])
    finally:
        dist.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What this process and another one have."""
    folder = tmp_path_factory.mktemp("processes")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    other = subprocess.Popen(command, stderr=subprocess.PIPE, env=env)
    first = run(0, folder)
    _, errors = other.communicate(timeout=120)
    assert other.returncode == 0, errors.decode()[-2000:]
    return first, torch.load(folder / "1.pt", weights_only=True)


def test_statistics_are_those_of_all_rows(found: tuple[dict[str, Tensor], ...]) -> None:
    whole, (first, second) = statistics(torch.arange(WINDOWS)), found
    assert (first["koleo"] + second["koleo"]).item() == pytest.approx(whole["koleo"].item())
    for name in ("koleo slope", "sinkhorn"):
        joined = torch.cat([first[name], second[name]])
        assert torch.allclose(joined, whole[name], atol=1e-6), name
    for name in ("mean", "gathered"):
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], whole[name], atol=1e-6), name


@pytest.mark.parametrize("target", TARGETS)
def test_training_on_two_processes_is_that_on_one(
    target: str, found: tuple[dict[str, Tensor], ...]
) -> None:
    """Losses, center and running mean after two steps."""
    whole, (first, second) = trained(target, torch.arange(WINDOWS)), found
    for step in range(STEPS):
        name = f"{target} loss {step}"
        mean = (first[name] + second[name]).item() / 2
        assert mean == pytest.approx(whole[name].item(), rel=1e-5)
    for name in (f"{target} center", f"{target} teacher", f"{target} head"):
        assert torch.allclose(first[name], second[name], atol=1e-7), name
        assert torch.allclose(first[name], whole[name], atol=1e-5), name
    if target == "center":
        assert whole["center center"].abs().max() > 1e-3


if __name__ == "__main__":
    torch.save(run(1, Path(sys.argv[1])), Path(sys.argv[1]) / "1.pt")
