"""Self-distillation as a whole: who reads what, who learns, and what follows."""

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn
from views_by_hand import TINY, batch, model

from cislens.models.findna.plus import FindnaPlusConfig
from cislens.models.presets import encoder_config
from cislens.models.reading import read
from cislens.models.sequence import SequenceModel
from cislens.objectives.distillation import latent, prototypes, spread, teacher
from cislens.objectives.distillation.objective import DistillationObjective
from cislens.objectives.masked import MaskedObjective
from cislens.objectives.profile import one_hot
from cislens.objectives.watched import vector
from cislens.recipes.sequence_terms import DISTILLATION_TERMS, DistillationTerms, MaskedTerms

STEPS = 40


def objective(net: SequenceModel | None = None, **settings: Any) -> DistillationObjective:
    terms = DistillationTerms(**{"prototypes": 16, "contrast": 0.2, **settings})
    torch.manual_seed(1)
    return DistillationObjective(net or model(), terms, STEPS, 4)


def only(**weights: float) -> dict[str, float]:
    return {**dict.fromkeys(DISTILLATION_TERMS, 0.0), **weights}


def trained(of: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in of.parameters() if weight.requires_grad]


def step(net: DistillationObjective, optimizer: torch.optim.Optimizer, seed: int) -> float:
    losses = net.loss(batch(seed=seed))
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    net.after_step()
    return losses.total.item()


def test_the_loss_is_the_weighted_sum_with_distilled_terms_growing() -> None:
    net = objective(ramp=0.5)
    losses = net.loss(batch())
    assert losses.terms.keys() == {*DISTILLATION_TERMS, "loss"}
    for done, share in ((0, 1 / 20), (9, 0.5), (30, 1.0)):
        net._done = done
        losses = net.loss(batch())
        expected = sum(
            weight * losses.terms[name].item() * (1.0 if name == "masked" else share)
            for name, weight in net.weights.items()
        )
        assert losses.total.item() == pytest.approx(expected, rel=1e-5)
        assert losses.terms["loss"] == losses.total.detach()
    net._done = 0
    net.eval()
    losses = net.loss(batch())
    expected = sum(weight * losses.terms[name].item() for name, weight in net.weights.items())
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", DISTILLATION_TERMS)
def test_a_term_of_weight_0_is_not_computed(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are the passes and heads that only the others need."""
    net = objective(**only(**{term: 1.0}))
    calls: list[str] = []

    def count(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            calls.append(f"{'teacher ' if owner is net.teacher.encoder else ''}{name}")
            return inner(*given, **named)

        monkeypatch.setattr(owner, name, counted)

    count(net.teacher.encoder, "hidden")
    count(net.model.encoder, "read")
    count(net.model.encoder, "forward")
    count(net.model.base_head, "forward")
    losses = net.loss(batch())
    assert losses.terms.keys() == {term, "loss"}
    assert calls.count("read") == 1
    assert calls.count("teacher hidden") == (term in ("latent", "pooled", "contrast"))
    # The local views, and the head of bases.
    assert calls.count("forward") == (term in ("pooled", "masked"))
    assert (net.predictor is not None) == (term == "latent")
    assert bool(list(net.head.parameters())) == (term == "pooled")


def test_masked_alone_is_the_masked_objective() -> None:
    net = objective(**only(masked=1.0))
    alone = MaskedObjective(model(), MaskedTerms())
    assert net.loss(batch()).total.item() == alone.loss(batch()).total.item()


def test_the_terms_are_those_of_what_student_and_teacher_read() -> None:
    """Written out view by view, with a student that has left its teacher."""
    net, of = objective(target="center"), batch()
    with torch.no_grad():
        for weight in net.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    whole, local = of.whole, of.local
    assert local is not None and net.predictor is not None and net.targets is not None
    losses = net.loss(of)
    student, taught, told, upper = [], [], [], []
    for view in range(2):
        x_B4L, hidden_BL = one_hot(whole.codes_VBL[view]), whole.hidden_VBL[view]
        reading = read(net.model.encoder, x_B4L, hidden_BL)
        student.append(vector(reading.embedding))
        told.append(net.predictor(reading.embedding))
        layers = list(net.teacher.encoder.hidden(one_hot(whole.target_VBL[view])))
        taught.append(vector(layers[-1]))
        # embed, L1, L2, out: the upper half of the two blocks is L2.
        upper.append(latent.over_bins(layers[2].values_BND, layers[2].valid_BN))
    locals_ = [vector(net.model.encoder(one_hot(local.codes_VBL[view]))) for view in range(2)]
    # The head sees the vectors of all views at once, and centers them together.
    logits = net.head(torch.cat([*student, *locals_])).unflatten(0, (4, -1))
    share = torch.stack([(net.teacher_head(pooled) / 0.04).softmax(1) for pooled in taught])
    parts = {
        "pooled": prototypes.pooled_term(logits, share, 0.1),
        "koleo": (spread.koleo_term(student[0]) + spread.koleo_term(student[1])) / 2,
        "contrast": sum(
            spread.contrast_term(student[at], taught[1 - at], torch.zeros(4, 4).bool(), 0.1)
            for at in range(2)
        )
        / 2,
        "latent": latent.latent_term(
            torch.cat(told),
            latent.pairings(whole, torch.cat(upper), torch.ones(8, 8).bool(), 96, 8),
        ),
    }
    for name, expected in parts.items():
        assert losses.terms[name].item() == pytest.approx(expected.item(), rel=1e-4), name


def test_the_teacher_has_no_gradient_and_never_leaves_evaluation() -> None:
    net = objective()
    net.train()
    assert net.model.training
    assert not any(module.training for module in net.teacher.modules())
    assert not any(module.training for module in net.teacher_head.modules())
    net.loss(batch()).total.backward()
    followed = [*net.teacher.parameters(), *net.teacher_head.parameters()]
    assert all(weight.grad is None and not weight.requires_grad for weight in followed)
    assert all(weight.grad is not None for weight in trained(net))


def test_what_is_kept_is_the_running_mean_of_encoder_and_head_of_bases() -> None:
    net = objective(half_life=(0.02, 0.2))
    expected = {name: value.detach().clone() for name, value in net.model.state_dict().items()}
    optimizer = torch.optim.SGD(trained(net), lr=0.1)
    for at in range(5):
        step(net, optimizer, at)
        life = teacher.half_life(at, STEPS, 4 * STEPS, (0.02, 0.2))
        kept = 2 ** (-4 / life)
        for name, value in net.model.state_dict().items():
            if value.is_floating_point():
                expected[name] = kept * expected[name] + (1 - kept) * value
    found = net.kept.state_dict()
    assert net.kept is net.teacher
    assert any(name.startswith("base_head") for name in found)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6), name
    assert int(net.step) == 5


def test_a_run_that_is_resumed_has_the_same_next_losses() -> None:
    """Bit by bit: teacher, center and step are in the state."""
    net = objective()
    optimizer = torch.optim.AdamW(trained(net), lr=1e-3)
    for at in range(3):
        step(net, optimizer, at)
    state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    expected = [step(net, optimizer, at) for at in (3, 4, 5)]
    other = objective(model(seed=9))
    assert other.done == 0
    again = torch.optim.AdamW(trained(other), lr=1e-3)
    other.load_state_dict(state[0])
    again.load_state_dict(state[1])
    assert other.done == 3
    assert [step(other, again, at) for at in (3, 4, 5)] == expected


def test_temperature_of_the_teacher_rises_over_a_tenth_of_the_steps() -> None:
    net = objective(teacher_temperature=(0.04, 0.07))
    for done, expected in ((0, 0.04), (2, 0.055), (4, 0.07), (30, 0.07)):
        net._done = done
        assert net.teacher_temperature == pytest.approx(expected)


def test_noise_is_on_called_bases_in_training_alone() -> None:
    net, of = objective(noise=0.2), batch()
    of.whole.codes_VBL[:, :, -9:] = 4
    torch.manual_seed(0)
    noisy = net._shown(of.whole.codes_VBL)
    plain = one_hot(of.whole.codes_VBL.flatten(0, 1))
    called = (of.whole.codes_VBL.flatten(0, 1) < 4)[:, None].expand_as(plain)
    assert (noisy - plain)[~called].eq(0).all()
    assert (noisy - plain)[called].std().item() == pytest.approx(0.2, rel=0.05)
    torch.manual_seed(0)
    assert torch.equal(net._shown(of.whole.codes_VBL), noisy)
    assert torch.equal(net.eval()._shown(of.whole.codes_VBL), plain)


def test_metrics_say_how_far_the_student_is_from_its_teacher() -> None:
    net = objective().eval()
    with torch.inference_mode():
        seen = net.loss(batch()).predictions
    assert seen["teacher"].shape == (8, 16)
    assert seen["teacher"].sum(1).sub(1).abs().max() < 1e-5
    assert seen["agreement"].sub(1).abs().max() < 1e-5
    assert seen["distance"] == 0
    optimizer = torch.optim.SGD(trained(net), lr=0.1)
    net.train()
    assert not {"pooled", "agreement"} & set(net.loss(batch()).predictions)
    step(net, optimizer, 0)
    net.eval()
    metrics = net.metrics()
    with torch.inference_mode():
        metrics.update(net.loss(batch(8)).predictions, None)
    found = metrics.summary()
    assert found["agreement"] < 1
    assert found["distance"] > 0
    assert 0 < found["teacher/sharpness"] <= found["teacher/marginal"] <= 1


@pytest.mark.parametrize("keeps_teacher", [True, False])
def test_metrics_are_those_of_the_model_that_is_kept(keeps_teacher: bool) -> None:
    """The teacher alone; in a mixture the model, although losses are the student's either way."""
    net = objective().eval()
    net.keeps_teacher = keeps_teacher
    before = net.loss(batch())
    assert net.kept is (net.teacher if keeps_teacher else net.model)
    with torch.no_grad():
        for weight in net.teacher.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    after = net.loss(batch())
    for name in ("pooled", "masked/nats"):
        same = torch.equal(before.predictions[name], after.predictions[name])
        assert same is not keeps_teacher
    assert torch.equal(before.terms["masked"], after.terms["masked"])
    assert after.predictions["agreement"].max() < 1


def test_validation_changes_nothing() -> None:
    net = objective().eval()
    before = copy.deepcopy(net.state_dict())
    with torch.inference_mode():
        net.loss(batch())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_prototypes_beyond_what_a_batch_can_use_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """4 windows with 2 global views: 32 prototypes."""
    with caplog.at_level(logging.WARNING):
        objective(prototypes=32)
        assert not caplog.records
        objective(prototypes=33)
    assert "33 prototypes are more than batches of 4 windows" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        objective(**only(masked=1.0), prototypes=4096)
    assert not caplog.records


@pytest.mark.parametrize("target", ["center", "sinkhorn"])
@pytest.mark.parametrize("prototypes", [0, 16])
def test_a_window_alone_is_finite(target: str, prototypes: int) -> None:
    net = objective(target=target, prototypes=prototypes)
    losses = net.loss(batch(1))
    losses.total.backward()
    assert all(value.isfinite() for value in losses.terms.values())
    gradients = [weight.grad for weight in trained(net) if weight.grad is not None]
    assert all(slope.isfinite().all() for slope in gradients)


def test_three_global_views_and_no_local_ones() -> None:
    losses = objective().loss(batch(views=3, local=0))
    assert all(value.isfinite() for value in losses.terms.values())


@pytest.mark.parametrize(
    "preset",
    ["findna-plus-tiny", "findna-paper-tiny", "genebert-plus-tiny", "space-plus-tiny"],
)
def test_any_encoder_is_distilled(preset: str) -> None:
    """Of 1, 8 and 128 bp, with a vector of its own for the sequence or with the mean of bins."""
    net = objective(model(encoder_config(preset, ["yeast"])))
    losses = net.loss(batch())
    losses.total.backward()
    assert losses.terms.keys() == {*DISTILLATION_TERMS, "loss"}
    assert all(value.isfinite() for value in losses.terms.values())
    reached = [weight.grad for weight in net.model.encoder.parameters() if weight.grad is not None]
    assert any(slope.abs().sum() > 0 for slope in reached)
    net.after_step()


def test_terms_are_fp32_under_autocast() -> None:
    """In bfloat16 all terms are within 5 % of those in fp32, and none is rounded."""
    net, of = objective(target="center"), batch()
    expected = net.loss(of).terms
    net.load_state_dict(objective().state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        losses = net.loss(of)
    losses.total.backward()
    for name, term in losses.terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(expected[name].item(), rel=0.05, abs=0.02), name


def test_layers_that_are_told() -> None:
    deep = model(FindnaPlusConfig(dim=16, depth=5, stem_dim=8)).encoder
    assert latent.target_layers(deep) == ("L3", "L4", "L5")
    assert latent.target_layers(model(TINY.model_copy(update={"depth": 0})).encoder) == ("out",)
    assert latent.target_width(deep) == 16
    assert deep.training
