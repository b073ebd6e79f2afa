"""How strongly each term of an objective pulls at the shared trunk."""

import logging
import statistics
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cislens.objectives.multimodal.objective import MultimodalObjective, term_gradients
from cislens.training.sharding import is_shared

logger = logging.getLogger("cislens")

# A term is said to dominate beyond this multiple of the median for so many steps.
FACTOR, PATIENCE = 5.0, 500
_TRUNK = "encoder/"


class GradientWatch(Callback):
    """Measures the terms' gradients on the last batch before each validation.

    Args:
        every: steps between validations.
    """

    def __init__(self, objective: MultimodalObjective, every: int) -> None:
        self.objective = objective
        self.every = every
        self.norms: dict[str, float] = {}
        self.since: dict[str, int] = {}
        self._measured = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps
        if is_shared(pl_module):  # no process can ask for gradients of weights it has a share of
            return
        if not due or step == self._measured:  # parts of a step all end with the same number
            return
        self._measured = step
        with trainer.precision_plugin.forward_context():
            norms = term_gradients(self.objective, batch)
        # The terms are those of the whole batch; this makes the last bits agree.
        self.norms = trainer.strategy.broadcast(norms)
        self._warn(step)

    def metrics(self) -> dict[str, float]:
        """`gradient/<trunk>/<term>`: norm of the weighted term's gradient on that trunk."""
        return {f"gradient/{term}": norm for term, norm in self.norms.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"norms": self.norms, "since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.norms, self.since = dict(state_dict["norms"]), dict(state_dict["since"])

    def _warn(self, step: int) -> None:
        norms = {name: norm for name, norm in self.norms.items() if name.startswith(_TRUNK)}
        if len(norms) < 3:  # of two, none is beside the median
            return
        median = statistics.median(norms.values())
        for term, norm in norms.items():
            if norm <= FACTOR * median:
                self.since.pop(term, None)
            elif step - self.since.setdefault(term, step) >= PATIENCE:
                logger.warning(
                    "training: for %d steps the gradient of %s on the encoder has been more than "
                    "%g times the median of the terms; lower its weight",
                    step - self.since[term], term.removeprefix(_TRUNK), FACTOR,
                )  # fmt: skip
