"""SPACE: how the species enters, what it must not change, and the dense control."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cislens.errors import CislensError
from cislens.models.profile import ProfileModel, build_model
from cislens.models.space_plus import SpacePlusConfig, SpacePlusEncoder
from cislens.nn.experts import Experts

TINY: dict[str, Any] = {
    "dim": 24,
    "depth": 2,
    "heads": 2,
    "key_dim": 8,
    "width_multiple": 4,
    "bin_size": 16,
    "experts": 4,
    "code_dim": 8,
}


def encoder(species: tuple[str, ...] = ("human", "mouse"), **changes: Any) -> SpacePlusEncoder:
    torch.manual_seed(0)
    return SpacePlusEncoder(SpacePlusConfig(species=species, **{**TINY, **changes})).eval()


def with_species(model: SpacePlusEncoder) -> SpacePlusEncoder:
    """Give the species a say, which it does not have at the start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for code in model.codes:
            code.normal_()
        for name, weight in model.named_parameters():
            if "modulation" in name or "species_router" in name or "to_out" in name:
                weight.normal_(std=0.3)
    return model


def profile_model() -> ProfileModel:
    torch.manual_seed(0)
    species = ("human", "mouse")
    config = {
        "encoder": {"kind": "space-plus", "species": species, **TINY},
        "heads": [
            {"species": "human", "tracks": ("a", "b")},
            {"species": "mouse", "tracks": ("c",)},
        ],
    }
    model = build_model(config).eval()
    with_species(model.encoder)
    return model


def random_dna(batch: int, length: int) -> torch.Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def test_species_are_equal_at_init_without_their_router_term() -> None:
    model = encoder()
    for block in model.blocks:
        torch.nn.init.zeros_(block.ffn.species_router.weight)
    x = random_dna(2, 256)
    human, mouse, unknown = (
        model(x, s).values_BND for s in (torch.zeros(2).long(), torch.ones(2).long(), None)
    )
    assert torch.equal(human, mouse)
    assert torch.equal(human, unknown)


def test_species_matter_once_trained_and_unknown_is_a_third_way() -> None:
    model = with_species(encoder())
    x = random_dna(2, 256)
    human, mouse, unknown = (
        model(x, s).values_BND for s in (torch.zeros(2).long(), torch.ones(2).long(), None)
    )
    assert (human - mouse).abs().max() > 1e-3
    assert (human - unknown).abs().max() > 1e-3
    assert torch.equal(unknown, model(x, torch.tensor([-1, -1])).values_BND)


def test_permuting_windows_and_species_permutes_outputs() -> None:
    model = with_species(encoder())
    x, species = random_dna(4, 256), torch.tensor([0, 1, -1, 1])
    order = torch.tensor([2, 0, 3, 1])
    straight = model(x, species).values_BND[order]
    permuted = model(x[order], species[order]).values_BND
    torch.testing.assert_close(permuted, straight, atol=1e-6, rtol=1e-5)


def test_add_species_leaves_the_others_bit_equal() -> None:
    model = profile_model()
    x, species = random_dna(4, 256), torch.tensor([0, 1, 1, 0])
    before = model.predict(x, species).tracks
    parameters = {name: value.clone() for name, value in model.state_dict().items()}
    model.add_species("chicken", ("d", "e", "f"))
    after = model.predict(x, species).tracks
    assert torch.equal(before["human"], after["human"])
    assert torch.equal(before["mouse"], after["mouse"])
    changed = {
        name
        for name, value in model.state_dict().items()
        if name not in parameters or not torch.equal(value, parameters[name])
    }
    assert changed == {"encoder.codes.2", "heads.2.weight", "heads.2.bias"}
    torch.testing.assert_close(
        model.encoder.codes[2], (model.encoder.codes[0] + model.encoder.codes[1]) / 2
    )
    assert model.species == model.encoder.species == ("human", "mouse", "chicken")
    assert model(x, "chicken").shape == (4, 3, 16)
    with pytest.raises(CislensError, match="already has"):
        model.add_species("mouse", ("x",))


def test_species_dropout_hides_species_in_training_only() -> None:
    model = with_species(encoder(dropout=0.0, species_dropout=1.0))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x, species = random_dna(2, 256), torch.tensor([0, 1])
    known = model(x, species)
    assert known.routing[0].species_T.unique().tolist() == [0, 1]
    model.train()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.eval()
    hidden = model(x, species)
    assert hidden.routing[0].species_T.unique().tolist() == [-1]
    torch.testing.assert_close(hidden.values_BND, model.eval()(x, None).values_BND)


def test_short_input_alone_and_in_a_padded_batch() -> None:
    """Equal on its bins although its tokens are sorted among others' in the expert layers."""
    model = with_species(encoder(bin_size=128))
    short, long = random_dna(1, 300), random_dna(2, 1000)[1:]
    batch = torch.cat([torch.nn.functional.pad(short, (0, 700)), long])
    species = torch.tensor([1, 0])
    with torch.no_grad():
        alone, together = model(short, species[:1]), model(batch, species)
    torch.testing.assert_close(
        together.values_BND[0, :3], alone.values_BND[0], atol=1e-5, rtol=1e-5
    )
    assert together.routing[0].weight_T.view(2, 8).sum(dim=1).tolist() == [3, 8]


def test_bf16_autocast_stays_close() -> None:
    model = with_species(encoder())
    x, species = random_dna(4, 512), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        full = model(x, species)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x, species)
    assert half.values_BND.isfinite().all()
    # A bin near a tie may go to another expert; the bins routed alike are compared.
    alike = torch.ones(full.valid_BN.numel(), dtype=torch.bool)
    for a, b in zip(full.routing, half.routing, strict=True):
        alike &= (a.kept_TK.sort(dim=1).values == b.kept_TK.sort(dim=1).values).all(dim=1)
    assert alike.float().mean() > 0.9
    x_full, x_half = (e.values_BND.float().flatten(0, 1)[alike] for e in (full, half))
    assert ((x_half - x_full).norm() / x_full.norm()).item() < 2e-2


def test_dense_control_has_no_experts_and_as_many_multiplications() -> None:
    dense, experts = encoder(ffn="dense"), encoder()
    assert not any(isinstance(module, Experts) for module in dense.modules())
    assert dense(random_dna(1, 64)).routing == ()
    active = 24 * 24 * 2 + 2 * (24 * 12 * 2)
    assert sum(p.numel() for p in dense.blocks[0].ffn.parameters() if p.ndim == 2) == active
    assert len(experts(random_dna(1, 64)).routing) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kept": 5}, "more than the 4 experts"), ({"species": ("a", "a")}, "named twice")],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SpacePlusConfig(**{**TINY, "species": ("a", "b"), **changes})
