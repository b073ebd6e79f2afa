"""The multi-modal objective: what it adds up, what it computes, what cannot leak into it."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loci import batch, model, with_context
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.objectives.multimodal.batch import TorchRegionBatch
from cislens.objectives.multimodal.objective import (
    TERMS,
    MultimodalObjective,
    term_gradients,
)
from cislens.recipes.multimodal import MultimodalTerms

WEIGHTS = dict(zip(TERMS, (1.0, 0.5, 0.25, 0.5, 2.0, 0.75), strict=True))
NONE = dict.fromkeys(TERMS, 0.0)


def objective(terms: Any = None, **changes: Any) -> MultimodalObjective:
    return MultimodalObjective(model(**changes), MultimodalTerms(**(terms or WEIGHTS)))


def only(**terms: Any) -> dict[str, Any]:
    return {**NONE, **terms}


def term(net: MultimodalObjective, name: str, of: TorchRegionBatch) -> Tensor:
    return net.loss(of).terms[name]


def test_total_is_the_weighted_sum_of_the_named_terms() -> None:
    losses = objective().loss(batch())
    assert set(losses.terms) == {*TERMS, "loss"}
    expected = sum(WEIGHTS[name] * losses.terms[name] for name in TERMS)
    torch.testing.assert_close(losses.total, expected)
    assert torch.equal(losses.terms["loss"], losses.total)
    assert losses.total.requires_grad
    detached = [*losses.terms.values(), *losses.predictions.values()]
    assert not any(value.requires_grad for value in detached)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_does_not_depend_on_what_else_is_asked(name: str) -> None:
    """But for matching, whose hardest contexts are those that contrast finds most alike."""
    terms = only(**{name: 1.0}, negatives="random")
    alone = objective(terms).loss(batch())
    assert set(alone.terms) == {name, "loss"}
    together = objective({**WEIGHTS, "negatives": "random"}).loss(batch())
    torch.testing.assert_close(alone.terms[name], together.terms[name])


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        (("masked",), (1, 0)),
        (("masked", "next"), (1, 0)),
        (("motifs",), (1, 0)),
        (("regions",), (0, 1)),
        (("contrast",), (1, 1)),
        (("match",), (1, 2)),
        (("match", "contrast", "motifs"), (1, 2)),
        (TERMS, (2, 3)),
    ],
)
def test_weight_0_costs_nothing(asked: tuple[str, ...], passes: tuple[int, int]) -> None:
    """Passes of the sequence encoder, which share a reading, and of that of regions."""
    net = objective(only(**dict.fromkeys(asked, 1.0)))
    calls: Counter[str] = Counter()
    read = net.model.encoder.read

    def counted(*args: Any, **options: Any) -> Any:
        calls["encoder"] += 1
        return read(*args, **options)

    net.model.encoder.read = counted  # type: ignore[method-assign]
    net.model.regions.register_forward_hook(lambda *_: calls.update(["regions"]))
    net.loss(batch())
    assert (calls["encoder"], calls["regions"]) == passes


def test_gradients_reach_what_a_term_asks_and_nothing_else() -> None:
    reached = {}
    for name in TERMS:
        net = objective(only(**{name: 1.0}))
        net.loss(batch()).total.backward()
        reached[name] = {
            parameter.partition(".")[0]
            for parameter, weight in net.model.named_parameters()
            if weight.grad is not None and weight.grad.ne(0).any()
        }
    assert reached == {
        "masked": {"encoder", "base_head"},
        "next": {"encoder", "next_head"},
        "match": {"encoder", "regions", "match_head"},
        "contrast": {"encoder", "regions", "projection"},
        "regions": {"regions", "region_head"},
        "motifs": {"encoder", "motif_head"},
    }


@pytest.mark.parametrize("kind", ["tokens", "mean"])
def test_hidden_values_reach_no_prediction(kind: str) -> None:
    """Bases, motif values and accessibility that are asked for may be anything."""
    shape = {"kind": kind, "dim": 32}
    shape |= {"depth": 1, "heads": 2} if kind == "tokens" else {}
    net, of = objective(only(masked=1.0, regions=1.0), regions=shape).eval(), batch()
    seen = net.loss(of).predictions
    hidden, access_hidden = of.context.hidden_BR, of.context.access_hidden_BR
    other = with_context(
        of,
        motif_BRT=of.context.motif_BRT.masked_fill(hidden[:, :, None], 5.0),
        access_BR=of.context.access_BR.masked_fill(access_hidden, -5.0),
    )
    turned = (of.codes_BL + 1).where(of.hidden_BL, of.codes_BL)  # N where it was T
    other = replace(other, codes_BL=turned)
    assert not torch.equal(other.codes_BL, of.codes_BL)
    again = net.loss(other).predictions
    for name in ("masked/logits", "regions/predicted", "regions/access_predicted"):
        assert torch.equal(seen[name], again[name]), name


def test_matching_sees_neither_masks_nor_the_openness_of_the_center() -> None:
    """A context with hidden regions would else be told from one without."""
    net, of = objective(only(match=1.0, contrast=1.0)).eval(), batch()
    nothing = torch.zeros_like(of.context.pad_BR)
    plain = with_context(of, hidden_BR=nothing, access_hidden_BR=nothing)
    center = torch.nn.functional.one_hot(of.context.center_B, 6).bool()
    opened = with_context(of, access_BR=of.context.access_BR.masked_fill(center, 9.0))
    replaced = replace(of, codes_BL=3 - of.target_BL.clamp_max(3), hidden_BL=~of.hidden_BL)
    for name in ("match", "contrast"):
        for case in (plain, opened, replaced):
            assert torch.equal(term(net, name, case), term(net, name, of)), name
        beside = with_context(of, access_BR=of.context.access_BR.masked_fill(~center, 9.0))
        assert not torch.equal(term(net, name, beside), term(net, name, of))


def test_a_third_of_matched_negatives_come_from_the_batch() -> None:
    """Rows 0 and 3 of six: what they were given is not looked at."""
    of = batch()
    assert of.other is not None
    spoiled = of.other.motif_BRT.clone()
    spoiled[[0, 3]] = 7.0
    other = replace(of, other=replace(of.other, motif_BRT=spoiled))
    matched = objective(only(match=1.0, contrast=1.0)).eval()
    assert torch.equal(term(matched, "match", of), term(matched, "match", other))
    nobody = torch.zeros_like(of.apart_BB)
    kept = replace(of, apart_BB=nobody), replace(other, apart_BB=nobody)
    assert not torch.equal(term(matched, "match", kept[0]), term(matched, "match", kept[1]))
    for terms in ({"contrast": 0.0}, {"contrast": 1.0, "negatives": "random"}):
        net = objective(only(match=1.0, **terms)).eval()
        assert not torch.equal(term(net, "match", of), term(net, "match", other))


def test_a_batch_without_what_is_asked_is_refused() -> None:
    net = objective()
    with pytest.raises(CislensError, match=re.escape("objective.next")):
        net.loss(replace(batch(), next_B=None))
    with pytest.raises(CislensError, match=re.escape("objective.match")):
        net.loss(replace(batch(), other=None))


def test_all_parameters_are_in_the_graph_of_several_devices(tmp_path: Path) -> None:
    """Heads that nobody asks get a gradient of zero there, and none on one device."""
    net, of = objective(only(masked=1.0)), batch()
    net.loss(of).total.backward()
    assert any(weight.grad is None for weight in net.parameters())
    expected = {name: weight.grad for name, weight in net.named_parameters()}
    net.zero_grad()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    try:
        net.loss(of).total.backward()
    finally:
        torch.distributed.destroy_process_group()
    for name, weight in net.named_parameters():
        found, alone = weight.grad, expected[name]
        assert found is not None, name
        assert torch.equal(found, torch.zeros_like(found) if alone is None else alone), name


def test_one_locus_is_finite() -> None:
    losses = objective().loss(batch(1))
    assert all(value.isfinite() for value in losses.terms.values())


def test_contexts_of_padding_are_finite() -> None:
    of = batch()
    everywhere = torch.ones_like(of.context.pad_BR)
    losses = objective().loss(with_context(of, pad_BR=everywhere))
    losses.total.backward()
    assert losses.total.isfinite()
    assert losses.terms["regions"].item() == 0


def test_terms_are_fp32_under_autocast_and_close() -> None:
    """bf16 moves each by less than 3 %."""
    net, of = objective({**WEIGHTS, "negatives": "random"}).eval(), batch()
    expected = net.loss(of).terms
    with torch.autocast("cpu", torch.bfloat16):
        found = net.loss(of)
    assert found.total.dtype == torch.float32
    for name, value in expected.items():
        assert found.terms[name].dtype == torch.float32
        torch.testing.assert_close(found.terms[name], value, rtol=0.03, atol=0.01, msg=name)


def test_metrics_of_a_batch() -> None:
    """All names are there, and an untrained model finds next to nothing."""
    net = objective().eval()
    metrics = net.metrics()
    for seed in range(4):
        losses = net.loss(batch(seed=seed))
        metrics.update(losses.predictions, None)
    values = metrics.summary()
    assert set(values) == {
        "masked/accuracy", "next/accuracy",
        "match/accuracy", "match/auroc", "match/gc_auroc", "match/gc_accuracy",
        "contrast/recall_at_1", "contrast/chance",
        "regions/r2", "regions/access_r2", "regions/neighbor_r2", "regions/access_neighbor_r2",
        "motifs/r2",
    }  # fmt: skip
    assert values["contrast/chance"] == pytest.approx(1 / 6)
    assert values["match/gc_auroc"] == 0.5  # all of one GC content
    assert values["masked/accuracy"] < 0.5
    assert values["regions/r2"] < 0.1 and values["motifs/r2"] < 0.1
    assert objective(only(regions=1.0)).metrics().summary() == {}


def norm(weights: list[nn.Parameter]) -> float:
    parts = [weight.grad.norm() for weight in weights if weight.grad is not None]
    return float(torch.stack(parts).norm())


def test_gradient_norms_are_those_of_each_term_alone() -> None:
    net, of = objective().eval(), batch()
    norms = term_gradients(net, of)
    assert set(norms) == {
        "encoder/masked", "encoder/next", "encoder/match", "encoder/contrast", "encoder/motifs",
        "regions/match", "regions/contrast", "regions/regions",
    }  # fmt: skip
    assert all(weight.grad is None for weight in net.parameters())
    for name in ("masked", "next", "contrast", "motifs"):
        alone = objective(only(**{name: WEIGHTS[name]})).eval()
        alone.loss(of).total.backward()
        expected = norm(list(alone.model.encoder.parameters()))
        assert norms[f"encoder/{name}"] == pytest.approx(expected, rel=1e-4)
    alone = objective(only(regions=WEIGHTS["regions"])).eval()
    alone.loss(of).total.backward()
    expected = norm(list(alone.model.regions.parameters()))
    assert norms["regions/regions"] == pytest.approx(expected, rel=1e-4)


def test_gradient_norms_of_a_frozen_encoder() -> None:
    net = objective()
    net.model.encoder.requires_grad_(False)
    assert set(term_gradients(net, batch())) == {
        "regions/match", "regions/contrast", "regions/regions",
    }  # fmt: skip
    net.model.regions.requires_grad_(False)
    assert term_gradients(net, batch()) == {}


def test_gradient_norms_within_validation() -> None:
    """Where no graph is kept, and the batch was made without one."""
    net = objective().eval()
    expected = term_gradients(net, batch())
    with torch.inference_mode():
        found = term_gradients(net, batch())
    assert found == pytest.approx(expected, rel=1e-5)
