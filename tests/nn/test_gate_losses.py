"""The published auxiliary terms: their known values, and where their constants go wrong."""

import math

import pytest
import torch
from torch import Tensor

from cislens.nn.gate_losses import (
    PUBLISHED_TRACKS,
    TrackRouting,
    decoder_terms,
    encoder_terms,
    expert_variation,
    gate_variation,
    species_information,
    squared_logits,
    task_information,
    task_mass,
)
from cislens.nn.routing import Routing

# Tokens of a window with its species token, at 131,072 and 196,608 bp.
SHORT, LONG = 1025, 1537


def routing_of(
    gates_TE: Tensor,
    species_T: Tensor,
    weight_T: Tensor | None = None,
    logits: Tensor | None = None,
) -> Routing:
    kept = int((gates_TE[0] > 0).sum())
    return Routing(
        logits_TE=gates_TE.clamp_min(1e-30).log() if logits is None else logits,
        gates_TE=gates_TE,
        kept_TK=gates_TE.topk(kept, dim=1).indices,
        weight_T=torch.ones(len(gates_TE)) if weight_T is None else weight_T,
        species_T=species_T,
    )


def of_rows(human: list[float], mouse: list[float], tokens: int, windows: int = 2) -> Routing:
    """`windows` windows of each of two species, whose every token has the same gates."""
    rows = torch.tensor([human] * windows + [mouse] * windows)
    species = torch.tensor([0] * windows + [1] * windows).repeat_interleave(tokens)
    return routing_of(rows.repeat_interleave(tokens, dim=0), species)


UNIFORM = ([0.25] * 4, [0.25] * 4)
DROP_ONE = ([0.0, 1 / 3, 1 / 3, 1 / 3], [1 / 3, 0.0, 1 / 3, 1 / 3])
DISJOINT = ([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5])


@pytest.mark.parametrize("tokens", [7, SHORT, LONG])
@pytest.mark.parametrize(
    ("rows", "value"), [(UNIFORM, 0.0), (DROP_ONE, 0.231049), (DISJOINT, math.log(2))]
)
def test_true_information_at_any_length(
    rows: tuple[list[float], list[float]], value: float, tokens: int
) -> None:
    found = species_information(of_rows(*rows, tokens), 2, "mass").item()
    assert found == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(("rows", "value"), [(UNIFORM, -0.610), (DISJOINT, 0.431)])
def test_published_constants_mislead_at_196_608_bp(
    rows: tuple[list[float], list[float]], value: float
) -> None:
    """1,537 tokens against a constant of 1,024: probabilities sum to 1.50."""
    routing = of_rows(*rows, LONG)
    found = species_information(routing, 2, "published", windows=4).item()
    assert found == pytest.approx(value, abs=5e-4)
    assert (routing.species_mass(2).sum() / (4 * 1024)).item() == pytest.approx(1.50, abs=5e-3)


def test_published_constants_are_nearly_right_at_131_072_bp() -> None:
    found = species_information(of_rows(*DISJOINT, SHORT), 2, "published", windows=4).item()
    assert found == pytest.approx(math.log(2), abs=1e-3)


def test_mass_ignores_padding_and_how_many_windows_each_species_has() -> None:
    gates = torch.tensor([DROP_ONE[0]] * 30 + [DROP_ONE[1]] * 5 + [[1.0, 0.0, 0.0, 0.0]] * 9)
    species = torch.tensor([0] * 30 + [1] * 5 + [1] * 9)
    weight = torch.tensor([1.0] * 35 + [0.0] * 9)
    routing = routing_of(gates, species, weight)
    assert species_information(routing, 2).item() == pytest.approx(0.231049, abs=1e-5)
    assert species_information(routing, 3).item() == pytest.approx(0.231049, abs=1e-5)


def test_the_published_normalizer_wants_the_windows() -> None:
    with pytest.raises(ValueError, match="number of windows"):
        species_information(of_rows(*UNIFORM, 3), 2, "published")


@pytest.mark.parametrize(
    ("name", "value"), [("collapsed", 1 / 3), ("balanced", 1 / 3), ("one-hot", 3.0)]
)
def test_encoder_variation_cannot_tell_collapse_from_balance(name: str, value: float) -> None:
    tokens = 4000
    dropped = torch.arange(tokens) % 4 if name == "balanced" else torch.zeros(tokens).long()
    gates = torch.full((tokens, 4), 1 / 3).scatter(1, dropped[:, None], 0.0)
    if name == "one-hot":
        gates = torch.eye(4)[torch.arange(tokens) % 4]
    found = gate_variation(routing_of(gates, torch.zeros(tokens).long()), 1).item()
    assert found == pytest.approx(value, abs=1e-3)
    # As coded: the sample variance of the whole matrix.
    assert found == pytest.approx((gates.var() / gates.mean().square()).item(), rel=1e-5)


def test_encoder_variation_is_summed_over_species_and_skips_padding() -> None:
    torch.manual_seed(0)
    gates = torch.rand(30, 4).softmax(dim=1)
    species = torch.tensor([0] * 12 + [1] * 18)
    weight = torch.ones(30)
    weight[:4] = 0
    parts = [gates[4:12], gates[12:]]
    wanted = sum((part.var() / part.mean().square()).item() for part in parts)
    found = gate_variation(routing_of(gates, species, weight), 2).item()
    assert found == pytest.approx(wanted, rel=1e-5)
    assert gate_variation(routing_of(gates, species, weight), 5).item() == pytest.approx(found)


def test_z_is_the_mean_square_of_each_species_logits_summed() -> None:
    torch.manual_seed(0)
    logits = torch.randn(10, 4)
    species = torch.tensor([0] * 3 + [1] * 7)
    weight = torch.ones(10)
    weight[9] = 0
    routing = routing_of(logits.softmax(dim=1), species, weight, logits)
    wanted = logits[:3].square().mean() + logits[3:9].square().mean()
    torch.testing.assert_close(squared_logits(routing, 2), wanted)
    terms = encoder_terms([routing, routing], 2)
    torch.testing.assert_close(terms["z"], 2 * wanted)


def tracks_of(gates_TE: Tensor, species: int, group_T: Tensor) -> TrackRouting:
    routing = routing_of(gates_TE, torch.full((len(gates_TE),), species))
    logits = (torch.full((3, 8), 2.0), torch.full((2, 2), 1.0))
    return TrackRouting(**{**vars(routing), "group_T": group_T, "gate_logits": logits})


def test_tasks_of_the_decoder_are_pairs_of_species_and_type() -> None:
    human = tracks_of(torch.eye(8)[[0, 0, 1]], 0, torch.tensor([0, 0, 3]))
    mouse = tracks_of(torch.eye(8)[[5]], 1, torch.tensor([2]))
    mass = task_mass([human, mouse], species=2, groups=4)
    assert mass.shape == (8, 8)
    assert {(p, e): v.item() for p, e in mass.nonzero().tolist() for v in [mass[p, e]]} == {
        (0, 0): 2.0,
        (3, 1): 1.0,
        (6, 5): 1.0,
    }
    # Three tasks of probabilities 1/2, 1/4, 1/4, each with an expert of its own.
    assert task_information(mass).item() == pytest.approx(1.5 * math.log(2), abs=1e-5)
    terms = decoder_terms([human, mouse], 2, 4)
    assert terms["z"].item() == pytest.approx(2 * (4.0 + 1.0))
    total = torch.tensor([2.0, 1, 0, 0, 0, 1, 0, 0])
    assert terms["variation"].item() == pytest.approx((total.var() / total.mean() ** 2).item())


def test_decoder_information_by_mass_is_the_published_one_with_the_published_tracks() -> None:
    torch.manual_seed(0)
    sizes = torch.tensor([684, 1889, 2102, 638, 228, 291, 767, 357])
    assert sizes.sum().item() == PUBLISHED_TRACKS
    mass = torch.rand(8, 8).softmax(dim=1) * sizes[:, None] * 3
    published = task_information(mass, "published", windows=3)
    torch.testing.assert_close(task_information(mass), published, atol=1e-6, rtol=1e-5)
    uniform = torch.ones(8, 8) * sizes[:, None]
    assert task_information(uniform).item() == pytest.approx(0, abs=1e-6)
    assert expert_variation(uniform).item() == pytest.approx(0, abs=1e-6)
    assert expert_variation(torch.eye(8)[:1]).item() == pytest.approx(8.0, abs=1e-5)


@pytest.mark.parametrize("normalizer", ["mass", "published"])
def test_terms_have_gradients(normalizer: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, 4, requires_grad=True)
    routing = routing_of(
        logits.softmax(dim=1), torch.arange(40) % 2, logits=torch.nn.functional.leaky_relu(logits)
    )
    for term in encoder_terms([routing], 2, normalizer, windows=2).values():  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(term, logits, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
