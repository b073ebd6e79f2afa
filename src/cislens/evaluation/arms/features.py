"""The features of a task's examples: of one sequence, of its parts, or of two alleles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from cislens.errors import CislensError
from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import SPLITS, Fold, Task
from cislens.genome.codes import Codes
from cislens.representations.contract import Features, Kind, Representation, Stored, Viewed

LAST = "last"  # the view of what has only one
ByView = dict[str, Features]


class Source(Protocol):
    """Where the features of an arm come from.

    Attributes:
        views: layers and poolings there are, the default one last.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def parameters(self) -> int: ...

    @property
    def digest(self) -> str: ...

    @property
    def views(self) -> tuple[str, ...]: ...

    def features(self, fold: Fold, views: Sequence[str]) -> ByView:
        """Features (n, D) of a fold's examples in each view."""
        ...


@dataclass(frozen=True)
class Embedded:
    """The features of a representation for one task, as stranded as its card says.

    A sequence in parts gives the features of its parts side by side; a variant what the alternate
    allele's features are beyond the reference's (the absolute difference where scores are
    unsigned).
    """

    representation: Representation
    card: TaskCard

    @property
    def name(self) -> str:
        return self.representation.name

    @property
    def kind(self) -> Kind:
        return self.representation.kind

    @property
    def parameters(self) -> int:
        return self.representation.parameters

    @property
    def digest(self) -> str:
        return self.representation.digest

    @property
    def views(self) -> tuple[str, ...]:
        given = self.representation
        return given.views if isinstance(given, Viewed) else (LAST,)

    def features(self, fold: Fold, views: Sequence[str]) -> ByView:
        """Features (n, D) of a fold's examples in each view."""

        def embed(sequences: Sequence[Codes]) -> ByView:
            given, card = self.representation, self.card
            if isinstance(given, Viewed):
                return given.embed_views(sequences, card.species, card.stranded, views)
            return {LAST: given.embed(sequences, card.species, card.stranded)}

        if self.card.kind == "variant":
            if isinstance(self.representation, Stored):
                self.representation.require_precise()
            assert fold.alternates is not None and self.card.score_sign is not None
            reference, alternate = embed(fold.sequences), embed(fold.alternates)
            return {
                view: difference_features(reference[view], alternate[view], self.card.score_sign)
                for view in reference
            }
        return in_parts(self.card, fold, embed)


def require_stored(given: Stored, task: Task) -> None:
    """Refuse stored features that cannot serve a task.

    Raises:
        CislensError: if a sequence of the task was not embedded, the numbers are too coarse for
            variants, or the task asks for sequences that nobody can embed beforehand.
    """
    card = task.card
    if card.kind == "attribution":
        raise CislensError(
            f"{given.name} is stored and task {card.name} asks for features of mutated sequences; "
            "name the model itself, or leave this task out."
        )
    if card.kind == "variant":
        given.require_precise()

    def look(sequences: Sequence[Codes]) -> ByView:
        given.require(sequences, card.species, card.stranded)
        return {}

    for split in SPLITS:
        fold = task.fold(split)
        try:
            if fold.alternates is not None:
                look(fold.sequences)
                look(fold.alternates)
            else:
                in_parts(card, fold, look)
        except CislensError as error:
            raise CislensError(f"{given.name} on {card.name}, {split}: {error}") from error


def in_parts(card: TaskCard, fold: Fold, embed: Callable[[Sequence[Codes]], ByView]) -> ByView:
    """Features of each part of the sequences, side by side along the last axis."""
    if not card.parts:
        return embed(fold.sequences)
    ends = np.cumsum([0, *card.parts])
    embedded = [
        embed([codes[begin:end] for codes in fold.sequences]) for begin, end in pairwise(ends)
    ]
    return {
        view: np.concatenate([part[view] for part in embedded], axis=-1) for view in embedded[0]
    }


def difference_features(reference: Features, alternate: Features, sign: str) -> Features:
    """Alternate minus reference, without its sign where scores have none."""
    difference = alternate - reference
    return difference if sign == "signed" else np.abs(difference)
