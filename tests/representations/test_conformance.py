"""The suite names every planted fault of an adapter and says nothing about a sound one."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cislens.genome.codes import Codes
from cislens.models.enformer import EnformerConfig, EnformerEncoder
from cislens.representations.baselines import KmerCounts, OneHot
from cislens.representations.conformance import Finding, check
from cislens.representations.contract import Features
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.huggingface.contract import (
    Batch,
    LanguageModel,
    Tokens,
    TunedNetwork,
)
from cislens.representations.huggingface.embedding import LanguageModelEmbedding
from cislens.representations.huggingface.tokenizers import KmerTokenizer, Special

WORDS = ["".join(word) for word in itertools.product("ACGT", repeat=3)]
VOCABULARY = {
    token: i for i, token in enumerate(["<unk>", "<pad>", "<mask>", "<cls>", *WORDS, *"ACGTN"])
}


@dataclass(frozen=True)
class Shape:
    dim: int = 8
    depth: int = 2


class Toy(LanguageModel):
    """Every token sees the mean over all real tokens."""

    has_head = False

    def __init__(self, config: Shape) -> None:
        super().__init__()
        self.config, self.dim, self.depth = config, config.dim, config.depth
        self.tokens = nn.Embedding(len(VOCABULARY), config.dim)
        self.blocks = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.depth))
        self.register_buffer("scale", torch.linspace(1, 2, config.dim), persistent=False)

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        x_BTD = self.tokens(ids_BT) * self.scale
        states = [x_BTD]
        weight_BT1 = mask_BT[..., None].float()
        for block in self.blocks:
            mean_B1D = (x_BTD * weight_BT1).sum(1, keepdim=True) / weight_BT1.sum(1, keepdim=True)
            x_BTD = x_BTD + torch.tanh(block(x_BTD + mean_B1D))
            states.append(x_BTD)
        return states

    def logits(self, state_XD: Tensor) -> Tensor:
        raise AssertionError("a toy has no head")


def tokenizer(kind: type[KmerTokenizer] = KmerTokenizer) -> KmerTokenizer:
    return kind(VOCABULARY, Special(VOCABULARY, ("cls",), (), "toy"), "toy")


def toy(
    model: type[Toy] = Toy,
    kind: type[LanguageModelEmbedding] = LanguageModelEmbedding,
    tokens: type[KmerTokenizer] = KmerTokenizer,
) -> LanguageModelEmbedding:
    torch.manual_seed(0)
    return kind(model(Shape()), tokenizer(tokens), "toy", max_tokens=64)


def checks(found: Sequence[Finding]) -> set[str]:
    return {finding.check for finding in found}


def test_sound_representations_pass() -> None:
    assert check(toy(), reference=toy()) == []
    assert check(KmerCounts(3)) == []
    assert check(OneHot(), lengths=(61,)) == []
    torch.manual_seed(0)
    shape = {"dim": 24, "depth": 1, "heads": 2, "key_dim": 8, "width_multiple": 4, "bin_size": 16}
    encoder = EnformerEncoder(EnformerConfig(**shape))
    assert check(EncoderEmbedding(encoder, "own")) == []


class IgnoresMask(Toy):
    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        return super().states(ids_BT, torch.ones_like(mask_BT))


class CountsPads(LanguageModelEmbedding):
    def collate(self, sequences: Sequence[Codes], species: str | None) -> Batch:
        batch = super().collate(sequences, species)
        return batch._replace(weight_BT=batch.weight_BT.clamp_min(1))

    def _run(self, sequences: Sequence[Codes]) -> Any:
        for pieces, batch, states in super()._run(sequences):
            yield pieces, batch._replace(weight_BT=batch.weight_BT.clamp_min(1)), states


class PadsLeft(LanguageModelEmbedding):
    """As some tokenizers do, to a model that gets no mask."""

    def network(self) -> nn.Module:
        return TunedNetwork(IgnoresMask(Shape()).requires_grad_())

    def collate(self, sequences: Sequence[Codes], species: str | None) -> Batch:
        ids, mask, weight = super().collate(sequences, species)
        for row in range(len(ids)):
            by = int((~mask[row]).sum())
            ids[row], mask[row] = ids[row].roll(by), mask[row].roll(by)
            weight[row] = weight[row].roll(by)
        return Batch(ids, mask, weight)


class ForwardOnly(LanguageModelEmbedding):
    def embed(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        return super().embed(sequences, species, stranded=True)


class OffByOne(KmerTokenizer):
    def tokenize(self, text: str) -> Tokens:
        tokens = super().tokenize(text)
        return Tokens(tokens.ids, tokens.spans + 1, tokens.texts)


class LowerIsUnknown(KmerTokenizer):
    def tokenize(self, text: str) -> Tokens:
        tokens = super().tokenize(text)
        return tokens if text.isupper() else Tokens(tokens.ids * 0, tokens.spans, tokens.texts)


class CountsInWords(KmerTokenizer):
    """Spans by arithmetic, which is right until the first N."""

    def tokenize(self, text: str) -> Tokens:
        tokens = super().tokenize(text)
        starts = np.arange(len(tokens.ids)) * 3
        whole = [i for i, word in enumerate(tokens.texts) if len(word) == 3]
        last = len(whole) * 3
        starts[len(whole) :] = last + np.arange(len(starts) - len(whole))
        ends = np.append(starts[1:], len(text))
        return Tokens(tokens.ids, np.stack([starts, ends], 1), tokens.texts)


class DropsRest(KmerTokenizer):
    def tokenize(self, text: str) -> Tokens:
        return super().tokenize(text[: len(text) // 3 * 3])


def test_an_encoder_that_ignores_the_mask() -> None:
    found = check(toy(IgnoresMask))
    assert checks(found) == {"batch", "mask"}
    assert "padding changes the states" in found[-1].message


def test_an_encoder_that_counts_padding() -> None:
    found = check(toy(kind=CountsPads))
    assert {"batch", "padding"} <= checks(found) <= {"batch", "padding", "strands"}
    (padding,) = (finding for finding in found if finding.check == "padding")
    # 35 bp beside 61 bp: 22 tokens are wanted there, 13 + 1 are real; [CLS] counts as well.
    assert padding.message.startswith("padding is counted: 35 bp count 44")


def test_padding_on_the_left_that_leaks() -> None:
    assert checks(check(toy(kind=PadsLeft))) == {"left-pad"}


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (OffByOne, {"coverage", "n", "shift"}),
        (LowerIsUnknown, {"case"}),
        (CountsInWords, {"n", "shift"}),
        (DropsRest, {"coverage", "spelling", "shift"}),
    ],
)
def test_a_wrong_tokenizer_is_named(plant: type[KmerTokenizer], expected: set[str]) -> None:
    found = check(toy(tokens=plant))
    assert checks(found) & {"coverage", "spelling", "case", "n", "shift"} == expected


def test_arithmetic_spans_are_right_until_the_first_n() -> None:
    found = check(toy(tokens=CountsInWords))
    assert "coverage" not in checks(found)
    assert "has the span" in next(f.message for f in found if f.check == "n")


def test_a_corrupted_buffer() -> None:
    broken = toy()
    broken.model.scale[3] = 1e-3
    found = check(broken)
    assert found == [Finding("buffers", "scale is not what the constructor makes it")]


def test_layers_in_the_wrong_order_differ_from_a_second_load() -> None:
    class Swapped(Toy):
        def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
            first, second, third = super().states(ids_BT, mask_BT)
            return [first, third, second]

    found = check(toy(Swapped), reference=toy())
    assert checks(found) == {"layers"}
    assert "L1.mean_bp is L2.mean_bp of the reference." in [finding.message for finding in found]

    crossed = toy()
    blocks = crossed.model.blocks
    one, two = copy.deepcopy(blocks[0]), copy.deepcopy(blocks[1])
    blocks[0], blocks[1] = two, one
    found = check(crossed, reference=toy())
    assert "L1.mean_bp is none of the reference's views." in [f.message for f in found]
    assert check(crossed) == []  # alone it cannot be seen


def test_a_layer_that_does_nothing() -> None:
    idle = toy()
    nn.init.zeros_(idle.model.blocks[1].weight)
    nn.init.zeros_(idle.model.blocks[1].bias)
    messages = [finding.message for finding in check(idle)]
    assert "L1.mean_bp and L2.mean_bp are the same." in messages


def test_one_strand_only_and_chance() -> None:
    assert checks(check(toy(kind=ForwardOnly))) == {"strands"}

    class Drops(Toy):
        def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
            states = super().states(ids_BT, mask_BT)
            return [nn.functional.dropout(state, 0.1, training=True) for state in states]

    assert "determinism" in checks(check(toy(Drops)))


class OneBaseLate(LanguageModelEmbedding):
    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        return np.roll(super().embed_bins(sequences, species, stranded), 1, axis=1)


class LosesBins(LanguageModelEmbedding):
    def embed_bins(
        self, sequences: Sequence[Codes], species: str | None, stranded: bool = False
    ) -> Features:
        return super().embed_bins(sequences, species, stranded)[:, :-1]


def test_bins_at_the_wrong_bases() -> None:
    (late,) = check(toy(kind=OneBaseLate))
    assert late.check == "bins"
    (lost,) = check(toy(kind=LosesBins))
    assert lost.message == "60 bp in bins of 1 give 59 bins."


def test_a_representation_without_features_says_why() -> None:
    (finding,) = check(OneHot(), lengths=(61, 35))
    assert finding.check == "features"
    assert "one length" in finding.message
    damaged = toy()
    with torch.no_grad():
        damaged.model.tokens.weight[10] = torch.nan
    (finding,) = check(damaged)
    assert "L2.mean_bp is not finite" in finding.message
