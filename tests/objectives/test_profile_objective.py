"""The profile objective: its terms, its averages, and that it learns a planted motif."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.presets import HeadTracks, preset_config
from cislens.models.profile import build_model
from cislens.objectives.profile import ProfileObjective, TorchProfileBatch, one_hot
from cislens.recipes.profiles import Objective as Settings
from cislens.recipes.profiles import PublishedTerms

TRACKS = {"yeast": ("a", "b"), "fly": ("c",)}
PAPER_TRACKS = {
    "yeast": HeadTracks(("a", "b"), ("TF", "CAGE")),
    "fly": HeadTracks(("c",), ("accessibility",)),
}
SMALL: dict[str, Any] = {
    "dim": 32,
    "stem_dim": 16,
    "depth": 1,
    "heads": 2,
    "key_dim": 8,
    "width_multiple": 8,
    "bin_size": 16,
    "dropout": 0.0,
}
MOTIFS = {"yeast": "TGACGTCA", "fly": "GGGCGGAA"}


def objective(
    preset: str = "space-plus-tiny",
    tracks: Any = None,
    settings: Settings | None = None,
    **changes: Any,
) -> ProfileObjective:
    torch.manual_seed(0)
    config = preset_config(preset, tracks or TRACKS, crop=1, **{**SMALL, **changes})
    return ProfileObjective(build_model(config), settings)


def random_batch(species: list[int], bins: int = 8, seed: int = 0) -> TorchProfileBatch:
    rng = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 5, (len(species), 16 * bins), generator=rng, dtype=torch.uint8)
    targets = {
        name: torch.rand(species.count(index), bins - 2, len(ids), generator=rng) * 3
        for index, (name, ids) in enumerate(TRACKS.items())
        if index in species
    }
    return TorchProfileBatch(codes, torch.tensor(species), targets)


def test_one_hot_of_codes() -> None:
    x = one_hot(torch.tensor([[0, 1, 2, 3, 4]], dtype=torch.uint8))
    assert x.shape == (1, 4, 5)
    assert torch.equal(x[0, :, :4], torch.eye(4))
    assert x[0, :, 4].eq(0).all()


def test_poisson_is_a_mean_over_windows() -> None:
    net = objective("enformer-tiny").eval()
    batch = random_batch([0, 0, 0, 1])
    terms = net.loss(batch).terms
    expected = 0.75 * terms["poisson/yeast"] + 0.25 * terms["poisson/fly"]
    torch.testing.assert_close(terms["poisson"], expected)
    rate = net.model(one_hot(batch.codes_BL[3:]), "fly", crop=True).transpose(1, 2)
    target = batch.targets["fly"]
    torch.testing.assert_close(terms["poisson/fly"], (rate - target * rate.log()).mean())


def test_total_is_the_weighted_sum_of_the_named_terms() -> None:
    losses = objective().eval().loss(random_batch([0, 1, 1, 0]))
    terms = losses.terms
    expected = terms["poisson"] + 0.5 * terms["auxiliary"]
    expected = expected + 0.01 * terms["balance"] + 1e-3 * terms["z"]
    expected = expected - 0.01 * terms["mutual_information"]
    torch.testing.assert_close(losses.total.detach(), expected)
    assert not any(term.requires_grad for term in terms.values())
    dense = objective(ffn="dense", decoder=False).eval().loss(random_batch([0, 1]))
    assert set(dense.terms) == {"poisson", "poisson/yeast", "poisson/fly"}


def test_information_in_evaluation_is_that_of_the_batch_alone() -> None:
    """Whatever training has seen before."""
    net, batch = objective(species_dropout=0.0), random_batch([0, 1, 0, 1])
    fresh = net.eval().loss(batch).terms["mutual_information"]
    net.train()
    net.experts.mass_XSE.copy_(torch.rand_like(net.experts.mass_XSE))
    assert torch.equal(net.eval().loss(batch).terms["mutual_information"], fresh)
    assert "mutual_information" not in net.loss(random_batch([1, 1])).terms


def test_terms_of_experts_are_fp32_under_autocast() -> None:
    net, batch = objective(species_dropout=0.0).eval(), random_batch([0, 1, 0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        output = net.model.predict(one_hot(batch.codes_BL), batch.species_B)
        terms = net.loss(batch).terms
    expected = net.experts(output)  # outside of autocast
    for name, value in expected.items():
        assert terms[name].dtype == torch.float32
        torch.testing.assert_close(terms[name], value, rtol=1e-6, atol=1e-7)


def test_same_names_and_formulas_in_training_and_evaluation() -> None:
    """With dropout off and the same norm statistics the numbers are the same."""
    net = objective(species_dropout=0.0)
    for layer in (m for m in net.modules() if isinstance(m, torch.nn.Dropout)):
        layer.p = 0.0
    batch = random_batch([0, 1])
    evaluated = net.eval().loss(batch).terms
    net.train()
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.eval()
    trained = net.loss(batch).terms
    assert set(trained) == set(evaluated)
    for name, term in evaluated.items():
        torch.testing.assert_close(trained[name], term, msg=name)


def test_decoder_starts_as_the_linear_heads() -> None:
    """Both Poisson terms are then one number."""
    terms = objective().eval().loss(random_batch([0, 1, 1, 0])).terms
    torch.testing.assert_close(terms["auxiliary"], terms["poisson"])


def test_published_terms_are_weighted_as_published() -> None:
    settings = Settings(experts=PublishedTerms())
    net = objective("space-paper-tiny", PAPER_TRACKS, settings, bins=6).eval()
    losses = net.loss(random_batch([0, 1, 1, 0]))
    terms = losses.terms
    # The published likelihood is a sum over the two species, ours a mean over windows.
    expected = terms["poisson"] + terms["auxiliary"] + 1e-3 * terms["z"]
    expected = expected + 5e-3 * terms["variation"] - 0.01 * terms["mutual_information"]
    torch.testing.assert_close(losses.total.detach(), expected)


def test_data_may_have_fewer_tracks_in_another_order() -> None:
    net = objective("enformer-tiny").eval()
    batch = random_batch([0, 0])
    turned = {"yeast": batch.targets["yeast"].flip(2)}
    other = ProfileObjective(net.model, tracks={"yeast": ("b", "a")}).eval()
    again = TorchProfileBatch(batch.codes_BL, batch.species_B, turned)
    torch.testing.assert_close(other.loss(again).total, net.loss(batch).total)
    one = ProfileObjective(net.model, tracks={"yeast": ("b",)}).eval()
    of_one = TorchProfileBatch(batch.codes_BL, batch.species_B, {"yeast": turned["yeast"][..., :1]})
    assert one.loss(of_one).predictions["yeast"].shape == (2, 6, 1)
    with pytest.raises(CislensError, match="no yeast track 'x'"):
        ProfileObjective(net.model, tracks={"yeast": ("a", "x")})
    with pytest.raises(CislensError, match="species 'worm', for which the model has no head"):
        ProfileObjective(net.model, tracks={"worm": ("a",)})


def test_track_weights_count_by_their_ratio() -> None:
    net = objective("enformer-tiny").eval()
    batch = random_batch([0, 0])
    only_b = ProfileObjective(net.model, track_weights={"yeast": (0.0, 3.0)}).eval()
    alone = ProfileObjective(net.model, tracks={"yeast": ("b",)}).eval()
    of_b = TorchProfileBatch(
        batch.codes_BL, batch.species_B, {"yeast": batch.targets["yeast"][..., 1:]}
    )
    torch.testing.assert_close(only_b.loss(batch).total, alone.loss(of_b).total)
    for wrong in ((1.0,), (1.0, -1.0), (1.0, math.nan)):
        with pytest.raises(CislensError, match="must be 2 numbers of at least 0"):
            ProfileObjective(net.model, track_weights={"yeast": wrong})
    with pytest.raises(CislensError, match="weights of all yeast tracks are 0"):
        ProfileObjective(net.model, track_weights={"yeast": (0.0, 0.0)})


def test_encoder_may_be_told_another_species() -> None:
    net = objective(species_dropout=0.0).eval()
    for code in net.model.encoder.codes:
        torch.nn.init.normal_(code)
    for block in net.model.encoder.blocks:
        torch.nn.init.normal_(block.ffn_norm.modulation.weight)
    batch = random_batch([0, 0])
    shown = replace(batch, shown_B=torch.tensor([1, 1]))
    assert not torch.equal(net.loss(shown).total, net.loss(batch).total)
    assert set(net.loss(shown).predictions) == {"yeast"}
    same = replace(batch, shown_B=batch.species_B)
    assert torch.equal(net.loss(same).total, net.loss(batch).total)


@pytest.mark.parametrize("species", [[0, 0], [1, 1], [0, 1]])
def test_every_parameter_is_in_the_graph_of_every_batch(species: list[int], tmp_path: Path) -> None:
    """Data-parallel training without the search for unused parameters needs this."""
    published = objective("space-paper-tiny", PAPER_TRACKS, bins=6)
    meet = f"file://{tmp_path / 'group'}"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
    try:
        for net in (published, objective()):
            net.loss(random_batch(species)).total.backward()
            trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
            assert [name for name, p in trained.items() if p.grad is None] == []
    finally:
        torch.distributed.destroy_process_group()
    if species == [0, 0]:
        assert net.model.heads[1].weight.grad.eq(0).all()


def test_running_species_statistics_move_in_training_only() -> None:
    net = objective(species_dropout=0.0)
    net.eval().loss(random_batch([0, 1]))
    assert net.experts.mass_XSE.eq(0).all()
    net.train().loss(random_batch([0, 1, 1]))
    first = net.experts.mass_XSE.clone()
    torch.testing.assert_close(first[0].sum(dim=1), torch.tensor([8.0, 16.0]))
    net.loss(random_batch([0, 1, 1], seed=1))
    assert not torch.equal(net.experts.mass_XSE, first)
    torch.testing.assert_close(net.experts.mass_XSE[0].sum(dim=1), torch.tensor([8.0, 16.0]))


def test_batch_of_one_species_contributes_no_information() -> None:
    net = objective(species_dropout=0.0)
    net.loss(random_batch([0, 1]))
    assert net.loss(random_batch([1, 1])).terms["mutual_information"] == 0


def test_mutual_information_is_maximized() -> None:
    """Its gradient separates the species' routers when nothing else is learned."""
    net = objective(species_dropout=0.0)
    experts = net.model.encoder.blocks[0].ffn
    parameters = [*net.model.encoder.codes, experts.species_router.weight]
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    batch = random_batch([0, 1, 0, 1])
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        routings = net.model.predict(one_hot(batch.codes_BL), batch.species_B).embedding.routing
        information = net.experts._information(0, routings[0])
        (-information).backward()
        optimizer.step()
        values.append(information.item())
    assert values[0] < 0.05
    assert 0.3 < values[-1] <= math.log(2) + 1e-5


def planted(seed: int, windows: int = 24, bins: int = 16) -> TorchProfileBatch:
    """Each species has its own motif: rate 4 in the bins that hold it, 0.25 elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 4, (windows, 16 * bins), generator=rng, dtype=torch.uint8)
    species = torch.arange(windows) % 2
    rate = torch.full((windows, bins), 0.25)
    for window in range(windows):
        motif = torch.tensor(["ACGT".index(b) for b in list(MOTIFS.values())[window % 2]])
        for _ in range(3):
            at = int(torch.randint(1, bins - 1, (1,), generator=rng))
            codes[window, 16 * at + 4 : 16 * at + 12] = motif.to(torch.uint8)
            rate[window, at] = 4.0
    targets = {
        name: rate[species == index, 1:-1, None].expand(-1, -1, len(TRACKS[name])).clone()
        for index, name in enumerate(TRACKS)
    }
    return TorchProfileBatch(codes, species, targets)


def constant_rate_loss(batch: TorchProfileBatch) -> float:
    """Poisson loss of the best constant per species."""
    losses = [t.mean() * (1 - t.mean().log()) for t in batch.targets.values()]
    return float(torch.stack(losses).mean())


def oracle_loss(batch: TorchProfileBatch) -> float:
    """Poisson loss of the true rates."""
    return float(torch.stack([(t - t * t.log()).mean() for t in batch.targets.values()]).mean())


def train(net: ProfileObjective, optimizer: Any, steps: range) -> None:
    net.train()
    for step in steps:
        torch.manual_seed(step)
        losses = net.loss(planted(step))
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


@pytest.mark.parametrize("preset", ["enformer-tiny", "space-plus-tiny"])
def test_learns_planted_motifs_of_two_species(preset: str) -> None:
    """100 steps fall 20 % below the best constant rate and 90 % of the way to the truth."""
    net = objective(preset)
    train(net, torch.optim.AdamW(net.parameters(), lr=3e-3), range(100))
    held_out = planted(10_000, windows=64)
    net.eval()
    with torch.no_grad():
        losses = net.loss(held_out)
    constant, oracle = constant_rate_loss(held_out), oracle_loss(held_out)
    reached = losses.terms["poisson"].item()
    assert reached < 0.8 * constant
    assert (reached - oracle) / (constant - oracle) < 0.1
    metrics = net.metrics()
    metrics.update(losses.predictions, held_out.targets)
    for values in metrics.compute().values():
        assert values["pearson_window"].mean > 0.9


def test_resumed_run_is_bit_equal() -> None:
    """Weights, norm statistics, species statistics and optimizer are the whole state."""

    def fresh() -> tuple[ProfileObjective, torch.optim.Optimizer]:
        net = objective(dropout=0.2)
        return net, torch.optim.AdamW(net.parameters(), lr=1e-3)

    straight, optimizer = fresh()
    train(straight, optimizer, range(6))
    first, optimizer = fresh()
    train(first, optimizer, range(3))
    state: dict[str, Tensor] = {k: v.clone() for k, v in first.state_dict().items()}
    resumed, again = fresh()
    resumed.load_state_dict(state)
    again.load_state_dict(optimizer.state_dict())
    train(resumed, again, range(3, 6))
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
