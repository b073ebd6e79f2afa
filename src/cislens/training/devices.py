"""On which devices and by which processes a run trains.

`torchrun` and `srun` start the processes themselves and say so in the environment, which Lightning
reads; without them a run takes every GPU of this machine, or the CPU.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from cislens.errors import CislensError
from cislens.files import claimed, clear_partial
from cislens.recipes.schema import Training

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


@dataclass(frozen=True)
class Devices:
    """What `Trainer` is told.

    Attributes:
        accelerator: "gpu" or "cpu".
        per_node: processes on each machine, one a device.
        nodes: machines.
    """

    accelerator: str
    per_node: int
    nodes: int

    @property
    def world(self) -> int:
        """Processes that train together."""
        return self.per_node * self.nodes

    @classmethod
    def found(cls) -> "Devices":
        """Those of this job, or of this machine.

        Raises:
            CislensError: if more processes were started on a machine than it has GPUs.
        """
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        accelerator = "gpu" if gpus else "cpu"
        launched = _launched()
        if launched is None:
            return cls(accelerator, gpus or 1, 1)
        per_node, nodes = launched
        if gpus and per_node > gpus:
            raise CislensError(
                f"{per_node} processes were started on this machine, which has {gpus} GPUs; start "
                "one a GPU (torchrun --nproc_per_node, srun --ntasks-per-node)."
            )
        return cls(accelerator, per_node, nodes)


def _launched() -> tuple[int, int] | None:
    """Processes a machine and machines, as torchrun or srun started them; None without them."""
    if TorchElasticEnvironment.detect():
        _refuse_stale_addresses()
        per_node, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return per_node, world // per_node
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None


def _refuse_stale_addresses() -> None:
    """Refuse restarts by torchrun in which processes could wait for those that died.

    Since the store of addresses is shared with torchrun (PyTorch 2.4 and later), one that is
    started again may read the address of a process of the attempt before.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise CislensError(
            f"torchrun was asked for {restarts} restarts, after which processes may wait forever "
            "for those that died; start it with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the "
            "environment, which gives each attempt addresses of its own, or without --max-restarts."
        )


def is_first() -> bool:
    """Whether this is the first process of its job, the one that answers and holds the folder."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The run folder held against other jobs; the first process of a job holds it for all.

    Raises:
        CislensError: if another job trains into it.
    """
    if not is_first():
        yield
        return
    with claimed(folder, "training into"):
        clear_partial(folder / "checkpoints")
        yield


def require_even(training: Training, world: int) -> None:
    """Refuse a batch that its shares cannot divide.

    Raises:
        CislensError: that names the numbers.
    """
    size, parts = training.batch_size, training.accumulate
    if size < world:
        raise CislensError(
            f"batch_size {size} is less than the {world} devices that share a batch; raise it."
        )
    if parts > 1 and size % (world * parts):
        raise CislensError(
            f"training.accumulate: {parts} parts on {world} devices do not divide batch_size "
            f"{size}; give a multiple of {world * parts}."
        )


def requeued(training: Training) -> list[Any]:
    """Plugins for Lightning: under SLURM, its handler of the signal that announces the end.

    A step that is half accumulated cannot be saved, so that with `accumulate` the last validation
    is what a requeued job goes on from.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=training.accumulate == 1)]


class StopsAtOnce(Callback):
    """Under torchrun a process that is told to stop does so at once.

    Lightning would first tell the others, which are gone when one of them has died, and torchrun
    waits for half a minute before it kills; a run goes on from its last checkpoint either way.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if TorchElasticEnvironment.detect():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
