"""Telling hidden bases, and nothing else: a masked language model of DNA."""

from torch import Tensor

from cislens.models.sequence import SequenceModel
from cislens.nn.gathering import share_of_loss
from cislens.objectives.bases import masked_term, repeat_weights
from cislens.objectives.collapse import SequenceMetrics
from cislens.objectives.contract import Losses, Objective
from cislens.objectives.profile import one_hot
from cislens.objectives.sequence_batch import TorchSequenceBatch, Views
from cislens.objectives.watched import both_strands, of_bases, of_windows
from cislens.recipes.sequence_terms import MaskedTerms


class MaskedObjective(Objective):
    """Cross-entropy of the scored bases of the global views, those of repeats weighing less.

    Terms: `masked`, and `loss`, the same. The metrics are computed in evaluation only.
    """

    model: SequenceModel

    def __init__(self, model: SequenceModel, terms: MaskedTerms | None = None) -> None:
        super().__init__()
        self.model = model
        self.settings = terms or MaskedTerms()

    def loss(self, batch: TorchSequenceBatch) -> Losses:
        whole = batch.whole
        reading = self.model.read(
            one_hot(whole.codes_VBL.flatten(0, 1)),
            whole.hidden_VBL.flatten(0, 1),
            batch.species_B.repeat(len(whole.codes_VBL)),
        )
        logits_RL4 = self.model.base_logits(reading)
        term = views_term(logits_RL4, whole, self.settings.repeat_weight)
        seen = {}
        if not self.training:
            pooled_2BD = both_strands(self.model.encoder, batch)
            seen = of_bases(logits_RL4, whole) | of_windows(pooled_2BD, batch)
        return Losses(
            total=share_of_loss(term, self.model, batch.windows()),
            terms={"masked": term.detach(), "loss": term.detach()},
            predictions={name: value.detach() for name, value in seen.items()},
        )

    def metrics(self) -> SequenceMetrics:
        return SequenceMetrics()


def views_term(logits_RL4: Tensor, views: Views, repeat_weight: float) -> Tensor:
    """`masked_term` of the bases of all views, which are the rows one view after another."""
    return masked_term(
        logits_RL4,
        views.target_VBL.flatten(0, 1),
        views.scored_VBL.flatten(0, 1),
        repeat_weights(views.repeat_VBL.flatten(0, 1), repeat_weight),
    )
