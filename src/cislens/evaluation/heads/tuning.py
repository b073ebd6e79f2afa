"""One tuning budget for all arms: the same trials, in the same order, whatever is tuned.

The trials are points of one Sobol sequence. Each setting has a dimension of its own, so that an arm
with a further choice (which layer, which pooling) tries the same rates and sizes as the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from scipy.stats import qmc

from cislens.errors import CislensError
from cislens.randomness import generator

Trial = dict[str, object]
_NO_DECAY = 0.1  # share of the trials without weight decay
_LEAST_DECAY = 1e-5


class Judged(Protocol):
    """What a trial comes to."""

    @property
    def valid_metric(self) -> float: ...


Fitted = TypeVar("Fitted", bound=Judged)


@dataclass(frozen=True)
class Space:
    """Ranges of the settings that are tuned for every arm.

    Attributes:
        learning_rate: lowest and highest, on a log scale.
        weight_decay: highest; a tenth of the trials has none.
        dropout: lowest and highest.
        batch_size: the sizes, of equal chance.
    """

    learning_rate: tuple[float, float] = (1e-5, 1e-2)
    weight_decay: float = 1e-1
    dropout: tuple[float, float] = (0.0, 0.5)
    batch_size: tuple[int, ...] = (64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Budget:
    """So many trials of a space; arms may be compared if theirs are equal."""

    space: Space = field(default_factory=Space)
    count: int = 24
    seed: int = 0


@dataclass(frozen=True)
class Selected(Generic[Fitted]):
    """The trial with the best validation metric, and what all of them came to."""

    trial: Trial
    fitted: Fitted
    tried: tuple[tuple[Trial, float], ...]


def trials(budget: Budget, choices: Mapping[str, Sequence[object]] | None = None) -> list[Trial]:
    """The trials of a budget: the same for every arm and machine.

    Args:
        choices: settings that only this arm has, such as its views, with their values; they are
            tried within the same number of trials.

    Raises:
        CislensError: for a budget without trials or a choice without values.
    """
    choices = choices or {}
    empty = [name for name, values in choices.items() if not values]
    if budget.count < 1 or empty:
        raise CislensError(
            f"there is nothing to try: {budget.count} trials"
            + (f", no values for {', '.join(empty)}." if empty else ".")
        )
    space = budget.space
    low, high = np.log(space.learning_rate)
    least, most = np.log((_LEAST_DECAY, space.weight_decay))
    found: list[Trial] = []
    for rate, decay, dropout, size, *further in _points(budget, 4 + len(choices)):
        share = (decay - _NO_DECAY) / (1 - _NO_DECAY)
        trial: Trial = {
            "learning_rate": float(np.exp(low + rate * (high - low))),
            "weight_decay": float(np.exp(least + share * (most - least))) if share >= 0 else 0.0,
            "dropout": float(space.dropout[0] + dropout * (space.dropout[1] - space.dropout[0])),
            "batch_size": space.batch_size[int(size * len(space.batch_size))],
        }
        for (name, values), point in zip(choices.items(), further, strict=True):
            trial[name] = values[int(point * len(values))]
        found.append(trial)
    return found


def select(tried: Sequence[Trial], fit: Callable[[Trial], Fitted]) -> Selected[Fitted]:
    """Fit every trial; of equal validation metrics the first wins, an undefined one never.

    The settings found with one seed are kept for all other seeds.

    Raises:
        CislensError: if the metric is undefined for every trial.
    """
    best: tuple[Trial, Fitted] | None = None
    values: list[tuple[Trial, float]] = []
    for trial in tried:
        fitted = fit(trial)
        value = fitted.valid_metric
        values.append((trial, value))
        if np.isfinite(value) and (best is None or value > best[1].valid_metric):
            best = trial, fitted
    if best is None:
        raise CislensError(
            f"the validation metric is undefined for all {len(values)} trials: the network "
            "diverged, or the validation labels do not vary."
        )
    return Selected(*best, tuple(values))


def same_budget(budgets: Mapping[str, Budget]) -> None:
    """Refuse to compare arms that were tuned in other ranges or more often than each other.

    Args:
        budgets: of each arm that was tuned, by its name.

    Raises:
        CislensError: that names the arms and what differs.
    """
    if not budgets:
        return
    first, wanted = next(iter(budgets.items()))
    for name, budget in budgets.items():
        if budget != wanted:
            differs = [
                f"{what} {getattr(mine, what)} against {getattr(theirs, what)}"
                for mine, theirs in ((budget, wanted), (budget.space, wanted.space))
                for what in mine.__dataclass_fields__
                if what != "space" and getattr(mine, what) != getattr(theirs, what)
            ]
            raise CislensError(
                f"{name} was not tuned as {first} was: {'; '.join(differs)}. Arms are compared "
                "after the same trials; tune them with one budget."
            )


def _points(budget: Budget, dimensions: int) -> np.ndarray:
    """(count, dimensions) in [0, 1): a Sobol sequence, each dimension turned by its own draw.

    Scrambling would change all dimensions with their number; a turn (Cranley and Patterson 1976)
    does not.
    """
    size = int(np.ceil(np.log2(budget.count)))
    points = qmc.Sobol(dimensions, scramble=False).random_base2(size)[: budget.count]
    turn = [generator(budget.seed, "trials", i).random() for i in range(dimensions)]
    return np.asarray((points + turn) % 1.0)
