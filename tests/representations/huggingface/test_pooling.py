"""Windows keep every token once; pooling and bins by hand."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cislens.representations.huggingface.contract import Tokens
from cislens.representations.huggingface.pooling import Pooled, poolings_of, to_bins
from cislens.representations.huggingface.tokenizers import CharTokenizer, KmerTokenizer, Special
from cislens.representations.huggingface.windows import batches_of, collated, pieces_of, windows

NAMES = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *"ACGTN"]
VOCABULARY = {name: i for i, name in enumerate(NAMES)}


def chars() -> CharTokenizer:
    return CharTokenizer(VOCABULARY, Special(VOCABULARY, ("cls",), ("sep",), "x"), "x")


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 400), room=st.integers(8, 120))
def test_windows_keep_each_token_once_and_see_beyond(count: int, room: int) -> None:
    found = windows(count, room)
    assert [i for _, _, first, end in found for i in range(first, end)] == list(range(count))
    for start, stop, first, end in found:
        assert 0 <= start <= first < end <= stop <= count
        assert stop - start <= room
        margin = min(room // 8, 1)
        assert first - start >= margin or start == 0
        assert stop - end >= margin or stop == count


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_bins_are_the_mean_over_bases(lengths: list[int], bin_size: int) -> None:
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], axis=1)
    values = torch.arange(1.0, len(lengths) + 1)[:, None] ** 2
    per_base = np.repeat(values[:, 0].numpy(), lengths)
    expected = [
        per_base[start : start + bin_size].mean() for start in range(0, len(per_base), bin_size)
    ]
    found = to_bins(values, spans, int(ends[-1]), bin_size)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_each_pooling_by_hand() -> None:
    """Tokens of 3, 1 and 2 bases with values 1, 5, -2 between [CLS] 10 and [SEP] 20, and pads."""
    tokenizer = chars()
    ends = np.array([3, 4, 6])
    tokens = Tokens(np.array([4, 5, 6]), np.stack([[0, 3, 4], ends], 1), ("AAA", "C", "GG"))
    short = Tokens(np.array([4]), np.array([[0, 3]]), ("AAA",))
    pieces = [*pieces_of(0, tokens, tokenizer, 16), *pieces_of(1, short, tokenizer, 16)]
    batch = collated(pieces, tokenizer.pad_id, torch.device("cpu"))
    assert batch.ids_BT.tolist() == [[1, 4, 5, 6, 2], [1, 4, 2, 3, 3]]
    assert batch.weight_BT.tolist() == [[0, 3, 1, 2, 0], [0, 3, 0, 0, 0]]
    state = torch.tensor([[10.0, 1, 5, -2, 20], [10, 7, 20, 99, 99]])[..., None]
    expected = {
        "mean_bp": [(3 * 1 + 5 - 2 * 2) / 6, 7],
        "mean_tok": [4 / 3, 7],
        "max": [5, 7],
        "cls": [10, 10],
        "last": [20, 20],
    }
    for pooling, values in expected.items():
        pooled = Pooled(2, 1, pooling)
        pooled.add(pieces, batch, state)
        np.testing.assert_allclose(pooled.values()[:, 0], values, rtol=1e-6)


def test_windows_of_one_sequence_are_put_together() -> None:
    """Means over all tokens, and the last token of the last window only."""
    tokenizer = chars()
    text = "ACGT" * 25
    pieces = pieces_of(0, tokenizer.tokenize(text), tokenizer, 34)
    assert len(pieces) > 3
    for pooling, expected in (("mean_bp", 49.5), ("max", 99), ("last", -1)):
        pooled = Pooled(1, 1, pooling)
        for group in batches_of(pieces):
            batch = collated(group, tokenizer.pad_id, torch.device("cpu"))
            state = torch.full((*batch.ids_BT.shape, 1), -1.0)
            for i, piece in enumerate(group):
                real = piece.spans[:, 0] >= 0
                place = torch.from_numpy(piece.spans[real, 0]).float()
                state[i, : len(piece.ids), 0][torch.from_numpy(real)] = place
            pooled.add(group, batch, state)
        np.testing.assert_allclose(pooled.values(), [[expected]], rtol=1e-6)


def test_poolings_that_would_say_the_same_are_left_out() -> None:
    assert poolings_of(chars(), causal=False) == ("max", "cls", "mean_bp")
    assert poolings_of(chars(), causal=True) == ("max", "last", "mean_bp")
    bare = CharTokenizer(VOCABULARY, Special(VOCABULARY, (), (), "x"), "x")
    assert poolings_of(bare, causal=False) == ("max", "mean_bp")
    words = {**{a + b: 10 + i for i, (a, b) in enumerate((a, b) for a in "ACGT" for b in "ACGT")}}
    kmers = {**VOCABULARY, **words}
    tokenizer = KmerTokenizer(kmers, Special(kmers, ("cls",), (), "x"), "x")
    assert poolings_of(tokenizer, causal=False) == ("max", "cls", "mean_tok", "mean_bp")
