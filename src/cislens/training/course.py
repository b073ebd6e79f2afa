"""What training has to know of an objective: its data, its model, and what is kept at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from cislens.errors import CislensError
from cislens.objectives.contract import Objective
from cislens.recipes.schema import TrainRecipe
from cislens.training.stream import EpochLoader, Place


class Watch(Protocol):
    """Looks at the model while it trains, for validation to report."""

    def metrics(self) -> dict[str, float]:
        """What the last validation saw, by name; the same on every device."""


class Course(ABC):
    """A recipe's data, objective and bookkeeping; `course_of` picks the class.

    Attributes:
        recipe: that it follows.
        objective: with the model that is trained.
        loader: of the training part.
        selection: name of the validation metric that weights are chosen by; lower is better. None
            keeps the last ones.
        headline: further validation metrics that the log shows.
        finite: validation terms that must be finite beside it.
        origin: what the run depends on beside its recipe, by name.
        frozen: modules that stay in eval mode.
        compiled: modules that torch.compile may translate.
        watches: callbacks that add to what a validation reports.
        averaged: whether the running mean of the weights is what is judged and kept.
        windows, bases: that a training step reads.
    """

    recipe: TrainRecipe
    objective: Objective
    loader: EpochLoader
    selection: str | None
    headline: tuple[str, ...] = ()
    finite: tuple[str, ...] = ()
    origin: Mapping[str, str]
    frozen: tuple[nn.Module, ...] = ()
    compiled: tuple[nn.Module, ...] = ()
    watches: tuple[Any, ...] = ()
    averaged: bool = True
    windows: int
    bases: int

    @abstractmethod
    def stream(self, position: Callable[[], int], rank: int = 0, world: int = 1) -> Iterable[Any]:
        """Training batches from the current step to the end of its validation interval.

        Args:
            position: the number of steps done; asked at the start of each pass.
            rank, world: of `world` devices each gets every `world`-th row of a batch, in as many
                parts as `training.accumulate` says.
        """

    @abstractmethod
    def passes(self, rank: int = 0, world: int = 1) -> Iterable[Any]:
        """One pass over the validation part; of `world` devices each takes whole batches of it."""

    def blocks(self) -> Iterable[tuple[Place, Any]]:
        """The validation part with every batch in one block of windows, if blocks are known."""
        return ()

    @abstractmethod
    def save(self, folder: Path, model: nn.Module, manifest: dict[str, Any]) -> None:
        """Write what belongs to the trained model into the run folder, its model folder at last."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Entries of the manifest: `store`, and `ancestor` where there is one."""

    @abstractmethod
    def preview(self) -> dict[str, Any]:
        """What a dry run shows of the data: their size and the first bases of the first step."""

    def guards(self, folder: Path) -> list[Any]:
        """Callbacks that may stop the run of a folder after a validation, before it is saved."""
        return []

    def places(self, batch: Any) -> Sequence[str]:
        """Where the windows of one of the loader's batches lie, in words, if it is known."""
        return ()

    def say(self) -> None:
        """Tell the log what of the recipe has no effect."""
        return


def recompute_activations(encoder: nn.Module) -> None:
    """Let the encoder compute its activations again for the gradient.

    Raises:
        CislensError: if it cannot.
    """
    if not hasattr(encoder, "checkpointing"):
        raise CislensError(
            f"training.checkpointing: the encoder {type(encoder).__name__} cannot recompute its "
            "activations; leave the key out."
        )
    setattr(encoder, "checkpointing", True)  # noqa: B010 - not of every encoder
