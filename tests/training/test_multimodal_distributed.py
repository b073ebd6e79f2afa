"""Training on regions on two CPU processes.

The file is both the test and the program of each process.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cislens.motifs.store import RegionStore
from cislens.recipes.multimodal import TERMS, MultimodalTerms
from cislens.recipes.schema import Training, TrainRecipe
from cislens.training.courses import course_of
from cislens.training.multimodal_course import to_tensors

STEPS = 3
_SMALL = {"dim": 16, "depth": 1, "heads": 2}
MODEL = {
    "preset": "genebert-plus-tiny", "encoder": _SMALL, "joint_dim": 16,
    "regions": {**_SMALL, "dropout": 0.0},
}  # fmt: skip
# Means over loci; what other terms are means of differs in number between the shares.
OF_LOCI = {"next": 1.0, "match": 1.0, "motifs": 1.0}
TERMS_OF = {
    "all": MultimodalTerms(context=4, next=0.5),
    "of loci": MultimodalTerms(
        **{**dict.fromkeys(TERMS, 0.0), **OF_LOCI}, context=4, negatives="random"
    ),
}


class Step(nn.Module):
    """The loss as a forward pass, which is what data-parallel training wraps."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Any) -> Tensor:
        total: Tensor = self.objective.loss(batch).total
        return total


def trained(store: Path, name: str, rank: int, world: int) -> dict[str, list[float]]:
    """Losses of the steps, norms of the first gradients, and of the weights at the end."""
    recipe = TrainRecipe(
        store=store, model=MODEL, objective=TERMS_OF[name], training=Training(steps=9, batch_size=8)
    )
    course = course_of(recipe)
    step: nn.Module = Step(course.objective)
    if world > 1:
        step = nn.parallel.DistributedDataParallel(step)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.05)
    found: dict[str, list[float]] = {"loss": []}
    for number in range(STEPS):
        optimizer.zero_grad()
        loss = step(to_tensors(course.loader.batch(0, number), rank, world))
        loss.backward()
        found["loss"].append(loss.item())
        found.setdefault("gradients", [0.0 if p.grad is None else float(p.grad.norm())
                                       for p in step.parameters()])  # fmt: skip
        optimizer.step()
    found["weights"] = [float(p.detach().norm()) for p in step.parameters()]
    return found


def run(rank: int, world: int, folder: Path, store: Path) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    found = {name: trained(store, name, rank, world) for name in TERMS_OF}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(region_store: RegionStore, tmp_path: Path) -> None:
    """Every term is finite and both processes keep the same weights.

    For terms that are means over loci, loss and gradients are those of one process: within 1e-5
    and 1e-3.
    """
    command = [sys.executable, __file__, str(tmp_path), str(region_store.path)]
    started = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE) for rank in (0, 1)]
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()[-2000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for name in TERMS_OF:
        assert torch.tensor(first[name]["loss"] + second[name]["loss"]).isfinite().all()
        assert first[name]["weights"] == second[name]["weights"]
        assert first[name]["gradients"] == second[name]["gradients"]
    one = trained(region_store.path, "of loci", 0, 1)
    losses = torch.tensor([first["of loci"]["loss"], second["of loci"]["loss"]])
    both = losses.mean(0).tolist()
    assert both == pytest.approx(one["loss"], rel=1e-4)
    found = first["of loci"]["gradients"]
    assert found == pytest.approx(one["gradients"], rel=1e-3, abs=1e-6)


if __name__ == "__main__":
    run(int(sys.argv[3]), 2, Path(sys.argv[1]), Path(sys.argv[2]))
