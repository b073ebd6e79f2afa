"""The published backbone: its size, its ring, what is hidden, what padding may change."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from cislens.errors import CislensError
from cislens.models.findna.paper import FindnaPaperConfig, FindnaPaperEncoder
from cislens.representations.conformance import check
from cislens.representations.encoder import EncoderEmbedding

TINY: dict[str, Any] = {"dim": 24, "hidden_dim": 40, "group": 4, "blocks": 1}
PUBLISHED: dict[str, Any] = {"dim": 308, "hidden_dim": 512, "group": 28, "blocks": 4}


def encoder(**changes: Any) -> FindnaPaperEncoder:
    torch.manual_seed(0)
    return FindnaPaperEncoder(FindnaPaperConfig(**{**TINY, **changes})).eval()


def random_dna(batch: int, length: int, seed: int = 3) -> Tensor:
    codes = torch.randint(0, 4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return F.one_hot(codes, 4).transpose(1, 2).float()


def test_the_published_size() -> None:
    """12,651,873 with a head of five letters; here four, a hidden base and a [CLS]."""
    with torch.device("meta"):
        model = FindnaPaperEncoder(FindnaPaperConfig(**PUBLISHED))
        head = model.base_head()
    ours = sum(p.numel() for p in [*model.parameters(), *head.parameters()])
    assert len(model.blocks) == 40
    assert sum(p.numel() for p in model.blocks[0].parameters()) == 316_212
    published_head, own_head, learned_slots = 5 * 309, 4 * 309, 2 * 308
    assert ours == 12_651_873 - published_head + own_head + learned_slots == 12_652_180


def test_what_lies_left_is_reached_round_the_ring() -> None:
    """A ring of 1,010: the right neighbor learns of it last, after 7 layers; the left after 1.

    -1 = 1009 is the sum of seven powers of two, none larger than 512.
    """
    model = encoder(dim=22, hidden_dim=22, group=2, blocks=1).double()
    x = random_dna(1, 1009).double()
    other = x.clone()
    other[0, :, 500] = x[0, :, 500].roll(1)
    reached = [
        (one.values_BND - two.values_BND).abs().amax(2)[0] > 0
        for one, two in zip(model.hidden(x), model.hidden(other), strict=True)
    ]
    left = [bool(layer[499]) for layer in reached]
    right = [bool(layer[501]) for layer in reached]
    assert left.index(True) == 1
    assert right.index(True) == 7
    # After one layer: itself and what lies a power of two to its left, 512 being round the ring.
    hit = reached[1].nonzero().flatten().tolist()
    assert hit == sorted({500, 500 - 512 + 1010} | {500 - 2**k for k in range(9)})


def test_alone_padded_or_in_a_batch_it_is_the_same() -> None:
    model, x = encoder(), random_dna(4, 70)
    x[1, :, 40:] = 0
    x[2] = 0
    x[3, :, 20] = 0
    together = model.read(x)
    for row, length in ((0, 70), (1, 40), (3, 70)):
        for padded in (0, 13):
            alone = model.read(F.pad(x[row : row + 1, :, :length], (0, padded)))
            for ours, theirs in (
                (alone.tokens_BJD[0, :length], together.tokens_BJD[row, :length]),
                (alone.pooled_BD[0], together.pooled_BD[row]),
            ):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert together.tokens_BJD[1, 40:].abs().max() == 0
    assert together.embedding.mean()[2].abs().max() == 0
    assert together.pooled_BD.isfinite().all()
    assert together.embedding.valid_BN[3].tolist() == [place != 20 for place in range(70)]


def test_hidden_bases_leak_nothing_even_at_the_end() -> None:
    """Whatever stands there, N included, all outputs are the same bits; no gradient gets there."""
    model, x = encoder(), random_dna(2, 60)
    hidden = torch.zeros(2, 60, dtype=torch.bool)
    hidden[:, 10:20] = hidden[0, 57:] = True
    first = model.read(x, hidden)
    changed = torch.where(hidden[:, None], random_dna(2, 60, seed=8), x)
    for shown in (changed, x.masked_fill(hidden[:, None], 0.0)):
        again = model.read(shown, hidden)
        assert torch.equal(first.tokens_BJD, again.tokens_BJD)
        assert torch.equal(first.pooled_BD, again.pooled_BD)
    assert bool(first.embedding.valid_BN.all())
    x.requires_grad_(True)
    model.read(x, hidden).tokens_BJD.square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(1)[hidden] == 0).all()


def test_hidden_n_cls_and_each_base_start_as_different_vectors() -> None:
    model, x = encoder(), torch.eye(4)[None].repeat(1, 1, 2)
    x[0, :, 4] = 0
    hidden = torch.zeros(1, 8, dtype=torch.bool)
    hidden[0, 5] = True
    start = next(model._layers(x, hidden))
    vectors = torch.cat([start.values_BND[0, :6], start.summary_BD])
    assert torch.cdist(vectors, vectors).add(torch.eye(7)).min() > 1e-2


def test_layers_come_in_order_and_summaries_are_offered() -> None:
    model, x = encoder(), random_dna(2, 40)
    layers = list(model.hidden(x))
    assert model.layers == ("embed", "L1", "L2", "L3", "L4", "out")
    assert len(layers) == 6
    assert torch.equal(layers[-1].values_BND, model(x).values_BND)
    views = EncoderEmbedding(model, "findna-paper").views
    assert views[-4:] == ("out.center", "out.max", "out.mean", "out.summary")
    assert "embed.summary" not in views


def test_it_conforms() -> None:
    rep = EncoderEmbedding(encoder(), "findna-paper")
    assert check(rep, reference=EncoderEmbedding(encoder(), "findna-paper")) == []


def test_checkpointing_gives_the_same_bits_and_all_parameters_learn() -> None:
    plain, checkpointed, x = encoder(), encoder(), random_dna(2, 64)
    checkpointed.checkpointing = True
    for model in (plain, checkpointed):
        model(x).values_BND.square().mean().backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("length", [1, 2, 600])
def test_any_length(length: int) -> None:
    embedding = encoder()(random_dna(1, length))
    assert embedding.values_BND.shape == (1, length, 24)
    assert embedding.values_BND.isfinite().all()


def test_weights_of_another_map_are_refused() -> None:
    model = encoder()
    state = model.state_dict()
    state["offsets.map"] = state["offsets.map"].flip(0)
    with pytest.raises(CislensError, match="trained with channel groups that move by"):
        model.load_state_dict(state)


def test_impossible_shapes_are_refused() -> None:
    for dim in (25, 4):
        with pytest.raises(ValidationError, match="no two or more groups of 4 channels"):
            FindnaPaperConfig(**{**TINY, "dim": dim})
