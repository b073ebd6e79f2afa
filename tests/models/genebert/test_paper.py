"""The k-mer encoder: BERT's arithmetic, what it must not see, pieces, its size."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.genebert.paper import GenebertPaperConfig, GenebertPaperEncoder
from cislens.models.profile import build_model

TINY: dict[str, Any] = {"k": 3, "dim": 24, "depth": 2, "heads": 2}


def encoder(**changes: Any) -> GenebertPaperEncoder:
    torch.manual_seed(0)
    made = GenebertPaperEncoder(GenebertPaperConfig(**{**TINY, **changes})).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def random_dna(batch: int, length: int, seed: int = 3) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def some_hidden(batch: int, length: int) -> Tensor:
    hidden = torch.rand(batch, length, generator=torch.Generator().manual_seed(5)) < 0.1
    hidden[:, :3] = hidden[:, -3:] = hidden[:, 40:60] = True
    return hidden


@pytest.mark.peers
def test_it_computes_what_bert_computes() -> None:
    """transformers' BertModel with the same weights, padding and segments included."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `multimodal`")
    model = encoder()
    config = transformers.BertConfig(
        vocab_size=4**3 + 5, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96, max_position_embeddings=512,
    )  # fmt: skip
    bert = transformers.BertModel(config, add_pooling_layer=False).eval()
    state = {
        "embeddings.word_embeddings": model.words,
        "embeddings.position_embeddings": model.positions,
        "embeddings.token_type_embeddings": model.types,
        "embeddings.LayerNorm": model.norm,
    }
    for layer, block in enumerate(model.blocks):
        at = f"encoder.layer.{layer}."
        qkv = block.attention.to_qkv
        for name, weight, bias in zip(
            ("query", "key", "value"), qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True
        ):
            linear = torch.nn.Linear(24, 24)
            linear.weight, linear.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
            state[f"{at}attention.self.{name}"] = linear
        state |= {
            f"{at}attention.output.dense": block.attention.to_out,
            f"{at}attention.output.LayerNorm": block.attention_norm,
            f"{at}intermediate.dense": block.mlp[0],
            f"{at}output.dense": block.mlp[2],
            f"{at}output.LayerNorm": block.mlp_norm,
        }
    weights = {f"{k}.{n}": v for k, module in state.items() for n, v in module.state_dict().items()}
    missing = bert.load_state_dict(weights, strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys == []
    ids = torch.randint(0, 69, (3, 40))
    read = torch.arange(40)[None] < torch.tensor([[40], [25], [7]])
    types = (torch.arange(40) >= 20).long()
    with torch.no_grad():
        theirs = bert(
            ids, attention_mask=read.long(), token_type_ids=types.expand(3, 40),
            output_hidden_states=True,
        ).hidden_states  # fmt: skip
        ours = list(model.contextual(ids, read, types))
    assert len(theirs) == len(ours) == 3
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one[read], other[read], atol=2e-5, rtol=1e-5)


def test_hidden_bases_leak_nothing() -> None:
    """Whatever stands there, N included, the outputs at all bases are the same bits."""
    model, hidden = encoder(), some_hidden(3, 96)
    x, other = random_dna(3, 96), random_dna(3, 96, seed=8)
    first = model.read(x, hidden)
    uncalled = x.masked_fill(hidden[:, None], 0.0)
    for shown in (torch.where(hidden[:, None], other, x), uncalled):
        again = model.read(shown, hidden)
        assert torch.equal(first.tokens_BJD, again.tokens_BJD)
        assert torch.equal(first.pooled_BD, again.pooled_BD)
        assert torch.equal(first.embedding.valid_BN, again.embedding.valid_BN)
    assert not torch.equal(first.tokens_BJD, model.read(uncalled).tokens_BJD)


def test_hidden_n_and_padding_are_three_things() -> None:
    model, x = encoder(), random_dna(1, 60)
    hidden = torch.zeros(1, 60, dtype=torch.bool)
    hidden[:, 30] = True
    seen = model.read(x, hidden).embedding
    gap = model(x.masked_fill(hidden[:, None], 0.0))
    assert bool(seen.valid_BN.all())
    assert gap.valid_BN[0].tolist() == [place != 30 for place in range(60)]
    assert (seen.values_BND[:, :20] - gap.values_BND[:, :20]).abs().max() > 1e-4
    short, longer = model(x[:, :, :50]), model(torch.nn.functional.pad(x[:, :, :50], (0, 10)))
    torch.testing.assert_close(longer.values_BND[:, :50], short.values_BND, atol=1e-5, rtol=1e-5)
    assert longer.valid_BN[0].tolist() == [True] * 50 + [False] * 10


@pytest.mark.parametrize("length", [1, 2, 3, 511, 512, 513, 1100])
def test_any_length_whatever_pads_it(length: int) -> None:
    """Alone and in a batch padded to 1,500 bp: the same vectors, pieces and all."""
    model, x = encoder(), random_dna(1, length)
    with torch.no_grad():
        alone = model.read(x)
        batch = torch.cat([torch.nn.functional.pad(x, (0, 1500 - length)), random_dna(1, 1500)])
        together = model.read(batch)
    assert bool(alone.embedding.valid_BN.all())
    assert alone.embedding.values_BND.isfinite().all()
    torch.testing.assert_close(
        together.embedding.values_BND[0, :length], alone.embedding.values_BND[0],
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip
    torch.testing.assert_close(together.pooled_BD[0], alone.pooled_BD[0], atol=1e-5, rtol=1e-5)


def test_pieces_are_read_one_by_one() -> None:
    """The first 510 k-mers see nothing of base 600; the second piece does."""
    model, x = encoder(), random_dna(1, 1000)
    other = x.clone()
    other[:, :, 600] = x[:, :, 600].roll(1, dims=1)
    with torch.no_grad():
        one, two = model(x).values_BND, model(other).values_BND
    assert torch.equal(one[:, :510], two[:, :510])
    assert (one[:, 513:] - two[:, 513:]).abs().max() > 1e-3


def test_a_window_without_a_called_base_is_finite() -> None:
    x = random_dna(2, 30)
    x[0] = 0
    reading = encoder().read(x)
    assert reading.tokens_BJD.isfinite().all()
    assert reading.embedding.mean()[0].abs().max() == 0


def test_a_pair_is_two_segments_of_one_row() -> None:
    model, x = encoder(), random_dna(2, 80)
    pair, single = model.read(x, pair=True), model.read(x)
    assert pair.tokens_BJD.shape == (2, 2 * 38, 24)
    assert single.tokens_BJD.shape == (2, 78, 24)
    assert pair.embedding.values_BND.shape == (2, 80, 24)
    assert model.base_head()(pair).shape == (2, 80, 4)
    other = x.clone()
    other[:, :, 70] = x[:, :, 70].roll(1, dims=1)
    again = model.read(other, pair=True)
    assert (again.tokens_BJD[:, :38] - pair.tokens_BJD[:, :38]).abs().max() > 1e-4
    hidden = some_hidden(2, 80)
    masked = model.read(x, hidden, pair=True)
    assert torch.equal(
        masked.tokens_BJD, model.read(x.masked_fill(hidden[:, None], 0), hidden, True).tokens_BJD
    )


def test_pairs_fill_512_tokens_and_no_more() -> None:
    model = encoder(k=6)
    assert model.read(random_dna(1, 512), pair=True).tokens_BJD.shape[1] == 2 * 251  # + 3 = 505
    assert model.read(random_dna(1, 518), pair=True).tokens_BJD.shape[1] == 2 * 254
    with pytest.raises(CislensError, match="at most 259 bp each"):
        model.read(random_dna(1, 520), pair=True)
    with pytest.raises(CislensError, match="equal length"):
        model.read(random_dna(1, 51), pair=True)


def test_the_gradient_of_a_base_is_the_difference_it_makes() -> None:
    """At the tokens' vectors the slope is exact: one base changed against the gradient."""
    model, x = encoder(), random_dna(1, 20)
    model.norm, model.dropout = torch.nn.Identity(), torch.nn.Identity()
    weight = torch.randn(1, 20, 24)

    def score(x_B4L: Tensor) -> Tensor:
        return (next(model.hidden(x_B4L)).values_BND * weight).sum()

    asked = x.clone().requires_grad_(True)
    value = score(asked)
    assert torch.equal(value, score(x))
    value.backward()
    for place in (0, 7, 19):
        for base in range(4):
            other = x.clone()
            other[:, :, place] = 0
            other[:, base, place] = 1
            assert asked.grad is not None
            slope = asked.grad[0, base, place] - asked.grad[0, x[0, :, place].argmax(), place]
            torch.testing.assert_close(score(other) - value, slope, atol=1e-4, rtol=1e-4)


def test_gradients_reach_bases_through_pieces_and_not_hidden_ones() -> None:
    model, x = encoder(), random_dna(1, 1100).requires_grad_(True)
    hidden = some_hidden(1, 1100)
    model.read(x, hidden).tokens_BJD.square().sum().backward()
    assert x.grad is not None
    at_base = x.grad.abs().sum(1)
    assert (at_base[hidden] == 0).all()
    assert (at_base[:, 62:1000].gt(0) | hidden[:, 62:1000]).float().mean() > 0.9


def test_layers_end_with_the_output() -> None:
    model, x = encoder(depth=3), random_dna(2, 40)
    layers = list(model.hidden(x))
    assert model.layers == ("embed", "L1", "L2", "out")
    assert len(layers) == 4
    assert torch.equal(layers[-1].values_BND, model(x).values_BND)


def test_it_learns_the_hidden_bases_of_eight_sequences() -> None:
    torch.manual_seed(0)
    model = GenebertPaperEncoder(GenebertPaperConfig(k=3, dim=48, depth=1, heads=2, dropout=0.0))
    head = model.base_head()
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=4e-3)
    x, hidden = random_dna(8, 64), some_hidden(8, 64)
    for _ in range(100):
        logits = head(model.read(x, hidden))[hidden]
        loss = torch.nn.functional.cross_entropy(logits, x.argmax(1)[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # log 4 = 1.39 at chance


def test_size_of_the_base_model() -> None:
    """BERT-base: 85.05 M in 12 layers, 3.55 M in the embeddings of 4,101 words and 512 places."""
    with torch.device("meta"):
        model = GenebertPaperEncoder(GenebertPaperConfig(dim=768, depth=12, heads=12))
    blocks = sum(p.numel() for p in model.blocks.parameters())
    assert blocks == 12 * (12 * 768**2 + 13 * 768) == 85_054_464
    assert model.words.num_embeddings == 4101
    around = (4101 + 512 + 2 + 2) * 768
    assert sum(p.numel() for p in model.parameters()) == blocks + around == 88_600_320


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
    for model in (plain.train(), checkpointed.train()):
        torch.manual_seed(1)
        model(x).values_BND.square().mean().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_it_is_the_trunk_of_a_profile_model() -> None:
    config = {
        "encoder": {"kind": "genebert-paper", **TINY},
        "heads": [{"species": "yeast", "tracks": ("a", "b")}],
    }
    model = build_model(config)
    rates = model(random_dna(2, 50))
    assert rates.shape == (2, 2, 50)
    rates.sum().backward()
    assert model.encoder.words.weight.grad.abs().sum() > 0


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValidationError, match="does not divide"):
        GenebertPaperConfig(dim=24, depth=1, heads=7)
