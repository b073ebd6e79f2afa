"""One step on two CPU processes against the same step on one.

The file is both the test and the program of each process.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import build_model
from cislens.objectives.profile import ProfileObjective, TorchProfileBatch
from cislens.recipes.profiles import Objective, PlusTerms

SHAPE = {"dim": 24, "stem_dim": 8, "depth": 1, "heads": 2, "dropout": 0.0}
PRESETS: dict[str, dict[str, Any]] = {
    "space-plus-tiny": {"species_dropout": 0.0},
    "space-paper-tiny": {"bins": 4},
    "enformer-tiny": {},
}
# Each process gets every other window: both see every species that a batch has.
BATCHES = {"mixed": [0, 0, 1, 1], "second alone": [1] * 4, "first alone": [0] * 4}


class Step(nn.Module):
    """The loss as a forward pass, which is what data-parallel training wraps."""

    def __init__(self, preset: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        tracks = {
            "yeast": HeadTracks(["a", "b"], ["accessibility", "TF"]),
            "fly": HeadTracks(["c"], ["CAGE"]),
        }
        model = build_model(preset_config(preset, tracks, **SHAPE, **PRESETS[preset]))
        terms = PlusTerms(mutual_information=0.5)
        self.objective = ProfileObjective(model, Objective(experts=terms))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()  # statistics over processes want a GPU
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, batch: TorchProfileBatch) -> Tensor:
        return self.objective.loss(batch).total


def batch_of(species: list[int], rank: int, world: int) -> TorchProfileBatch:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(4, (4, 512), generator=generator, dtype=torch.uint8)
    counts = torch.rand(4, 4, 2, generator=generator)
    mine = torch.arange(4) % world == rank
    species_B = torch.tensor(species)
    targets = {}
    for number, (name, tracks) in enumerate((("yeast", 2), ("fly", 1))):
        here = mine & (species_B == number)
        if here.any():
            targets[name] = counts[here][..., :tracks]
    return TorchProfileBatch(codes[mine], species_B[mine], targets)


def losses_and_gradients(
    preset: str, rank: int, world: int, wrap: Callable[[Step], nn.Module]
) -> dict[str, list[float]]:
    found = {}
    step = Step(preset)
    module = wrap(step)
    for name, species in BATCHES.items():
        step.zero_grad()
        loss = module(batch_of(species, rank, world))
        loss.backward()
        norms = [float(p.grad.norm()) for p in step.parameters() if p.grad is not None]
        found[f"{preset}, {name}"] = [loss.item(), *norms]
    return found


def run(rank: int, world: int, folder: Path) -> None:
    """One process: the losses of its own share, and gradients that are means over processes."""
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    found = {}
    for preset in PRESETS:
        wrap = nn.parallel.DistributedDataParallel
        found |= losses_and_gradients(preset, rank, world, wrap)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    started = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE) for rank in (0, 1)]
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()[-2000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    whole = {}
    for preset in PRESETS:
        whole |= losses_and_gradients(preset, 0, 1, lambda step: step)
    assert whole.keys() == first.keys()
    for name, expected in whole.items():
        loss = (first[name][0] + second[name][0]) / 2
        assert loss == pytest.approx(expected[0], rel=1e-5), name
        assert first[name][1:] == second[name][1:]
        assert first[name][1:] == pytest.approx(expected[1:], rel=1e-3, abs=1e-6), name


if __name__ == "__main__":
    run(int(sys.argv[2]), 2, Path(sys.argv[1]))
