"""The base-resolution encoder: what it must not see, what nobody may read, its size."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cislens.models.genebert.plus import GenebertPlusConfig, GenebertPlusEncoder
from cislens.models.profile import build_model

TINY: dict[str, Any] = {"dim": 24, "depth": 2, "heads": 2}


def encoder(**changes: Any) -> GenebertPlusEncoder:
    torch.manual_seed(0)
    made = GenebertPlusEncoder(GenebertPlusConfig(**{**TINY, **changes})).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def random_dna(batch: int, length: int, seed: int = 3) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def some_hidden(batch: int, length: int) -> Tensor:
    """About a fifth of the bases, among them both ends and a span longer than the stem."""
    hidden = torch.rand(batch, length, generator=torch.Generator().manual_seed(5)) < 0.2
    hidden[:, :3] = hidden[:, -3:] = hidden[:, 40:60] = True
    return hidden


def test_hidden_bases_leak_nothing() -> None:
    """Whatever stands there, N included, the outputs at all bases are the same bits."""
    model, hidden = encoder(), some_hidden(3, 96)
    x, other = random_dna(3, 96), random_dna(3, 96, seed=8)
    changed = torch.where(hidden[:, None], other, x)
    uncalled = x.masked_fill(hidden[:, None], 0.0)
    first = model.read(x, hidden)
    for shown in (changed, uncalled):
        again = model.read(shown, hidden)
        assert torch.equal(first.tokens_BJD, again.tokens_BJD)
        assert torch.equal(first.pooled_BD, again.pooled_BD)
        assert torch.equal(first.embedding.valid_BN, again.embedding.valid_BN)
    assert not torch.equal(first.tokens_BJD, model.read(changed).tokens_BJD)


def test_no_gradient_reaches_a_hidden_base() -> None:
    model, hidden = encoder(), some_hidden(2, 96)
    x = random_dna(2, 96).requires_grad_(True)
    model.read(x, hidden).tokens_BJD.square().sum().backward()
    assert x.grad is not None
    at_base = x.grad.abs().sum(1)
    assert (at_base[hidden] == 0).all()
    assert (at_base[~hidden] > 0).all()


def test_hidden_n_and_padding_are_three_things() -> None:
    """A hidden base is read by the others, an N is not; both change what the stem sees."""
    model, x = encoder(), random_dna(1, 60)
    hidden = torch.zeros(1, 60, dtype=torch.bool)
    hidden[:, 30] = True
    seen = model.read(x, hidden).embedding
    gap = model(x.masked_fill(hidden[:, None], 0.0))
    assert bool(seen.valid_BN.all())
    assert gap.valid_BN[0].tolist() == [place != 30 for place in range(60)]
    far = slice(0, 20)
    assert (seen.values_BND[:, far] - gap.values_BND[:, far]).abs().max() > 1e-4
    short, longer = model(x[:, :, :50]), model(torch.nn.functional.pad(x[:, :, :50], (0, 10)))
    torch.testing.assert_close(longer.values_BND[:, :50], short.values_BND, atol=1e-5, rtol=1e-5)
    assert longer.valid_BN[0].tolist() == [True] * 50 + [False] * 10


def test_nothing_depends_on_other_rows() -> None:
    model, x = encoder(), random_dna(4, 70)
    x[1, :, 40:] = 0
    x[2] = 0
    together = model(x)
    assert together.values_BND.isfinite().all()
    for row in (0, 1, 3):
        alone = model(x[row : row + 1])
        torch.testing.assert_close(
            together.values_BND[row][alone.valid_BN[0]],
            alone.values_BND[0][alone.valid_BN[0]],
            atol=1e-5,
            rtol=1e-5,
        )
    assert together.mean()[2].abs().max() == 0


@pytest.mark.parametrize("length", [1, 7, 511, 1500])
def test_any_length(length: int) -> None:
    embedding = encoder()(random_dna(1, length))
    assert embedding.values_BND.shape == (1, length, 24)
    assert embedding.values_BND.isfinite().all()
    assert bool(embedding.valid_BN.all())


def test_layers_come_in_order_and_end_with_the_output() -> None:
    model, x = encoder(), random_dna(2, 40)
    layers = list(model.hidden(x))
    assert model.layers == ("embed", "L1", "L2", "out")
    assert len(layers) == 4
    assert torch.equal(layers[-1].values_BND, model(x).values_BND)
    assert all(layer.bin_size == 1 for layer in layers)


def test_a_pair_tells_its_halves_apart() -> None:
    """By the segment vectors alone; a single sequence is a first segment."""
    model, half = encoder(), random_dna(1, 40)
    x = torch.cat([half, half], dim=2)
    single, pair = model.read(x).tokens_BJD, model.read(x, pair=True).tokens_BJD
    assert (single - pair).abs().max() > 1e-3
    with torch.no_grad():
        model.segments[1] = model.segments[0]
    assert torch.equal(model.read(x, pair=True).tokens_BJD, single)


def test_the_head_gives_four_logits_for_each_base() -> None:
    model = encoder()
    reading = model.read(random_dna(2, 33))
    assert model.base_head()(reading).shape == (2, 33, 4)
    assert reading.pooled_BD.shape == (2, 24)


def test_it_learns_hidden_bases_of_a_repeat() -> None:
    """ACGT ACGT ...: what stands at a hidden base follows from its neighbors."""
    torch.manual_seed(0)
    model = GenebertPlusEncoder(GenebertPlusConfig(dim=32, depth=1, heads=2))
    head = model.base_head()
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    places = torch.arange(64)[None] + torch.arange(8)[:, None]
    x = torch.nn.functional.one_hot(places % 4, 4).transpose(1, 2).float()
    for _ in range(60):
        hidden = torch.rand(8, 64) < 0.2
        logits = head(model.read(x, hidden))[hidden]
        loss = torch.nn.functional.cross_entropy(logits, x.argmax(1)[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2  # log 4 = 1.39 at chance


def test_size_of_the_base_model() -> None:
    """12 layers of 12 D^2 and two norms; stem, hidden base, segments, last norm."""
    with torch.device("meta"):
        model = GenebertPlusEncoder(GenebertPlusConfig(dim=768, depth=12, heads=12))
    blocks = 12 * (12 * 768**2 + 2 * 768)
    around = 768 * (4 * 15 + 1) + 768 + 2 * 768 + 768
    assert sum(p.numel() for p in model.parameters()) == blocks + around == 85_003_008


def test_bf16_autocast_stays_close() -> None:
    model, x = encoder(), random_dna(4, 512)
    with torch.no_grad():
        full = model(x).values_BND
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x).values_BND
    assert ((half.float() - full).norm() / full.norm()).item() < 2e-2


def test_checkpointing_gives_the_same_bits() -> None:
    plain, checkpointed, x = encoder(), encoder(), random_dna(2, 64)
    checkpointed.checkpointing = True
    for model in (plain, checkpointed):
        model(x).values_BND.square().mean().backward()
    for one, other in zip(plain.blocks.parameters(), checkpointed.blocks.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_it_is_the_trunk_of_a_profile_model() -> None:
    config = {
        "encoder": {"kind": "genebert-plus", **TINY},
        "heads": [{"species": "yeast", "tracks": ("a", "b")}],
    }
    model = build_model(config)
    rates = model(random_dna(2, 50))
    assert rates.shape == (2, 2, 50)
    rates.sum().backward()
    assert model.encoder.stem.weight.grad.abs().sum() > 0


def test_every_parameter_has_a_gradient_whatever_is_read() -> None:
    """Training on several devices waits for all of them."""
    model = encoder()
    model(random_dna(1, 20)).values_BND.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValidationError, match="even number of channels"):
        GenebertPlusConfig(dim=24, depth=1, heads=8)
