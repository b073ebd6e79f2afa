"""The published SPACE model: sizes and shapes, the species token, species in a batch."""

from collections import Counter
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.models.decoders.contract import HeadConfig
from cislens.models.decoders.paper import PAPER_GROUPS, PaperDecoder, PaperDecoderConfig
from cislens.models.space_paper import SpacePaperConfig, SpacePaperEncoder
from cislens.nn.gate_losses import encoder_terms
from cislens.nn.positions import relative_basis

BASE: dict[str, Any] = {
    "dim": 1536,
    "depth": 11,
    "heads": 8,
    "key_dim": 64,
    "width_multiple": 128,
}
TINY: dict[str, Any] = {
    "dim": 24,
    "depth": 2,
    "heads": 2,
    "key_dim": 8,
    "width_multiple": 4,
    "bin_size": 16,
}
# Rows of the published target tables in each type.
ROWS = {"human": (684, 1889, 2102, 638), "mouse": (228, 291, 767, 357)}


def encoder(species: tuple[str, ...] = ("human", "mouse"), **changes: Any) -> SpacePaperEncoder:
    """A tiny encoder in eval mode whose attention does something, which it does not at first."""
    torch.manual_seed(0)
    model = SpacePaperEncoder(SpacePaperConfig(species=species, **{**TINY, **changes})).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "to_out" in name:
                weight.normal_(std=0.3)
    return model


def whole(shape: dict[str, Any], rows: dict[str, tuple[int, ...]], bins: int = 896) -> nn.Module:
    """Encoder, heads and decoder, as a profile model holds them."""
    config = SpacePaperConfig(species=tuple(rows), **shape)
    heads = []
    for species, counts in rows.items():
        kinds = zip(PAPER_GROUPS, counts, strict=True)
        groups = tuple(group for group, count in kinds for _ in range(count))
        tracks = tuple(map(str, range(len(groups))))
        heads.append(HeadConfig(species=species, tracks=tracks, groups=groups))
    parts = nn.ModuleDict({"encoder": SpacePaperEncoder(config)})
    linear = (nn.Linear(2 * config.dim, len(head.tracks)) for head in heads)
    parts["heads"] = nn.ModuleList(linear)
    decoder = PaperDecoderConfig(bins=bins)
    parts["decoder"] = PaperDecoder(decoder, tuple(heads), 2 * config.dim, config.dim)
    return parts


def random_dna(batch: int, length: int, seed: int = 3) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def published_shapes(dim: int, depth: int, heads: int, key_dim: int, q: int, bins: int) -> Counter:  # type: ignore[type-arg]
    """Shapes of the published state dict, entry by entry, for two species of the given rows."""
    half = dim // 2
    outs = [round(half * 2 ** (i / 5) / q) * q for i in range(6)]
    norm = lambda c: [(c,)] * 4 + [()]  # noqa: E731
    shapes: list[tuple[int, ...]] = [(half, 4, 15), (half,), *norm(half), (half, half, 1), (half,)]
    shapes += [(half, half, 1, 1)]
    for c, o in zip([half, *outs[:-1]], outs, strict=True):
        shapes += [*norm(c), (o, c, 5), (o,), *norm(o), (o, o, 1), (o,), (o, o, 1, 1)]
    shapes += [(1, 1, dim)] * 2
    for _ in range(depth):
        shapes += [(dim,), (dim,), *[(heads * key_dim, dim)] * 2, (dim, dim), (dim, dim), (dim,)]
        shapes += [(heads * key_dim, dim // heads), *[(1, heads, 1, key_dim)] * 2]
        shapes += [(dim,), (dim,), *[(4, dim), (4,)] * 2]
        shapes += [(4, dim, 2 * dim), (4, 2 * dim), (4, 2 * dim, dim), (4, dim)]
    shapes += [*norm(dim), (2 * dim, dim, 1), (2 * dim,)]
    for rows in ROWS.values():
        shapes += [(sum(rows), 2 * dim), (sum(rows),)]
    shapes += [(8, 2 * dim), (8,), (8, dim), (8,), *[(8, bins), (8,)] * 8, (bins,), (bins,)]
    shapes += [(8, bins, 2 * bins), (8, 2 * bins), (8, 2 * bins, bins), (8, bins)]
    return Counter([*shapes, *[(1, 1, bins)] * 4])


def test_parameters_and_entries_of_the_published_model() -> None:
    with torch.device("meta"):
        model = whole(BASE, ROWS)
    assert sum(p.numel() for p in model.parameters()) == 588_750_036
    entries = model.state_dict()
    assert len(entries) == 363
    assert sum(value.dtype == torch.int64 for value in entries.values()) == 14
    assert Counter(map(_shape, entries.values())) == published_shapes(1536, 11, 8, 64, 128, 896)


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)


def test_shapes_of_a_narrow_model_are_the_published_ones_too() -> None:
    with torch.device("meta"):
        shape = {"dim": 96, "depth": 3, "heads": 4, "key_dim": 16, "width_multiple": 16}
        model = whole(shape, ROWS, bins=64)
    found = Counter(map(_shape, model.state_dict().values()))
    assert found == published_shapes(96, 3, 4, 16, 16, 64)


@pytest.mark.parametrize(("length", "bins"), [(131_072, 1024), (196_608, 1536)])
def test_activations_at_the_published_size(length: int, bins: int) -> None:
    with torch.device("meta"):
        model = whole(BASE, ROWS).eval()
        layers = list(model["encoder"].hidden(torch.zeros(1, 4, length), torch.zeros(1).long()))
        crop = (bins - 896) // 2
        y = layers[-1].values_BND[:, crop : bins - crop]
        valid = layers[-1].valid_BN[:, crop : bins - crop]
        logits = model["heads"][1](y)
        decoded = model["decoder"](1, 1, logits, y, layers[-1].species_BC, valid)
    assert [_shape(layer.values_BND) for layer in layers] == [(1, bins, 1536)] * 12 + [
        (1, bins, 3072)
    ]
    assert layers[-1].species_BC.shape == (1, 1536)
    assert [_shape(r.gates_TE) for r in layers[-1].routing] == [(bins + 1, 4)] * 11
    assert decoded.logits_BNT.shape == decoded.auxiliary_BNT.shape == (1, 896, 1643)


def test_layers_have_names_and_the_last_is_the_output() -> None:
    model = encoder()
    x, species = random_dna(2, 256), torch.tensor([0, 1])
    layers = list(model.hidden(x, species))
    assert model.layers == ("embed", "L1", "L2", "out")
    assert len(layers) == 4
    assert torch.equal(layers[-1].values_BND, model(x, species).values_BND)
    assert [len(layer.routing) for layer in layers] == [0, 1, 2, 2]
    token = model.species_tokens[1].flatten()
    assert torch.equal(layers[0].species_BC[1], token)
    assert torch.equal(layers[-1].species_BC, layers[-2].species_BC)
    assert (layers[-1].species_BC[1] - token).abs().max() > 1e-2


def test_the_species_token_stands_after_the_last_bin() -> None:
    """The block sees n = bins + 1 tokens: a block on them by hand gives the same."""
    model = encoder(depth=1)
    x, species = random_dna(1, 256), torch.tensor([1])
    before, after, _ = model.hidden(x, species)
    tokens = torch.cat([before.values_BND, model.species_tokens[1]], dim=1)
    assert tokens.shape[1] == 17
    basis = relative_basis(17, 12, "feature-axis", 16)
    valid = torch.ones(1, 17, dtype=torch.bool)
    wanted, _ = model.blocks[0](tokens, basis, valid, None, species)
    torch.testing.assert_close(after.values_BND, wanted[:, :-1])
    torch.testing.assert_close(after.species_BC, wanted[:, -1])
    assert model.config.positions == "feature-axis"


def test_a_batch_of_two_species_equals_each_species_alone() -> None:
    model = encoder(species=("human", "mouse", "fly"))
    x, species = random_dna(5, 256), torch.tensor([0, 2, -1, 1, 0])
    together = model(x, species)
    for window in range(5):
        alone = model(x[window : window + 1], species[window : window + 1])
        for name in ("values_BND", "species_BC"):
            torch.testing.assert_close(
                getattr(together, name)[window], getattr(alone, name)[0], atol=1e-5, rtol=1e-5
            )
    other = model(x, torch.tensor([1, 1, 1, 1, 1])).values_BND
    changed = (other - together.values_BND).abs().amax(dim=(1, 2))
    assert changed[[0, 1, 2, 4]].min() > 1e-2
    assert changed[3] < 1e-5


def test_unknown_species_is_the_mean_of_the_tokens() -> None:
    model = encoder()
    x = random_dna(2, 256)
    unknown = model(x)
    assert torch.equal(unknown.values_BND, model(x, torch.tensor([-1, -1])).values_BND)
    first = next(iter(model.hidden(x)))
    mean = (model.species_tokens[0] + model.species_tokens[1]) / 2
    torch.testing.assert_close(first.species_BC[0], mean.flatten())
    assert unknown.routing[0].species_T.unique().tolist() == [-1]


def test_add_species_adds_a_token_and_a_gate_per_layer_and_touches_nothing() -> None:
    model = encoder()
    x, species = random_dna(4, 256), torch.tensor([0, 1, 1, 0])
    stored = {name: value.clone() for name, value in model.state_dict().items()}
    before = model(x, species)
    model.add_species("chicken")
    after = model(x, species)
    assert torch.equal(before.values_BND, after.values_BND)
    assert torch.equal(before.species_BC, after.species_BC)
    entries = model.state_dict()
    assert entries.keys() - stored.keys() == {
        "species_tokens.2",
        *(f"blocks.{i}.experts.gates.2.{part}" for i in (0, 1) for part in ("weight", "bias")),
    }
    assert all(torch.equal(entries[name], value) for name, value in stored.items())
    mean = (model.species_tokens[0] + model.species_tokens[1]) / 2
    torch.testing.assert_close(model.species_tokens[2], mean)
    assert model.species == model.config.species == ("human", "mouse", "chicken")
    assert model(x, torch.full((4,), 2)).values_BND.isfinite().all()
    with pytest.raises(CislensError, match="already has"):
        model.add_species("mouse")


def test_one_species_can_be_frozen() -> None:
    model = encoder().train()
    model.species_tokens[0].requires_grad_(False)
    model(random_dna(2, 256), torch.tensor([0, 1])).values_BND.square().sum().backward()
    assert model.species_tokens[0].grad is None
    assert model.species_tokens[1].grad.abs().max() > 0


def test_gradients_reach_every_parameter() -> None:
    model = encoder(dropout=0.0).train()
    embedding = model(random_dna(4, 512), torch.tensor([0, 1, 1, 0]))
    loss = embedding.values_BND.square().mean() + embedding.species_BC.square().mean()
    terms = encoder_terms(embedding.routing, 2)
    (loss + terms["mutual_information"]).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_checkpointing_gives_the_same_gradients() -> None:
    """Bit by bit, with dropout and the terms of the gates."""
    x, species = random_dna(4, 256), torch.tensor([0, 1, 1, 0])
    gradients = []
    for checkpointing in (False, True):
        model = encoder().train()
        model.checkpointing = checkpointing
        torch.manual_seed(1)
        embedding = model(x, species)
        loss = embedding.values_BND.square().mean() + encoder_terms(embedding.routing, 2)["z"]
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(gradients[1][name], value) for name, value in gradients[0].items())


def test_windows_with_a_gap_hide_it_from_the_other_bins() -> None:
    model = encoder()
    x = random_dna(1, 512)
    x[:, :, 128:256] = 0
    embedding = model(x, torch.tensor([0]))
    assert embedding.valid_BN.sum().item() == 24
    assert embedding.values_BND.isfinite().all()
    weight = embedding.routing[0].weight_T
    assert weight.sum().item() == 25  # with the species token
    with torch.no_grad():
        # What the tower makes of the gap, no other bin and no species token may see.
        hook = model.tower.register_forward_hook(lambda _m, _i, x: _disturb(x, slice(8, 16)))
        disturbed = model(x, torch.tensor([0]))
        hook.remove()
    valid = embedding.valid_BN
    torch.testing.assert_close(disturbed.values_BND[valid], embedding.values_BND[valid])
    torch.testing.assert_close(disturbed.species_BC, embedding.species_BC)
    change = (disturbed.values_BND - embedding.values_BND)[~valid].abs()
    assert change.amax(dim=1).min() > 0.1


def _disturb(x_BND: Tensor, bins: slice) -> Tensor:
    changed = x_BND.clone()
    changed[:, bins] += 5.0
    return changed


def test_bf16_autocast_stays_close() -> None:
    model = encoder()
    x, species = random_dna(4, 512), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        full = model(x, species)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x, species)
    assert half.values_BND.isfinite().all()
    # A bin near a tie may go to another expert; the bins routed alike are compared.
    alike = torch.ones_like(full.valid_BN)
    for a, b in zip(full.routing, half.routing, strict=True):
        same = (a.kept_TK.sort(dim=1).values == b.kept_TK.sort(dim=1).values).all(dim=1)
        alike &= same.view(4, -1)[:, :-1]
    assert alike.float().mean() > 0.9
    difference = (half.values_BND.float() - full.values_BND)[alike]
    assert (difference.norm() / full.values_BND[alike].norm()).item() < 2e-2


def narrow() -> tuple[nn.Module, Tensor, Tensor]:
    """A whole narrow model, windows and species."""
    torch.manual_seed(0)
    model = whole(TINY, {"human": (1, 2, 3, 2), "mouse": (2, 0, 1, 1)}, bins=32)
    return model.eval(), random_dna(4, 512), torch.tensor([0, 0, 1, 1])


def rates(model: nn.Module, x: Tensor, species: Tensor) -> list[Tensor]:
    """Logits of the first two windows by the first head, of the others by the second."""
    out = model["encoder"](x, species)
    found = []
    for head, rows in enumerate((slice(0, 2), slice(2, 4))):
        y, valid = out.values_BND[rows], out.valid_BN[rows]
        logits = model["heads"][head](y)
        decoded = model["decoder"](head, head, logits, y, out.species_BC[rows], valid)
        found += [decoded.logits_BNT, decoded.auxiliary_BNT]
    return found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_is_cpu_in_fp32() -> None:
    model, x, species = narrow()
    expected = rates(model, x, species)
    found = rates(model.cuda(), x.cuda(), species.cuda())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("half", [False, True])
def test_a_step_does_not_wait_for_the_gpu(half: bool) -> None:
    model, x, species = narrow()
    model, x, species = model.cuda().train(), x.cuda(), species.cuda()

    def step() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            total = torch.stack([rate.square().mean() for rate in rates(model, x, species)]).sum()
        total.backward()
        return total.detach()

    step()  # makes the position table and the order of the tracks
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert total.isfinite()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": 5}, "more than the 4 experts"),
        ({"species": ("a", "a")}, "named twice"),
        ({"positions": "bp"}, "feature-axis"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SpacePaperConfig(**{**TINY, "species": ("a", "b"), **changes})
