"""Arms of variant tasks that need no training."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from cislens.effects.alleles import substitutions
from cislens.evaluation.arms.contract import Fitted, Ground
from cislens.evaluation.arms.probe import count_bases
from cislens.evaluation.results import Cost
from cislens.evaluation.track_scores import track_scores
from cislens.evaluation.zero_shot import choose_score
from cislens.representations.cache import saved
from cislens.representations.contract import (
    CausalLikelihood,
    Kind,
    MaskedLikelihood,
    Representation,
)


@dataclass
class ZeroShotArm:
    """A representation's own score of a variant; which one is chosen on validation."""

    representation: Representation
    ground: Ground
    twin_of: str | None = None

    @property
    def name(self) -> str:
        return f"{self.representation.name}-zero-shot"

    @property
    def kind(self) -> Kind:
        return self.representation.kind

    @property
    def digest(self) -> str:
        return self.representation.digest

    def fit(self, seed: int, first: Mapping[str, object] | None) -> Fitted:
        began = time.perf_counter()
        ground = self.ground
        valid = ground.valid.take(ground.valid_subset(seed))
        candidates = None if first is None else [str(first["score"])]
        with saved() as before:
            chosen = choose_score(self.representation, ground.card, valid, ground.test, candidates)
        wall = time.perf_counter() - began + before.seconds
        config: dict[str, object] = {
            "head": "zero-shot", "score": chosen.score, "orientation": chosen.orientation,
        }  # fmt: skip
        parameters = self.representation.parameters
        cost = Cost("embed", wall, parameters, count_bases(valid), trials=len(chosen.tried))
        return Fitted(config, chosen.valid_metric, parameters, chosen.scores, [cost])


def can_score(representation: Representation, ground: Ground) -> bool:
    """Whether a representation has a score of the task's sign for its variants.

    Distances have no sign, masked likelihoods know substitutions only, and tracks are those of the
    species that the model was trained on.
    """
    if ground.card.score_sign == "unsigned" or isinstance(representation, CausalLikelihood):
        return True
    if track_scores(representation, ground.card.species):
        return True
    return isinstance(representation, MaskedLikelihood) and all(
        substitutions(fold.sequences, fold.alternates or ()).all()
        for fold in (ground.valid, ground.test)
    )
