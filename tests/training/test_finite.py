"""A loss that is not finite ends the run, with the step, the batch and its windows."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.objectives.contract import Losses, Objective
from cislens.recipes.schema import Training
from cislens.training.finite import EVERY, FiniteGuard, places_of
from cislens.training.module import ObjectiveModule
from cislens.training.stream import StepStream


class Batch:
    def __init__(self, value: float) -> None:
        self.value = torch.tensor([value])

    def windows(self, part: str = "") -> int:
        return 1

    def to(self, device: Any) -> "Batch":
        return self


class Slope(Objective):
    """A weight times what the batch holds."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)

    def loss(self, batch: Batch) -> Losses:
        total = self.model(batch.value).sum()
        return Losses(total, {"slope": total.detach(), "other": torch.zeros(())})

    def metrics(self) -> Any:
        raise AssertionError


class Loader:
    """Five batches an epoch, the third of the second of which is not finite."""

    wait_seconds = 0.0

    def __len__(self) -> int:
        return 5

    def batch(self, epoch: int, step: int) -> Batch:
        return Batch(float("inf") if (epoch, step) == (1, 2) else 1.0)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        return (self.batch(epoch, step) for step in range(first, len(self)))


def stepped(folder: Path, places: Any = None) -> Slope:
    """Ten steps; the objective as they leave it."""
    loader: Any = Loader()
    objective = Slope()
    module = ObjectiveModule(objective, Training(steps=10, learning_rate=0.25), seed=0)
    trainer = Trainer(
        accelerator="cpu", max_steps=10, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[FiniteGuard(folder, loader, places)],
    )  # fmt: skip
    try:
        trainer.fit(module, StepStream(loader, [lambda batch: batch], 10, 10, lambda: 0))
    finally:
        folder.joinpath("done").write_text(str(trainer.global_step))
    return objective


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_error_says_step_batch_term_and_windows(tmp_path: Path) -> None:
    asked = []

    def places(batch: Batch) -> list[str]:
        asked.append(float(batch.value))
        return [f"yeast chrI:{start}-{start + 9}" for start in range(10)]

    with pytest.raises(CislensError) as end:
        stepped(tmp_path, places)
    said = str(end.value)
    assert "At step 8 (batch 2 of epoch 1), with learning_rate 0.25, the loss (slope)" in said
    assert "there is no checkpoint before it" in said
    assert "yeast chrI:7-16 and 2 more." in said
    assert asked == [float("inf")]
    # No gradient was taken of it.
    assert (tmp_path / "done").read_text() == "7"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_last_good_checkpoint_is_named(tmp_path: Path) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    with pytest.raises(CislensError, match=rf"of step 0, is {last}"):
        stepped(tmp_path)


class OnDevice:
    """A loss that looks as if it were on a GPU."""

    is_cuda = True

    def __init__(self, value: float) -> None:
        self.value = torch.tensor(value)

    def detach(self) -> Tensor:
        return self.value


@pytest.mark.parametrize("bad", [0, 3, EVERY - 1, EVERY + 1])
def test_on_a_gpu_losses_are_looked_at_together_and_before_validation(
    tmp_path: Path, bad: int
) -> None:
    loader: Any = Loader()
    guard = FiniteGuard(tmp_path, loader)
    module = ObjectiveModule(Slope(), Training(steps=10), seed=0)
    steps = EVERY + 3
    done = []
    with pytest.raises(CislensError, match=rf"At step {bad + 1} "):
        for step in range(steps):
            trainer: Any = SimpleNamespace(global_step=step, global_rank=0, world_size=1)
            loss: Any = OnDevice(float("nan") if step == bad else 1.0)
            guard.on_before_backward(trainer, module, loss)
            done.append(step)
        guard.on_validation_start(trainer, module)
    assert len(done) == (EVERY - 1 if bad < EVERY else steps)


def rank_of_two(rank: int, folder: Path) -> str:
    """What the guard of one of two processes says when the loss of the second is not finite."""
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    loader: Any = Loader()
    places = [f"chr{rank}:{at}" for at in range(2) for rank in range(2)]
    guard = FiniteGuard(folder, loader, lambda batch: places)
    module = ObjectiveModule(Slope(), Training(steps=10), seed=0)
    try:
        for step in range(4):
            trainer: Any = SimpleNamespace(global_step=step, global_rank=rank, world_size=2)
            bad = (rank, step) == (1, 2)
            guard.on_before_backward(trainer, module, torch.tensor(float("nan") if bad else 1.0))
    except CislensError as error:
        return str(error)
    finally:
        dist.destroy_process_group()
    return "nothing"


def test_devices_that_train_together_stop_together(tmp_path: Path) -> None:
    """One that went on would wait for the gradients of the other for ever."""
    command = [sys.executable, __file__, str(tmp_path)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    first = rank_of_two(0, tmp_path)
    second, _ = other.communicate(timeout=60)
    assert first == second.strip()
    assert "At step 3 (batch 2 of epoch 0)" in first
    assert "Its windows: chr1:0, chr1:1." in first


def test_places_are_said_as_browsers_take_them() -> None:
    store: Any = SimpleNamespace(
        species=("fly", "yeast"), window=512, chroms={"fly": ("2L",), "yeast": ("I", "II")}.get
    )
    batch: Any = SimpleNamespace(
        species_B=np.array([1, 0]), chrom_B=np.array([1, 0]), start_B=np.array([99, 0])
    )
    assert places_of(store, batch) == ["yeast II:100-611", "fly 2L:1-512"]


if __name__ == "__main__":
    sys.stdout.write(rank_of_two(1, Path(sys.argv[1])))
