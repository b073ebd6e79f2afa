"""The encoder of 8-bp tokens: what it must not see, what padding may change, its size."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.findna.plus import FindnaPlusConfig, FindnaPlusEncoder
from cislens.models.presets import PRESETS, encoder_config
from cislens.models.profile import build_model
from cislens.objectives.watched import vector

TINY: dict[str, Any] = {"dim": 16, "depth": 3, "stem_dim": 8}
SHAPES = [
    {"block": "gated"},
    {"block": "mixer"},
    {"block": "gated", "rc_equivariant": True},
    {"block": "mixer", "rc_equivariant": True},
]
every_shape = pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values()))
)


def encoder(**changes: Any) -> FindnaPlusEncoder:
    """With all weights away from where they start, so that nothing is zero by chance."""
    torch.manual_seed(0)
    made = FindnaPlusEncoder(FindnaPlusConfig(**{**TINY, **changes})).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def random_dna(batch: int, length: int, seed: int = 3) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def some_hidden(batch: int, length: int) -> Tensor:
    """About a fifth of the bases, among them both ends and whole tokens."""
    hidden = torch.rand(batch, length, generator=torch.Generator().manual_seed(5)) < 0.2
    hidden[:, :3] = hidden[:, -3:] = hidden[:, 40:64] = True
    return hidden


@every_shape
def test_hidden_bases_leak_nothing(shape: dict[str, Any]) -> None:
    """Whatever stands there, N included, tokens and logits at all bases are the same bits."""
    model, hidden = encoder(**shape), some_hidden(3, 100)
    head = model.base_head()
    x, other = random_dna(3, 100), random_dna(3, 100, seed=8)
    first = model.read(x, hidden)
    for shown in (torch.where(hidden[:, None], other, x), x.masked_fill(hidden[:, None], 0.0)):
        again = model.read(shown, hidden)
        assert torch.equal(first.tokens_BJD, again.tokens_BJD)
        assert torch.equal(first.pooled_BD, again.pooled_BD)
        assert torch.equal(first.embedding.valid_BN, again.embedding.valid_BN)
        assert torch.equal(head(first), head(again))
    assert not torch.equal(head(first), head(model.read(x)))


@every_shape
def test_no_gradient_reaches_a_hidden_base(shape: dict[str, Any]) -> None:
    model, hidden = encoder(**shape), some_hidden(2, 96)
    x = random_dna(2, 96).requires_grad_(True)
    model.base_head()(model.read(x, hidden)).square().sum().backward()
    assert x.grad is not None
    at_base = x.grad.abs().sum(1)
    assert (at_base[hidden] == 0).all()
    assert (at_base[~hidden] > 0).all()


@every_shape
@pytest.mark.parametrize("length", [1, 8, 61, 96])
def test_alone_padded_and_in_a_batch_are_the_same(shape: dict[str, Any], length: int) -> None:
    """To 1e-5, tokens and logits; with N and hidden bases inside, and hidden bases at the end."""
    model = encoder(**shape)
    head = model.base_head()
    x, hidden = random_dna(1, length), some_hidden(1, 96)[:, :length]
    x[:, :, 9:12] = x[:, :, 24:41] = 0
    hidden[:, 24:41] = False
    alone = model.read(x, hidden)
    room = 128 - length
    padded = torch.nn.functional.pad(x, (0, room))
    rows = torch.cat([random_dna(1, 128, seed=8), padded, torch.zeros(1, 4, 128)])
    beside = model.read(rows, torch.nn.functional.pad(hidden, (0, room)).expand(3, -1))
    tokens = -(-length // 8)
    valid = alone.embedding.valid_BN[0]
    assert torch.equal(beside.embedding.valid_BN[1, :tokens], valid)
    assert not beside.embedding.valid_BN[1, tokens:].any()
    together = beside.tokens_BJD[1, :tokens]
    torch.testing.assert_close(together[valid], alone.tokens_BJD[0, valid], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(beside.pooled_BD[1], alone.pooled_BD[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head(beside)[1, :length], head(alone)[0], atol=1e-5, rtol=1e-5)
    assert beside.tokens_BJD.isfinite().all()


def test_hidden_n_and_shown_are_three_things() -> None:
    model, x = encoder(), random_dna(1, 64)
    place = torch.arange(64)[None] == 30
    shown, hidden = model(x).values_BND, model.read(x, place).tokens_BJD
    uncalled = model(x.masked_fill(place[:, None], 0.0)).values_BND
    assert (shown - hidden).abs().max() > 1e-3
    assert (shown - uncalled).abs().max() > 1e-3
    assert (hidden - uncalled).abs().max() > 1e-3


@every_shape
def test_tokens_without_a_called_base_are_read_by_nobody(shape: dict[str, Any]) -> None:
    """What a gap would give has no influence: the output is that with other weights inside it."""
    model, x = encoder(**shape), random_dna(1, 96)
    x[:, :, 32:64] = 0
    reference = model(x)
    assert reference.valid_BN[0].tolist() == [not 4 <= token < 8 for token in range(12)]
    seen: list[Tensor] = []
    model.stem.register_forward_hook(lambda _, __, made: seen.append(made))
    model(x)
    assert seen[0][:, 4:8].abs().max() == 0
    spoil = model.stem.register_forward_hook(lambda _, __, made: disturbed(made))
    again = model(x)
    spoil.remove()
    valid = reference.valid_BN
    assert torch.equal(again.values_BND[valid], reference.values_BND[valid])


def disturbed(made: Tensor) -> Tensor:
    made = made.clone()
    made[:, 4:8] = 7.0
    return made


@pytest.mark.parametrize("block", ["gated", "mixer"])
def test_both_strands_have_the_same_tokens(block: str) -> None:
    """In the other order, with their halves exchanged; the pooled vector is the same. To 1e-5."""
    model, x = encoder(block=block, rc_equivariant=True), random_dna(3, 96)
    x[1, :, 40:43] = 0
    hidden = some_hidden(3, 96)
    given, turned = model.read(x, hidden), model.read(x.flip(1, 2), hidden.flip(1))
    exchanged = torch.cat(given.tokens_BJD.flip(1).chunk(2, dim=2)[::-1], dim=2)
    torch.testing.assert_close(turned.tokens_BJD, exchanged, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned.pooled_BD, given.pooled_BD, atol=1e-5, rtol=1e-5)
    # It is what is distilled and embedded.
    torch.testing.assert_close(vector(turned.embedding), given.pooled_BD, atol=1e-5, rtol=1e-5)
    assert (given.tokens_BJD - turned.tokens_BJD.flip(1)).abs().max() > 1e-2
    plain = encoder(block=block)
    forward, backward = plain.read(x).pooled_BD, plain.read(x.flip(1, 2)).pooled_BD
    assert (forward - backward).abs().max() > 1e-2


def test_a_base_is_read_as_far_as_the_dilations_say() -> None:
    """With one block of dilation 1: 4 tokens to either side, and what the stem adds, 1 token."""
    model, x = encoder(depth=1), random_dna(1, 256)
    changed = x.clone()
    changed[:, :, 128] = x[:, :, 128].roll(1, dims=1)
    moved = (model(changed).values_BND - model(x).values_BND).abs().amax((0, 2)).nonzero()
    assert moved.min() >= 16 - 4 - 2
    assert moved.max() <= 16 + 4 + 2
    assert moved.max() - moved.min() >= 8


@every_shape
def test_layers_come_in_order_and_end_with_the_output(shape: dict[str, Any]) -> None:
    model, x = encoder(**shape), random_dna(2, 40)
    layers = list(model.hidden(x))
    assert model.layers == ("embed", "L1", "L2", "L3", "out")
    assert len(layers) == 5
    assert torch.equal(layers[-1].values_BND, model(x).values_BND)
    assert all(layer.bin_size == 8 and layer.values_BND.shape == (2, 5, 16) for layer in layers)


@pytest.mark.parametrize("block", ["gated", "mixer"])
def test_it_learns_hidden_bases_of_a_repeat(block: str) -> None:
    """ACGT ACGT ...: what stands at a hidden base follows from its neighbors."""
    torch.manual_seed(0)
    model = FindnaPlusEncoder(FindnaPlusConfig(**{**TINY, "depth": 1, "block": block}))
    head = model.base_head()
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=8e-3)
    places = torch.arange(64)[None] + torch.arange(8)[:, None]
    x = torch.nn.functional.one_hot(places % 4, 4).transpose(1, 2).float()
    for _ in range(40):
        hidden = torch.rand(8, 64) < 0.2
        logits = head(model.read(x, hidden))[hidden]
        loss = torch.nn.functional.cross_entropy(logits, x.argmax(1)[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3  # log 4 = 1.39 at chance


@pytest.mark.parametrize("block", ["gated", "mixer"])
def test_base_has_the_size_of_the_published_model(block: str) -> None:
    """12.65 million parameters there; 11.5 to 13.3 million here, with either block."""
    assert 11.5e6 < size("findna-plus-base", block=block) < 13.3e6


def test_sizes_of_the_presets() -> None:
    """Exact, so that no layer comes or goes unseen; a gated block has 9 D^2 + 20 D weights."""
    assert size("findna-plus-tiny") == 210_592
    assert size("findna-plus-small") == 3_057_280
    assert size("findna-plus-base") == 11_775_104
    deeper = size("findna-plus-tiny", depth=5) - size("findna-plus-tiny")
    assert deeper == 9 * 64**2 + 20 * 64
    assert abs(size("findna-plus-tiny", block="mixer") / size("findna-plus-tiny") - 1) < 0.02


def size(name: str, **changes: Any) -> int:
    with torch.device("meta"):
        model = FindnaPlusEncoder(encoder_config(name, (), **changes))
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda state: state["offsets.table"].add_(1), "trained with dilations 2, 3, 5, this"),
        (lambda state: state.pop("offsets.table"), "offsets.table"),
    ],
    ids=["another", "none"],
)
def test_weights_of_other_dilations_are_refused(
    change: Callable[[dict[str, Tensor]], Any], match: str
) -> None:
    model = encoder()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    change(state)
    with pytest.raises((CislensError, RuntimeError), match=match):
        model.load_state_dict(state)


def test_bf16_autocast_stays_close() -> None:
    model, x = encoder(), random_dna(4, 256)
    with torch.no_grad():
        full = model(x).values_BND
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x).values_BND
    assert half.dtype == torch.float32
    assert ((half - full).norm() / full.norm()).item() < 3e-2


@every_shape
def test_checkpointing_gives_the_same_bits(shape: dict[str, Any]) -> None:
    plain, checkpointed, x = encoder(**shape), encoder(**shape), random_dna(2, 61)
    checkpointed.checkpointing = True
    for model in (plain, checkpointed):
        model(x).values_BND.square().mean().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@every_shape
def test_every_parameter_has_a_gradient_whatever_is_read(shape: dict[str, Any]) -> None:
    """Training on several devices waits for all of them."""
    model = encoder(**shape)
    model(random_dna(1, 20)).values_BND.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_it_is_the_trunk_of_a_profile_model() -> None:
    config = {
        "encoder": {"kind": "findna-plus", **TINY},
        "heads": [{"species": "yeast", "tracks": ("a", "b")}],
    }
    model = build_model(config)
    rates = model(random_dna(2, 50))
    assert rates.shape == (2, 2, 7)
    rates.sum().backward()
    assert model.encoder.stem.near.weight.grad.abs().sum() > 0


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValidationError, match="half of the channels, not 15"):
        FindnaPlusConfig(dim=15, depth=1, rc_equivariant=True)
    with pytest.raises(CislensError, match="findna-plus-tiny"):
        encoder_config("findna-plus-tny", ())
    with pytest.raises(CislensError, match="blok"):
        encoder_config("findna-plus-tiny", (), blok="mixer")


def test_every_preset_has_an_encoder_that_reads() -> None:
    names = [name for name in PRESETS if name.startswith("findna")]
    assert len(names) >= 5
    for name in names:
        assert encoder_config(name, ("yeast",)).kind == name.rsplit("-", 1)[0]
