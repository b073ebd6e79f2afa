"""The features of a task's examples: of one sequence, of its parts, or of two alleles."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from cislens.evaluation.tasks.card import TaskCard
from cislens.evaluation.tasks.task import Fold
from cislens.genome.codes import Codes
from cislens.representations.contract import Features, Representation, Viewed

LAST = "last"  # the view of a representation that has only one
ByView = dict[str, Features]


def all_views(representation: Representation) -> tuple[str, ...]:
    """Names of the layers and poolings a representation has, the default one last."""
    return representation.views if isinstance(representation, Viewed) else (LAST,)


def fold_features(
    representation: Representation, card: TaskCard, fold: Fold, views: Sequence[str]
) -> ByView:
    """Features (n, D) of a fold's examples in each view, as stranded as the card says.

    A sequence in parts gives the features of its parts side by side; a variant what the alternate
    allele's features are beyond the reference's (the absolute difference where scores are
    unsigned).
    """

    def embed(sequences: Sequence[Codes]) -> ByView:
        if isinstance(representation, Viewed):
            return representation.embed_views(sequences, card.species, card.stranded, views)
        return {LAST: representation.embed(sequences, card.species, card.stranded)}

    if card.kind == "variant":
        assert fold.alternates is not None
        assert card.score_sign is not None
        reference, alternate = embed(fold.sequences), embed(fold.alternates)
        return {
            view: difference_features(reference[view], alternate[view], card.score_sign)
            for view in reference
        }
    return in_parts(card, fold, embed)


def in_parts(card: TaskCard, fold: Fold, embed: Callable[[Sequence[Codes]], ByView]) -> ByView:
    """Features of each part of the sequences, side by side along the last axis."""
    if not card.parts:
        return embed(fold.sequences)
    ends = np.cumsum([0, *card.parts])
    embedded = [
        embed([codes[begin:end] for codes in fold.sequences])
        for begin, end in pairwise(ends)
    ]
    return {
        view: np.concatenate([part[view] for part in embedded], axis=-1) for view in embedded[0]
    }


def difference_features(reference: Features, alternate: Features, sign: str) -> Features:
    """Alternate minus reference, without its sign where scores have none."""
    difference = alternate - reference
    return difference if sign == "signed" else np.abs(difference)
