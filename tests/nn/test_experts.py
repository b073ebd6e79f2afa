"""Expert layers: the compute, the losses' known values, and what routing statistics ignore."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cislens.nn.experts import (
    Experts,
    choose_product,
    grouped_product,
    looped_product,
    masked_product,
    mix_experts,
    mix_sorted,
)
from cislens.nn.routing import (
    Routing,
    balance_loss,
    joint_of_mass,
    mutual_information,
    z_loss,
)

Mix = Callable[..., Tensor]


def routing_of(gates_TE: Tensor, species_T: Tensor, weight_T: Tensor | None = None) -> Routing:
    """A routing whose gates are given; the kept experts are those with the largest gates."""
    kept = int((gates_TE[0] > 0).sum())
    return Routing(
        logits_TE=gates_TE.clamp_min(1e-30).log(),
        gates_TE=gates_TE,
        kept_TK=gates_TE.topk(kept, dim=1).indices,
        weight_T=torch.ones(len(gates_TE)) if weight_T is None else weight_T,
        species_T=species_T,
    )


def information(routing: Routing, species: int = 2) -> float:
    return mutual_information(joint_of_mass(routing.species_mass(species))).item()


@pytest.mark.parametrize("product", [grouped_product, masked_product])
def test_products_agree_with_the_loop_with_an_empty_expert(product: object) -> None:
    torch.manual_seed(0)
    rows = torch.randn(20, 16, requires_grad=True)
    weight = torch.randn(5, 16, 8, requires_grad=True)
    ends = torch.tensor([6, 6, 13, 20, 20], dtype=torch.int32)  # experts 1 and 4 are empty
    expected = looped_product(rows, weight, ends)
    found = product(rows, weight, ends)  # type: ignore[operator]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    seed = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [rows, weight], seed)
    given = torch.autograd.grad(found, [rows, weight], seed)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    assert given[1][1].eq(0).all()


def test_the_product_fits_device_type_and_alignment() -> None:
    rows, weight = torch.zeros(4, 16), torch.zeros(2, 16, 12)
    assert choose_product(rows, weight) is grouped_product
    assert choose_product(rows.bfloat16(), weight.bfloat16()) is looped_product  # 24-byte rows
    assert choose_product(rows.double(), weight.double()) is looped_product
    assert choose_product(rows.to("meta"), weight.to("meta")) is masked_product


@pytest.mark.parametrize("mix", [mix_experts, mix_sorted])
def test_mixture_is_the_written_sum_with_an_empty_expert(mix: Mix) -> None:
    """Value and every gradient against a loop over the experts; expert 3 gets no token."""
    torch.manual_seed(0)
    z, w_in, w_out = torch.randn(40, 16), torch.randn(6, 16, 8) / 4, torch.randn(6, 8, 16) / 4
    logits = torch.randn(40, 6)
    logits[:, 3] = -9.0
    kept = logits.topk(3, dim=1).indices
    inputs = [x.requires_grad_() for x in (z, torch.rand(40, 3), w_in, w_out)]

    def written(z: Tensor, gate: Tensor, w_in: Tensor, w_out: Tensor) -> Tensor:
        parts = [
            (gate * (kept == e)).sum(dim=1, keepdim=True) * ((z @ w_in[e]).relu() @ w_out[e])
            for e in range(6)
        ]
        return torch.stack(parts).sum(dim=0)

    expected, found = written(*inputs), mix(inputs[0], inputs[1], kept, *inputs[2:])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    seed = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, inputs, seed)
    given = torch.autograd.grad(found, inputs, seed)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    assert given[2][3].eq(0).all()
    assert given[3][3].eq(0).all()


@pytest.mark.parametrize("mix", [mix_experts, mix_sorted])
def test_mixture_in_bf16_stays_close(mix: Mix) -> None:
    torch.manual_seed(0)
    kept = torch.randn(64, 8).topk(4, dim=1).indices
    inputs = [torch.randn(64, 32), torch.rand(64, 4), *torch.randn(2, 8, 32, 32) / 6]
    full = [x.requires_grad_() for x in inputs]
    half = [x.detach().clone().requires_grad_() for x in inputs]
    cast = [x.bfloat16() if i != 1 else x for i, x in enumerate(half)]
    expected, found = mix(full[0], full[1], kept, *full[2:]), mix(cast[0], cast[1], kept, *cast[2:])
    assert found.dtype == torch.float32
    assert relative(found, expected) < 2e-2
    seed = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, full, seed)
    given = torch.autograd.grad(found, half, seed)
    for ours, theirs in zip(given, wanted, strict=True):
        # More than for the value: rounding moves some hidden channels across the ReLU's zero.
        assert relative(ours, theirs) < 4e-2


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def layer_inputs(dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    species, valid = torch.tensor([0, 1]), torch.ones(2, 16, dtype=torch.bool)
    return torch.randn(2, 16, dim), torch.randn(2, 8), species, valid


def test_layer_runs_on_meta_tensors() -> None:
    """Shapes and memory of large models are worked out there; it has no autocast."""
    with torch.device("meta"):
        layer, inputs = Experts(32, experts=8, kept=4, code_dim=8, dropout=0.0), layer_inputs(32)
        update, routing = layer(*inputs)
    update.sum().backward()
    assert update.shape == (2, 16, 32)
    assert routing.kept_TK.shape == (32, 4)


def test_layer_compiles_whole() -> None:
    torch.manual_seed(0)
    layer, inputs = Experts(32, experts=8, kept=4, code_dim=8, dropout=0.0), layer_inputs(32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected, found = layer(*inputs)[0], compiled(*inputs)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    seed, weights = torch.randn_like(expected), list(layer.parameters())
    wanted = torch.autograd.grad(expected, weights, seed)
    given = torch.autograd.grad(found, weights, seed)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative(compiled(*inputs)[0].float(), expected) < 2e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("bf16", [True, False])
def test_layer_does_not_wait_for_the_device(bf16: bool) -> None:
    torch.manual_seed(0)
    layer = Experts(32, experts=8, kept=4, code_dim=8, dropout=0.2).cuda()
    inputs = tuple(x.cuda() for x in layer_inputs(32))

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            update = layer(*inputs)[0]
        update.float().square().sum().backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_layer_is_shared_plus_weighted_kept_experts() -> None:
    torch.manual_seed(0)
    layer = Experts(16, experts=4, kept=2, code_dim=8, dropout=0.0)
    with torch.no_grad():
        layer.router.weight[3] = -100 * layer.router.weight[2]  # one expert nearly unused
    z, code = torch.randn(2, 5, 16), torch.randn(2, 8)
    species, valid = torch.tensor([0, 1]), torch.ones(2, 5, dtype=torch.bool)
    found, routing = layer(z, code, species, valid)
    p = (z @ layer.router.weight.T + (code @ layer.species_router.weight.T)[:, None]).softmax(-1)
    expected = layer.shared(z)
    for b in range(2):
        for n in range(5):
            top = p[b, n].topk(2)
            for weight, expert in zip(top.values / top.values.sum(), top.indices, strict=True):
                hidden = (z[b, n] @ layer.w_in[expert]).relu()
                expected[b, n] = expected[b, n] + weight * (hidden @ layer.w_out[expert])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(routing.gates_TE.sum(dim=1), torch.ones(10))


def test_as_many_multiplications_as_the_dense_layer() -> None:
    dim = 32
    layer = Experts(dim, experts=8, kept=2, code_dim=8, dropout=0.0)
    shared = sum(p.numel() for p in layer.shared.parameters() if p.ndim == 2)
    routed = layer.kept * (layer.w_in[0].numel() + layer.w_out[0].numel())
    assert shared + routed == 2 * dim * 2 * dim


def test_expert_init_is_bounded_by_its_fan_in() -> None:
    torch.manual_seed(0)
    layer = Experts(64, experts=8, kept=2, code_dim=8, dropout=0.0)
    assert 0.99 * 64**-0.5 < layer.w_in.abs().max() <= 64**-0.5
    assert 0.99 * 32**-0.5 < layer.w_out.abs().max() <= 32**-0.5


def test_mutual_information_of_known_routers() -> None:
    species = torch.tensor([0, 0, 1, 1])
    uniform = torch.full((4, 4), 0.25)
    assert information(routing_of(uniform, species)) == pytest.approx(0.0, abs=1e-5)
    drop = torch.tensor([[0, 1, 1, 1.0]] * 2 + [[1, 0, 1, 1.0]] * 2) / 3
    assert information(routing_of(drop, species)) == pytest.approx(0.231049, abs=1e-5)
    disjoint = torch.tensor([[1, 1, 0, 0.0]] * 2 + [[0, 0, 1, 1.0]] * 2) / 2
    assert information(routing_of(disjoint, species)) == pytest.approx(math.log(2), abs=1e-5)


def test_mutual_information_ignores_amounts_masks_and_unknown_species() -> None:
    drop = torch.tensor([[0, 1, 1, 1.0], [1, 0, 1, 1.0]]) / 3
    many = drop[torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])]
    species = torch.tensor([0] * 7 + [1])
    assert information(routing_of(many, species)) == pytest.approx(0.231049, abs=1e-5)
    padded = torch.cat([drop, torch.tensor([[0.5, 0.5, 0, 0]])])
    weight = torch.tensor([1.0, 1.0, 0.0])
    routing = routing_of(drop, torch.tensor([0, 1]))
    masked = Routing(
        padded.log(), padded, torch.zeros(3, 1).long(), weight, torch.tensor([0, 1, 1])
    )
    assert information(masked) == pytest.approx(information(routing), abs=1e-6)
    unknown = Routing(
        padded.log(), padded, torch.zeros(3, 1).long(), torch.ones(3), torch.tensor([0, 1, -1])
    )
    assert information(unknown) == pytest.approx(0.231049, abs=1e-5)
    # A third species that the batch does not hold changes nothing.
    assert information(routing, species=3) == pytest.approx(0.231049, abs=1e-5)


def test_one_species_has_no_information() -> None:
    gates = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    assert information(routing_of(gates, torch.zeros(2).long())) == pytest.approx(0, abs=1e-6)


def test_balance_loss_is_one_when_balanced_and_n_over_k_when_collapsed() -> None:
    pairs = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])
    balanced = torch.zeros(4, 8).scatter(1, pairs, 0.5)
    species = torch.zeros(4).long()
    assert balance_loss(routing_of(balanced, species)).item() == pytest.approx(1, abs=1e-6)
    collapsed = torch.zeros(4, 8)
    collapsed[:, :2] = 0.5
    assert balance_loss(routing_of(collapsed, species)).item() == pytest.approx(4, abs=1e-6)


def test_balance_loss_leads_a_router_out_of_collapse() -> None:
    torch.manual_seed(0)
    layer = Experts(16, experts=8, kept=2, code_dim=4, dropout=0.0)
    with torch.no_grad():
        layer.router.weight[:2, 0] += 4.0  # every token prefers experts 0 and 1
    z = torch.randn(8, 32, 16)
    z[..., 0] = 1.0
    code, species = torch.zeros(8, 4), torch.zeros(8).long()
    valid = torch.ones(8, 32, dtype=torch.bool)
    start = layer.route(z, code, species, valid)
    assert start.load[:2].sum() == 1
    optimizer = torch.optim.SGD([layer.router.weight], lr=0.1)
    for _ in range(500):
        loss = balance_loss(layer.route(z, code, species, valid))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert layer.route(z, code, species, valid).load.min() > 0.5 / 8


def test_z_loss_is_the_mean_squared_log_sum_exp() -> None:
    gates = torch.full((2, 4), 0.25)
    routing = Routing(
        torch.tensor([[0.0] * 4, [50.0] * 4]),
        gates,
        torch.zeros(2, 1).long(),
        torch.tensor([1.0, 0.0]),
        torch.zeros(2).long(),
    )
    assert z_loss(routing).item() == pytest.approx(math.log(4) ** 2, abs=1e-5)


def test_load_mass_and_entropy_of_certain_tokens() -> None:
    gates = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 1.0, 0, 0]])
    routing = routing_of(gates, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(routing.load, torch.tensor([1 / 3, 2 / 3, 0, 0]))
    torch.testing.assert_close(
        routing.species_mass(3), torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
    )
    assert routing.entropy().item() == pytest.approx(0, abs=1e-5)


def test_padded_bins_are_not_counted() -> None:
    torch.manual_seed(0)
    layer = Experts(16, experts=4, kept=2, code_dim=8, dropout=0.0)
    z, code, species = torch.randn(2, 6, 16), torch.zeros(2, 8), torch.tensor([0, 1])
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[:, 4:] = False
    _, padded = layer(z, code, species, valid)
    _, alone = layer(z[:, :4], code, species, valid[:, :4])
    for statistic in (balance_loss, z_loss, lambda r: r.load, lambda r: r.entropy()):
        torch.testing.assert_close(statistic(padded), statistic(alone), atol=1e-6, rtol=1e-5)


def test_bf16_autocast_keeps_the_router_in_fp32() -> None:
    torch.manual_seed(0)
    layer = Experts(32, experts=4, kept=2, code_dim=8, dropout=0.0)
    z, code, species = torch.randn(2, 16, 32), torch.randn(2, 8), torch.tensor([0, 1])
    valid = torch.ones(2, 16, dtype=torch.bool)
    full, routing = layer(z, code, species, valid)
    with torch.autocast("cpu", torch.bfloat16):
        half, half_routing = layer(z, code, species, valid)
    assert half_routing.logits_TE.dtype == torch.float32
    assert torch.equal(half_routing.logits_TE, routing.logits_TE)
    assert ((half.float() - full).norm() / full.norm()).item() < 2e-2
