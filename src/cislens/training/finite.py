"""Stops a run at the first loss that is not finite, and says where it was.

Dimensions: S step, R device.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cislens.errors import CislensError
from cislens.nn.gathering import gather_rows
from cislens.training.module import ObjectiveModule
from cislens.training.stream import EpochLoader

if TYPE_CHECKING:
    from cislens.sequence.batch import SequenceBatch
    from cislens.sequence.store import SequenceStore

# Losses on a GPU are looked at together, since each look waits for the device.
EVERY = 16
_NAMED = 8


class FiniteGuard(Callback):
    """Ends a run with a CislensError at a loss that is not finite, before its gradient is taken.

    On a GPU that is up to `EVERY` steps later, but always before the next validation; what is
    kept is the checkpoint of the last validation either way. Devices that train together look
    together, so that all of them end, and name the windows of the one whose loss it was.

    Args:
        folder: of the run.
        loader: of the training part; its batches are pure functions of (epoch, step).
        places: where the windows of one of its batches lie, in words.
    """

    def __init__(
        self,
        folder: Path,
        loader: EpochLoader,
        places: Callable[[Any], Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        self.loader = loader
        self.places = places
        self._losses: list[Tensor] = []
        self._steps: list[int] = []
        self._saved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = trainer.global_step

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        self._steps.append(trainer.global_step)
        self._losses.append(loss.detach())
        if not loss.is_cuda or len(self._losses) == EVERY:
            self._look(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = trainer.global_step

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        losses, self._losses = self._losses, []
        steps, self._steps = self._steps, []
        if losses:
            values_SR, _ = gather_rows(torch.stack(losses).float()[None])
            values_SR = values_SR.T.cpu()
            if not values_SR.isfinite().all():
                bad, rank = values_SR.isfinite().logical_not().nonzero()[0].tolist()
                value = float(values_SR[bad, rank])
                raise self._found(trainer, pl_module, steps[bad], rank, value)

    def _found(
        self, trainer: Trainer, pl_module: LightningModule, step: int, rank: int, value: float
    ) -> CislensError:
        assert isinstance(pl_module, ObjectiveModule)
        epoch, number = divmod(step, len(self.loader))
        last = self.folder / "checkpoints" / "last.ckpt"
        kept = "there is no checkpoint before it"
        if last.exists():
            kept = f"the last good checkpoint, of step {self._saved}, is {last}"
        sums = pl_module.train_terms.sums
        terms = [name for name, total in sums.items() if not total.isfinite().all()]
        which = f" ({', '.join(terms)})" if terms else ""
        where = ""
        if self.places is not None:
            places = self.places(self.loader.batch(epoch, number))
            mine = places[rank :: trainer.world_size]
            more = f" and {len(mine) - _NAMED} more" if len(mine) > _NAMED else ""
            where = f" Its windows: {', '.join(mine[:_NAMED])}{more}." if mine else ""
        return CislensError(
            f"{self.folder}: training diverged. At step {step + 1} (batch {number} of epoch "
            f"{epoch}), with learning_rate {pl_module.recipe.learning_rate:g}, the loss{which} is "
            f"{value}; {kept}. Lower training.learning_rate and train into another --out; if it "
            f"diverges at a low rate too, look at what this batch reads.{where}"
        )


def places_of(store: "SequenceStore", batch: "SequenceBatch") -> list[str]:
    """Where the windows of a batch lie: species and 1-based positions, as browsers take them."""
    found = []
    for index, chrom, start in zip(batch.species_B, batch.chrom_B, batch.start_B, strict=True):
        species = store.species[index]
        name = store.chroms(species)[chrom]
        found.append(f"{species} {name}:{start + 1}-{start + store.window}")
    return found
