"""Training in which every process holds a share of the weights, their gradients and moments.

PyTorch's `fully_shard` (FSDP2) does it: each block of an encoder is whole only while it computes.
What it leaves open is written here: a strategy for Lightning that runs on CPUs too, checkpoints
that are the same files as without it, and a way to have the model whole for a validation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_GIVEN = StateDictOptions(full_state_dict=True)


class Sharded(DDPStrategy):
    """`fully_shard` in place of data-parallel copies; the loss and its gradient are the same."""

    strategy_name = "fsdp"

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True

    def configure_ddp(self) -> None:
        module = self.lightning_module
        assert module is not None
        self.share_out(module)
        register_fsdp_forward_method(module, "training_step")
        # Else the first block that computes outside of a training step takes itself for the root.
        fully_shard.state(module)._lazy_init()  # type: ignore[attr-defined]

    def share_out(self, module: nn.Module) -> None:
        """Share out a module's weights: each block of an encoder by itself, the rest together."""
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for weight in module.parameters():
            if not weight.ndim:  # none is taken; `load_state_dict` makes it a scalar again
                weight.data = weight.data[None]
        for name, part in module.named_modules():
            if isinstance(part, nn.ModuleList) and name.endswith("encoder.blocks"):
                for block in part:
                    fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return get_model_state_dict(self.lightning_module, options=_FULL)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        restore(self.lightning_module, checkpoint["state_dict"])

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        assert self.lightning_module is not None
        inner = getattr(optimizer, "_optimizer", optimizer)
        return get_optimizer_state_dict(self.lightning_module, inner, options=_FULL)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        assert self.lightning_module is not None
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            set_optimizer_state_dict(
                self.lightning_module, optimizer, optim_state_dict=state, options=_GIVEN
            )

    def teardown(self) -> None:
        """Leave the shares where they are: after an error some weights are whole and stay so."""
        assert self.accelerator is not None
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


def own(values: Sequence[Tensor]) -> list[Tensor]:
    """What this process holds of each value: its share, or all of it."""
    return [value.to_local() if isinstance(value, DTensor) else value for value in values]


def restore(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load whole weights and statistics into a module that may be shared out."""
    if is_shared(module):
        set_model_state_dict(module, dict(state), options=_GIVEN)
    else:
        module.load_state_dict(state)


def state_of(module: nn.Module) -> dict[str, Any]:
    """Whole weights and statistics of a module; of one that is shared out, in process 0 alone."""
    if not is_shared(module):
        return module.state_dict()
    return get_model_state_dict(module, options=_FULL)


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """All weights whole in every process while the block runs, which does not train.

    Processes may then compute different numbers of batches. Nothing happens to a module that is
    not shared out.
    """
    gather(module)
    try:
        yield
    finally:
        scatter(module)


def gather(module: nn.Module) -> None:
    """Make the weights whole in every process, until `scatter`."""
    for part in _parts(module):
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()


def scatter(module: nn.Module) -> None:
    """Keep only this process's share of the weights again."""
    root: Any = module
    for part in _parts(module):
        part.reshard()
        part.set_reshard_after_forward(part is not root, recurse=False)


def is_shared(module: nn.Module) -> bool:
    """Whether processes hold shares of the module's weights."""
    return bool(_parts(module))


def _parts(module: nn.Module) -> list[FSDPModule]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]


class WholeValidation(Callback):
    """Validates with whole weights; stands after what exchanges them for their mean."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gather(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scatter(pl_module)
