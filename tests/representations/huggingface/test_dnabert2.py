"""DNABERT-2: BERT where the two agree, ALiBi and GEGLU by their formulas, byte-pair spans."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.genome.codes import encode
from cislens.representations.conformance import check
from cislens.representations.contract import CausalLikelihood, MaskedLikelihood
from cislens.representations.huggingface.dnabert2 import alibi_slopes
from cislens.representations.huggingface.families import load_huggingface
from cislens.representations.huggingface.likelihood import PseudoEmbedding
from cislens.representations.huggingface.vocabulary import bpe_tokenizer

Folder = Callable[..., Path]

pytestmark = pytest.mark.peers
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

IDS = torch.tensor([[1, 9, 5, 12, 4, 7, 2], [1, 6, 6, 10, 13, 8, 2]])


def test_slopes_of_attention_biases() -> None:
    """Press et al. 2022: 1/2 .. 1/256 for 8 heads; 12 heads add every second slope of 16."""
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(12)[:8] == alibi_slopes(8)
    np.testing.assert_allclose(alibi_slopes(12)[8:], [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    np.testing.assert_allclose(alibi_slopes(12)[8:], alibi_slopes(16)[0:8:2])


class Gated(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        gate, content = (x @ self.weight.T).split(len(self.weight) // 2, dim=-1)
        return 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2))) * content


def peer(folder: Path) -> nn.Module:
    """`transformers`' BERT without positions, its widening layer exchanged for a gated one."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = json.loads((folder / "config.json").read_text())
    model = transformers.BertForMaskedLM(transformers.BertConfig(**config)).eval()
    stored = load_file(folder / "model.safetensors")
    renamed = {}
    for key, value in stored.items():
        if "Wqkv" in key:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[key.replace("Wqkv", part)] = third
        elif "gated_layers" in key:
            layer = model.bert.encoder.layer[int(key.split(".")[3])]
            layer.intermediate = Gated(value)
        elif "pooler" not in key:
            key = key.replace("mlp.wo", "output.dense").replace("mlp.layernorm", "output.LayerNorm")
            renamed[key] = value
    renamed["cls.predictions.bias"] = stored["cls.predictions.decoder.bias"]
    renamed["bert.embeddings.position_embeddings.weight"] = torch.zeros(64, 16)
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert missing == ["cls.predictions.decoder.weight"]  # tied to the embedding
    model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
    return model


def test_without_biases_it_is_bert_with_a_gated_layer(dnabert2_folder: Folder) -> None:
    folder = dnabert2_folder()
    ours = load_huggingface("dnabert2", folder, "x").model
    ours.slopes.zero_()
    theirs = peer(folder)
    mask = torch.ones_like(IDS).bool()
    mask[1, 5:] = False
    with torch.no_grad():
        out = theirs(IDS, attention_mask=mask.long(), output_hidden_states=True)
        states = ours.states(IDS, mask)
        scores = ours.logits(states[-1])
    for mine, other in zip(states, out.hidden_states, strict=True):
        torch.testing.assert_close(mine[mask], other[mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores[mask], out.logits[mask], atol=1e-4, rtol=1e-4)


def test_biases_fall_with_distance(dnabert2_folder: Folder) -> None:
    """Attention of the first block by hand, head by head."""
    model = load_huggingface("dnabert2", dnabert2_folder(heads=2), "x").model
    with torch.no_grad():
        x, after = model.states(IDS, torch.ones_like(IDS).bool())[:2]
        block = model.blocks[0]
        q, k, v = block.qkv(x[0]).split(16, dim=1)
        heads = []
        for head, slope in enumerate((2**-4, 2**-8)):
            part = slice(8 * head, 8 * head + 8)
            scores = q[:, part] @ k[:, part].T / math.sqrt(8)
            for i in range(7):
                for j in range(7):
                    scores[i, j] -= slope * abs(i - j)
            heads.append(scores.softmax(1) @ v[:, part])
        y = block.attention_norm(x[0] + block.attended(torch.cat(heads, dim=1)))
        wide = block.widen(y)
        gated = nn.functional.gelu(wide[:, :24]) * wide[:, 24:]
        expected = block.mlp_norm(y + block.narrow(gated))
    torch.testing.assert_close(after[0], expected, atol=1e-5, rtol=1e-5)


def test_it_conforms_and_has_the_likelihood_of_windows(dnabert2_folder: Folder) -> None:
    folder = dnabert2_folder()
    found = load_huggingface("dnabert2", folder, "x")
    assert check(found, reference=load_huggingface("dnabert2", folder, "y")) == []
    assert isinstance(found, PseudoEmbedding)
    assert isinstance(found, CausalLikelihood)
    assert not isinstance(found, MaskedLikelihood)


def test_pseudo_likelihood_by_hand(dnabert2_folder: Folder) -> None:
    found = load_huggingface("dnabert2", dnabert2_folder(), "x")
    assert isinstance(found, PseudoEmbedding)
    text = "ACGTGATT"
    tokens = found.tokenize(text)
    assert tokens.texts == ("ACG", "TGA", "T", "T")
    total = 0.0
    for place, index in enumerate(tokens.ids):
        ids = torch.tensor([[1, *tokens.ids, 2]])
        ids[0, place + 1] = 4
        with torch.no_grad():
            last = found.model.states(ids, torch.ones_like(ids).bool())[-1]
            total += float(found.model.logits(last[0, place + 1]).log_softmax(0)[index])
    np.testing.assert_allclose(found.log_likelihood([encode(text)], None), [total], rtol=1e-5)
    nothing = found.log_likelihood([encode("NNN")], None)
    assert nothing.tolist() == [0]


def test_words_cover_the_sequence_and_each_n_is_one_unknown(dnabert2_folder: Folder) -> None:
    tokenizer = bpe_tokenizer(dnabert2_folder())
    tokens = tokenizer.tokenize("acgtgaNNttgacg")
    assert tokens.texts == ("ACG", "TGA", "N", "N", "T", "TG", "ACG")
    assert tokens.spans[:4].tolist() == [[0, 3], [3, 6], [6, 7], [7, 8]]
    assert tokens.ids[2] == 0
    assert tokenizer.remapped == {"N": 2}


def test_a_tokenizer_that_loses_bases_is_refused(dnabert2_folder: Folder) -> None:
    tokenizer = bpe_tokenizer(dnabert2_folder())
    assert tokenizer.tokenize("ACGT").texts == ("ACG", "T")

    class Loses:
        def encode(self, text: str, add_special_tokens: bool) -> object:
            return type("Encoding", (), {"tokens": ["[UNK]"]})()

    tokenizer._engine = Loses()
    with pytest.raises(CislensError, match="do not spell the sequence: 5 of 4 bases"):
        tokenizer.tokenize("ACGT")


def test_the_published_tokenizer(core_data: Path, tmp_path: Path) -> None:
    """4,096 words; [CLS] 1, [SEP] 2, [PAD] 3, [MASK] 4; one base changed changes the count."""
    published = core_data / "gue" / "dnabert2_bpe_tokenizer.json"
    (tmp_path / "tokenizer.json").write_text(published.read_text())
    tokenizer = bpe_tokenizer(tmp_path)
    assert (tokenizer.prefix, tokenizer.suffix) == ((1,), (2,))
    assert (tokenizer.pad_id, tokenizer.mask_id) == (3, 4)
    assert len(tokenizer.vocabulary) == 4_096
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("ACGT"), 1_000))
    tokens = tokenizer.tokenize(text)
    assert "".join(tokens.texts) == text
    assert 150 < len(tokens.ids) < 250
    whole = tokenizers.Tokenizer.from_file(str(published)).encode(text)
    assert [1, *tokens.ids, 2] == whole.ids
    changed = [text[:i] + "ACGT"["TGCA".index(text[i])] + text[i + 1 :] for i in range(0, 1000, 50)]
    assert {len(tokenizer.tokenize(other).ids) != len(tokens.ids) for other in changed} == {
        True,
        False,
    }
    # As the published tokenizer has it, a word never spans an N.
    gap = text[:30] + "NNN" + text[30:60]
    split = tokenizers.Tokenizer.from_file(str(published)).encode(gap, add_special_tokens=False)
    assert tokenizer.tokenize(gap).ids.tolist() == split.ids
