"""Species-gated experts: the published formula by loops, routing by index, species in a batch."""

import pytest
import torch
from torch import Tensor

from cislens.nn.gates import ExpertPool, SpeciesExperts, keep_top, leaky_logits


def layer(species: int = 2, dim: int = 16, experts: int = 4, kept: int = 3) -> SpeciesExperts:
    torch.manual_seed(0)
    return SpeciesExperts(dim, species, experts, kept, dropout=0.4).eval()


def tokens(batch: int = 2, count: int = 5, dim: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Residual stream, its normalized form, and which tokens are valid."""
    generator = torch.Generator().manual_seed(1)
    x, z = torch.randn(2, batch, count, dim, generator=generator)
    return x, z, torch.ones(batch, count, dtype=torch.bool)


def expert(pool: ExpertPool, index: int, z: Tensor) -> Tensor:
    """One expert on one token, by matrix-vector products."""
    hidden = (z @ pool.w_in[index] + pool.b_in[index]).relu()
    return hidden @ pool.w_out[index] + pool.b_out[index]


def looped(experts: SpeciesExperts, x: Tensor, z: Tensor, species: list[int]) -> Tensor:
    """The published layer, one token and one expert after the other."""
    rows = []
    for b, own in enumerate(species):
        gate = experts.gates[own]
        for x_D, z_D in zip(x[b], z[b], strict=True):
            logits = torch.nn.functional.leaky_relu(gate.weight @ x_D + gate.bias, 0.01)
            top = logits.sort(descending=True)
            kept = top.indices[: experts.kept].tolist()
            weights = logits[kept].softmax(dim=0)
            chosen = zip(weights, kept, strict=True)
            rows.append(sum(weight * expert(experts.pool, k, z_D) for weight, k in chosen))
    return torch.stack(rows).view_as(x)


def test_layer_is_the_published_sum_over_kept_experts() -> None:
    experts, (x, z, valid) = layer(), tokens()
    found, routing = experts(x, z, torch.tensor([1, 0]), valid)
    torch.testing.assert_close(found, looped(experts, x, z, [1, 0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(routing.gates_TE.sum(dim=1), torch.ones(10))
    assert routing.gates_TE.gt(0).sum(dim=1).tolist() == [3] * 10
    assert routing.species_T.tolist() == [1] * 5 + [0] * 5


@pytest.mark.parametrize("dim", [16, 6])
def test_gradients_are_those_of_the_loop_with_an_empty_expert(dim: int) -> None:
    """Width 6 is not aligned for the grouped kernel and takes the other product."""
    experts, (x, z, valid) = layer(dim=dim), tokens(dim=dim)
    with torch.no_grad():
        for gate in experts.gates:
            gate.bias[2] = -1e4  # no token keeps expert 2
    found, routing = experts(x, z, torch.tensor([0, 1]), valid)
    assert not routing.kept_TK.eq(2).any()
    seed = torch.randn_like(found)
    parameters = [experts.pool.w_in, *experts.parameters()]
    given = torch.autograd.grad(found, parameters, seed)
    wanted = torch.autograd.grad(looped(experts, x, z, [0, 1]), parameters, seed)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    assert given[0][2].eq(0).all()
    assert (
        experts.pool.w_in[2].numel() and given[parameters.index(experts.pool.w_in)][2].eq(0).all()
    )


def test_a_kept_gate_that_underflows_to_zero_mixes_up_no_tokens() -> None:
    experts, (x, z, valid) = layer(), tokens()
    with torch.no_grad():
        experts.gates[0].bias.copy_(torch.tensor([200.0, 0.0, 0.0, 0.0]))
    found, routing = experts(x, z, torch.tensor([0, 1]), valid)
    kept_gates = routing.gates_TE.gather(1, routing.kept_TK)
    assert kept_gates[:5].eq(0).sum().item() == 10  # two of three, in the five tokens of window 0
    torch.testing.assert_close(found, looped(experts, x, z, [0, 1]), atol=1e-6, rtol=1e-5)


def test_windows_of_two_species_in_a_batch_equal_each_species_alone() -> None:
    experts, (x, z, valid) = layer(), tokens(batch=4)
    species = torch.tensor([0, 1, 1, 0])
    together, _ = experts(x, z, species, valid)
    for own in (0, 1):
        chosen = species == own
        alone, _ = experts(x[chosen], z[chosen], species[chosen], valid[chosen])
        torch.testing.assert_close(together[chosen], alone, atol=1e-6, rtol=1e-6)
    swapped, _ = experts(x, z, 1 - species, valid)
    assert (swapped - together).abs().max() > 1e-2


def test_unknown_species_is_routed_by_the_mean_of_all_logits() -> None:
    experts, (x, z, valid) = layer(species=3), tokens()
    _, routing = experts(x, z, torch.tensor([-1, -1]), valid)
    logits = torch.stack([leaky_logits(gate, x) for gate in experts.gates]).mean(dim=0)
    torch.testing.assert_close(routing.logits_TE, logits.flatten(0, 1))


def test_an_added_gate_is_the_mean_and_touches_nothing() -> None:
    experts, (x, z, valid) = layer(), tokens()
    species = torch.tensor([0, 1])
    before, _ = experts(x, z, species, valid)
    stored = {name: value.clone() for name, value in experts.state_dict().items()}
    experts.add_species()
    after, _ = experts(x, z, species, valid)
    assert torch.equal(before, after)
    new = {"gates.2.weight", "gates.2.bias"}
    assert experts.state_dict().keys() - stored.keys() == new
    assert all(torch.equal(experts.state_dict()[name], value) for name, value in stored.items())
    mean = (experts.gates[0].weight + experts.gates[1].weight) / 2
    torch.testing.assert_close(experts.gates[2].weight, mean)
    assert experts.gates[2].weight.requires_grad


def test_absent_species_gets_a_gradient_of_zero() -> None:
    experts, (x, z, valid) = layer(), tokens()
    update, _ = experts(x, z, torch.tensor([0, 0]), valid)
    update.square().sum().backward()
    assert experts.gates[0].weight.grad.abs().max() > 0
    assert experts.gates[1].weight.grad.eq(0).all()


def test_weights_start_within_one_over_root_of_their_inputs() -> None:
    pool = ExpertPool(16, 64, 4, 0.0, 0.0)
    for weight, bound in ((pool.w_in, 1 / 4), (pool.w_out, 1 / 8), (pool.b_out, 1 / 8)):
        assert 0.9 * bound < weight.abs().max().item() <= bound


def test_dropout_acts_within_and_after_the_experts() -> None:
    """Without hidden dropout, output dropout alone zeroes whole entries of single experts."""
    torch.manual_seed(0)
    pool = ExpertPool(8, 16, 2, dropout=0.0, output_dropout=0.5)
    z, kept, weight = (
        torch.randn(400, 8),
        torch.zeros(400, 1, dtype=torch.int64),
        torch.ones(400, 1),
    )
    dropped = pool(z, kept, weight)
    kept_values = pool.eval()(z, kept, weight)
    assert abs(dropped.eq(0).float().mean().item() - 0.5) < 0.03
    here = dropped != 0
    torch.testing.assert_close(dropped[here], 2 * kept_values[here])
    pool.train().output_dropout.p = 0.0
    assert torch.equal(pool(z, kept, weight), kept_values)
    pool.dropout.p = 0.5
    assert not torch.isclose(pool(z, kept, weight), kept_values).any(dim=1).all()


def test_bf16_autocast_stays_close_and_the_gates_stay_fp32() -> None:
    experts, (x, z, valid) = layer(dim=32), tokens(count=50, dim=32)
    species = torch.tensor([0, 1])
    with torch.no_grad():
        full, routed = experts(x, z, species, valid)
        with torch.autocast("cpu", torch.bfloat16):
            half, routing = experts(x, z, species, valid)
    assert torch.equal(routing.logits_TE, routed.logits_TE)
    assert torch.equal(routing.kept_TK, routed.kept_TK)
    assert ((half - full).norm() / full.norm()).item() < 2e-2


def test_the_softmax_runs_over_the_kept_logits_alone() -> None:
    kept, weight = keep_top(torch.tensor([[1.0, 5.0, 3.0, 2.0]]), 2)
    assert kept.tolist() == [[1, 2]]
    torch.testing.assert_close(weight, torch.tensor([[5.0, 3.0]]).softmax(dim=1))
