"""The running mean of the weights, which is what validation sees and what a run keeps."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging
from torch import Tensor

from cislens.training.sharding import Sharded, own, restore, scatter, state_of


class RunningMean(WeightAveraging):
    """Exponential moving average of parameters and statistics, `m + (1 - decay) (x - m)`.

    Written so, a value that does not change keeps its bits, which `decay m + (1 - decay) x` does
    not grant: what is frozen comes out as it went in. Counters are taken as they are.
    """

    def __init__(self, decay: float) -> None:
        def average(means: list[Tensor], values: list[Tensor], _: Any) -> None:
            means, values = own(means), own(values)
            with torch.no_grad():
                if means[0].is_floating_point():
                    torch._foreach_lerp_(means, values, 1 - decay)
                else:
                    torch._foreach_copy_(means, values)

        super().__init__(multi_avg_fn=average)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is not None and isinstance(trainer.strategy, Sharded):
            mean = self._average_model.module.to(pl_module.device)
            trainer.strategy.share_out(mean)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert self._average_model is not None
        checkpoint["current_model_state"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = state_of(self._average_model.module)
        checkpoint["averaging_state"] = {"n_averaged": self._average_model.n_averaged}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert self._average_model is not None
        restore(self._average_model.module, checkpoint["state_dict"])
        self._average_model.n_averaged.copy_(checkpoint["averaging_state"]["n_averaged"])
        restore(pl_module, checkpoint["current_model_state"])

    def _swap_models(self, pl_module: LightningModule) -> None:
        scatter(pl_module)
        super()._swap_models(pl_module)
