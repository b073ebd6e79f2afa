"""Watches the experts while a model trains: what validation reports about every layer.

Dimensions: E expert, W step of the memory.
"""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cislens.models.profile import ProfileOutput
from cislens.nn.gathering import sum_over_devices
from cislens.objectives.profile import ProfileObjective
from cislens.training.experts import Use, add_uses, expert_layers

MEMORY = 1000
# An expert is dead when it gets less than this share of an even load.
DEAD = 0.1


@dataclass
class _Loads:
    """The load of one layer in each of the last `MEMORY` training steps, on its device."""

    load_WE: Tensor
    steps: int = 0

    def add(self, load_E: Tensor) -> None:
        self.load_WE[self.steps % MEMORY] = load_E
        self.steps += 1

    def mean(self) -> Tensor:
        return self.load_WE[: max(1, min(self.steps, MEMORY))].mean(dim=0)


class ExpertWatch(Callback):
    """Gathers how experts are used, on the device; only `metrics` reads it.

    What training steps routed is remembered for `MEMORY` steps and travels in the checkpoint;
    everything else is of the validation pass, with the weights that it judged.
    """

    def __init__(self, objective: ProfileObjective) -> None:
        self.objective = objective
        self.uses: dict[str, Use] = {}
        self.loads: dict[str, _Loads] = {}
        self._hook: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # All terms about experts see the model's whole output; so does the watch.
        self._hook = self.objective.experts.register_forward_pre_hook(self._see)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hook.remove()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.uses = {}

    def metrics(self) -> dict[str, float]:
        """`experts/<layer>/<name>` of the last validation; the same on every device.

        Per layer: `max_load` (largest share of the routed slots), `entropy` (of the router, over
        ln n), `species_information` and, in a decoder, `group_information` (nats), `max_logit`,
        and `dead_share` (experts with less than 0.1 / n of the slots of the last 1000 steps).
        """
        uses, loads = self._everywhere()
        found = {
            f"experts/{layer}/{name}": value
            for layer, use in uses.items()
            for name, value in use.metrics().items()
        }
        for layer, load_E in loads.items():
            dead = (load_E < DEAD / len(load_E)).double().mean()
            found[f"experts/{layer}/dead_share"] = float(dead)
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            layer: {"load_WE": loads.load_WE.cpu(), "steps": loads.steps}
            for layer, loads in self.loads.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loads = {layer: _Loads(**state) for layer, state in state_dict.items()}

    def _see(self, module: torch.nn.Module, args: tuple[ProfileOutput]) -> None:
        layers = expert_layers(args[0])
        if not module.training:
            add_uses(self.uses, layers, self.objective.model)
            return
        for name, routing in layers.items():
            slots_E = sum_over_devices(routing.slots)
            load_E = slots_E / slots_E.sum().clamp_min(1.0)
            loads = self.loads.get(name)
            if loads is None:
                loads = self.loads[name] = _Loads(load_E.new_zeros(MEMORY, len(load_E)))
            loads.load_WE = loads.load_WE.to(load_E.device)
            loads.add(load_E)

    def _everywhere(self) -> tuple[dict[str, Use], dict[str, Tensor]]:
        """Sums over all devices and the loads, which are those of all devices, on the CPU."""
        uses = {layer: use.cpu() for layer, use in self.uses.items()}
        loads = {layer: loads.mean().cpu() for layer, loads in self.loads.items()}
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return uses, loads
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, uses)
        uses = {}
        for theirs in parts:
            for layer, use in theirs.items():
                uses[layer] = uses[layer].plus(use) if layer in uses else use
        return uses, loads
