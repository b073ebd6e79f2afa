"""The published decoder: its formula by loops, tracks apart from each other, fixed bins."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.decoders.contract import Decoded, HeadConfig
from cislens.models.decoders.paper import PAPER_GROUPS, PaperDecoder, PaperDecoderConfig
from cislens.nn.gate_losses import decoder_terms, squared_logits, task_mass

BINS, DIM, SPECIES_DIM = 16, 12, 6
# Not sorted by type, and without TF for mouse.
HUMAN = ("CAGE", "accessibility", "TF", "CAGE", "histone", "accessibility", "TF")
MOUSE = ("histone", "CAGE", "accessibility")


def head(species: str, groups: tuple[str, ...]) -> HeadConfig:
    tracks = tuple(f"{species}{i}" for i in range(len(groups)))
    return HeadConfig(species=species, tracks=tracks, groups=groups)


def decoder(**changes: Any) -> PaperDecoder:
    torch.manual_seed(0)
    config = PaperDecoderConfig(**{"bins": BINS, **changes})
    heads = (head("human", HUMAN), head("mouse", MOUSE))
    return PaperDecoder(config, heads, DIM, SPECIES_DIM).eval()


def inputs(tracks: int, batch: int = 2, bins: int = BINS) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, embedding and species state."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(batch, bins, tracks, generator=generator)
    y = torch.randn(batch, bins, DIM, generator=generator)
    return logits, y, torch.randn(batch, SPECIES_DIM, generator=generator)


def decode(model: PaperDecoder, which: int, logits: Tensor, y: Tensor, e: Tensor) -> Decoded:
    valid = torch.ones(y.shape[:2], dtype=torch.bool)
    decoded: Decoded = model(which, which, logits, y, e, valid)
    return decoded


def looped(
    model: PaperDecoder, groups: tuple[str, ...], logits: Tensor, y: Tensor, e: Tensor
) -> Tensor:
    """y of the published code, (B, N, T): one track and one expert after the other."""
    pool, refined = model.pool, torch.zeros_like(logits)
    for b in range(len(logits)):
        by_sequence = model.sequence_gate.weight @ y[b].mean(dim=0) + model.sequence_gate.bias
        by_species = model.species_gate.weight @ e[b] + model.species_gate.bias
        for t, group in enumerate(groups):
            q, o = PAPER_GROUPS.index(group), logits[b, :, t]
            pair = slice(2 * q, 2 * q + 2)
            mix = by_sequence[pair].softmax(dim=0) / 2 + by_species[pair].softmax(dim=0) / 2
            p = o + model.group_tokens[q].flatten()
            for j in (0, 1):
                router = model.routers[2 * q + j]
                own = torch.nn.functional.leaky_relu(router.weight @ p + router.bias, 0.01)
                top = own.topk(3)
                for gate, k in zip(top.values.softmax(dim=0), top.indices, strict=True):
                    hidden = (o @ pool.w_in[k] + pool.b_in[k]).relu()
                    expert = hidden @ pool.w_out[k] + pool.b_out[k]
                    refined[b, :, t] = refined[b, :, t] + mix[j] * gate * expert
    return refined


@pytest.mark.parametrize(("which", "groups"), [(0, HUMAN), (1, MOUSE)])
def test_decoder_is_the_published_formula(which: int, groups: tuple[str, ...]) -> None:
    model, (logits, y, e) = decoder(), inputs(len(groups))
    wanted = looped(model, groups, logits, y, e)
    found = decode(model, which, logits, y, e)
    assert wanted.abs().mean() > 0.05
    torch.testing.assert_close(found.logits_BNT, logits + wanted / 2, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.auxiliary_BNT, logits + wanted, atol=1e-6, rtol=1e-5)
    assert model.loss_weights == (0.5, 0.5)


def test_gradients_are_those_of_the_loop_and_reach_every_parameter() -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN))
    for value in (logits, y, e):
        value.requires_grad_()
    found, wanted = decode(model, 0, logits, y, e), looped(model, HUMAN, logits, y, e)
    seed = torch.randn_like(wanted)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sources = [logits, y, e, *named.values()]
    given = torch.autograd.grad(found.logits_BNT, sources, seed)
    reference = torch.autograd.grad(logits + wanted / 2, sources, seed)
    torch.testing.assert_close(given, reference, atol=1e-5, rtol=1e-5)
    silent = [name for name, g in zip(named, given[3:], strict=True) if not g.any()]
    assert silent == []
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "norm.weight",
        "norm.bias",
    }


def test_a_track_changes_itself_only_and_in_every_bin() -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN))
    before = decode(model, 0, logits, y, e).logits_BNT
    logits[:, 3, 4] += 1.0
    change = (decode(model, 0, logits, y, e).logits_BNT - before).abs()
    # Tokens are sorted by expert: others may stand in another row and round differently.
    others = [t for t in range(len(HUMAN)) if t != 4]
    assert change[:, :, others].max() < 1e-6
    assert change[:, :, 4].min() > 1e-5
    assert change[:, :, 4].median() > 1e-3


def test_order_of_the_tracks_does_not_matter() -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN))
    turn = [3, 0, 6, 2, 5, 1, 4]
    model.add_head(head("human", tuple(HUMAN[t] for t in turn)))
    straight = decode(model, 0, logits, y, e).logits_BNT
    turned = model(2, 0, logits[:, :, turn], y, e, torch.ones(2, BINS, dtype=torch.bool))
    torch.testing.assert_close(turned.logits_BNT, straight[:, :, turn], atol=1e-6, rtol=1e-5)


def test_heads_share_every_parameter() -> None:
    model = decoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.add_head(head("fly", ("TF",)))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_routing_tells_species_and_type_of_every_track() -> None:
    model, (logits, y, e) = decoder(), inputs(len(MOUSE))
    (routing,) = decode(model, 1, logits, y, e).routing
    assert routing.gates_TE.shape == (6, 8)
    assert routing.kept_TK.shape == (6, 6)
    torch.testing.assert_close(routing.gates_TE.sum(dim=1), torch.ones(6))
    # The load counts the experts that are active, once each.
    active = routing.gates_TE.gt(0)
    torch.testing.assert_close(routing.load, active.sum(dim=0) / active.sum())
    assert active.sum().item() < routing.kept_TK.numel()
    torch.testing.assert_close(routing.logits_TE.logsumexp(dim=1), torch.zeros(6))
    assert routing.species_T.tolist() == [1] * 6
    assert routing.group_T.tolist() == [0, 2, 3] * 2
    assert model.groups == PAPER_GROUPS
    mass = task_mass([routing], species=2, groups=4).sum(dim=1)
    torch.testing.assert_close(mass, torch.tensor([0.0, 0, 0, 0, 2, 0, 2, 2]))


def test_z_term_counts_routers_and_both_gates_of_every_type() -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN))
    with torch.no_grad():
        for gate in (*model.routers, model.sequence_gate, model.species_gate):
            gate.weight.zero_()
            gate.bias.fill_(2.0)
        model.species_gate.bias.fill_(1.0)
    (routing,) = decode(model, 0, logits, y, e).routing
    # Four types, each with two routers and the gate of the sequence at 2, of the species at 1.
    assert squared_logits(routing, 2).item() == pytest.approx(4 * (2 * 4 + 4 + 1))
    terms = decoder_terms([routing], 2, 4)
    assert all(value.isfinite() for value in terms.values())


def test_invalid_bins_do_not_reach_the_others() -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN))
    valid = torch.ones(2, BINS, dtype=torch.bool)
    valid[0, 5:8] = False
    valid[1] = False
    before = model(0, 0, logits, y, e, valid)
    logits[~valid] += 3.0
    y[~valid] = torch.nan
    after = model(0, 0, logits, y, e, valid)
    assert torch.equal(before.logits_BNT[valid], after.logits_BNT[valid])
    assert before.routing[0].weight_T.tolist() == [1.0] * len(HUMAN) + [0.0] * len(HUMAN)


def test_dropout_acts_inside_the_experts_only() -> None:
    model = decoder()
    assert model.pool.dropout.p == 0.4
    assert model.pool.output_dropout.p == 0.0


def test_bf16_autocast_stays_close() -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN))
    with torch.no_grad():
        full = decode(model, 0, logits, y, e).logits_BNT
        with torch.autocast("cpu", torch.bfloat16):
            half = decode(model, 0, logits, y, e).logits_BNT
    assert half.dtype == torch.float32
    assert ((half - full).norm() / full.norm()).item() < 2e-2


@pytest.mark.parametrize(("bins", "words"), [(10, "6 bins longer"), (20, "4 bins shorter")])
def test_another_number_of_bins_is_refused(bins: int, words: str) -> None:
    model, (logits, y, e) = decoder(), inputs(len(HUMAN), bins=bins)
    with pytest.raises(CislensError, match=f"exactly 16 central bins, found {bins}.*{words}"):
        decode(model, 0, logits, y, e)


def test_the_message_about_bins_says_how_many_base_pairs_fit() -> None:
    model, (logits, y, e) = decoder(bins=896), inputs(len(HUMAN), bins=1024)
    with pytest.raises(CislensError, match="by 16,384 bp, so that 114,688 bp are left"):
        decode(model, 0, logits, y, e)


@pytest.mark.parametrize(
    ("groups", "message"),
    [(("CAGE", "histones"), "'yeast1' of yeast.*'histones'.*'histone'"), ((), "does not say")],
)
def test_groups_of_other_names_are_refused(groups: tuple[str, ...], message: str) -> None:
    wrong = HeadConfig(species="yeast", tracks=("yeast0", "yeast1"), groups=groups)
    with pytest.raises(CislensError, match=message):
        PaperDecoder(PaperDecoderConfig(), (wrong,), DIM, SPECIES_DIM)


def test_an_encoder_without_species_is_refused() -> None:
    with pytest.raises(CislensError, match="encoder of kind space-paper"):
        PaperDecoder(PaperDecoderConfig(), (head("human", HUMAN),), DIM, 0)


def test_more_kept_than_experts_is_refused() -> None:
    with pytest.raises(ValueError, match="more than the 8 experts"):
        PaperDecoderConfig(kept=9)
