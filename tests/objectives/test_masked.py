"""The masked language model of DNA: what it asks, and what validation sees."""

import pytest
import torch
from views_by_hand import batch, model

from cislens.objectives.bases import masked_term, repeat_weights
from cislens.objectives.masked import MaskedObjective
from cislens.objectives.profile import one_hot
from cislens.objectives.watched import composition
from cislens.recipes.sequence_terms import MaskedTerms


def test_the_loss_is_that_of_the_scored_bases_with_repeats_weighed() -> None:
    of, net = batch(), model().eval()
    objective = MaskedObjective(net, MaskedTerms(repeat_weight=0.2)).eval()
    whole = of.whole
    parts = []
    for view in range(2):
        reading = net.read(one_hot(whole.codes_VBL[view]), whole.hidden_VBL[view])
        parts.append(net.base_logits(reading))
    expected = masked_term(
        torch.cat(parts),
        whole.target_VBL.flatten(0, 1),
        whole.scored_VBL.flatten(0, 1),
        repeat_weights(whole.repeat_VBL.flatten(0, 1), 0.2),
    )
    losses = objective.loss(of)
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses.terms.keys() == {"masked", "loss"}


def test_metrics_are_computed_in_evaluation_only() -> None:
    objective, of = MaskedObjective(model()), batch(8)
    assert not objective.loss(of).predictions
    objective.eval()
    metrics = objective.metrics()
    with torch.inference_mode():
        metrics.update(objective.loss(of).predictions, None)
    found = metrics.summary()
    assert 1.2 < found["masked/nats"] < 1.6
    assert 0 < found["masked/accuracy"] < 0.6


def test_bases_that_are_scored_but_shown_are_left_out_of_the_metrics() -> None:
    objective, of = MaskedObjective(model()).eval(), batch()
    of.whole.scored_VBL[:] = True
    with torch.inference_mode():
        counted = objective.loss(of).predictions["masked/count"]
    assert int(counted) == int(of.whole.hidden_VBL.sum())


def test_vectors_of_windows_are_means_of_both_strands() -> None:
    objective, of = MaskedObjective(model()).eval(), batch()
    turned = batch()
    turned.parent_BP.copy_(3 - of.parent_BP.flip(1))
    with torch.inference_mode():
        one, other = (objective.loss(each).predictions["pooled"] for each in (of, turned))
    assert one.shape == (4, 16)
    assert torch.allclose(one, other, atol=1e-6)


def test_composition_counts_called_bases_alone() -> None:
    codes = torch.tensor([[1, 2, 0, 4], [4, 4, 4, 4], [1, 2, 1, 2]], dtype=torch.uint8)
    found = composition(codes)
    assert found["gc"].tolist() == pytest.approx([2 / 3, 0, 1])
    assert found["cpg"].tolist() == pytest.approx([1 / 2, 0, 2 / 3])
