"""The Nucleotide Transformer: `transformers`' numbers, 6-mer spans, what fits, what is likely."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cislens.genome.codes import encode, reverse_complement
from cislens.representations.conformance import check
from cislens.representations.contract import Binned, MaskedLikelihood, Tunable, Twinned, Viewed
from cislens.representations.huggingface.families import load_huggingface
from cislens.representations.huggingface.likelihood import MaskedEmbedding
from cislens.representations.huggingface.nucleotide_transformer import max_tokens
from cislens.representations.huggingface.tokenizers import KmerTokenizer, Special

Folder = Callable[..., Path]
V1, V2 = "nucleotide-transformer", "nucleotide-transformer-v2"


class SwiGLU(nn.Module):
    """What version 2 has in place of ESM's widening layer."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        half = len(self.weight) // 2
        gate, content = x @ self.weight[:half].T, x @ self.weight[half:].T
        return gate / (1 + torch.exp(-gate)) * content


def peer(folder: Path, gated: bool) -> nn.Module:
    """`transformers`' ESM with the folder's weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = json.loads((folder / "config.json").read_text())
    model = transformers.EsmForMaskedLM(transformers.EsmConfig(**config))
    stored = {
        k: v for k, v in load_file(folder / "model.safetensors").items() if "inv_freq" not in k
    }
    if gated:
        for i, layer in enumerate(model.esm.encoder.layer):
            at = f"esm.encoder.layer.{i}."
            layer.intermediate = SwiGLU(stored.pop(f"{at}intermediate.dense.weight"))
            stored[f"{at}output.dense.bias"] = torch.zeros(16)
    missing, unexpected = model.load_state_dict(stored, strict=False)
    assert not unexpected
    assert all("inv_freq" in key for key in missing)
    return model.eval()


@pytest.mark.peers
@pytest.mark.parametrize("version", [1, 2])
def test_states_and_scores_are_those_of_transformers(nt_folder: Folder, version: int) -> None:
    folder = nt_folder(version)
    ours = load_huggingface(V2 if version == 2 else V1, folder, "nt").model
    theirs = peer(folder, gated=version == 2)
    ids = torch.tensor([[3, 4, 9, 2, 20, 11, 7, 8], [3, 5, 6, 7, 8, 9, 10, 12]])
    mask = torch.ones_like(ids).bool()
    with torch.no_grad():
        out = theirs(ids, attention_mask=mask.long(), output_hidden_states=True)
        states = ours.states(ids, mask)
        scores = ours.logits(states[-1])
    assert len(states) == len(out.hidden_states) == 4
    # The last of theirs is before the norm in some releases of transformers, after it in others.
    for mine, other in zip(states[:-1], out.hidden_states[:-1], strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores, out.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_conform(nt_folder: Folder, version: int) -> None:
    folder = nt_folder(version)
    family = V2 if version == 2 else V1
    found = load_huggingface(family, folder, "nt")
    assert isinstance(found, MaskedEmbedding)
    for contract in (Viewed, Twinned, Binned, Tunable, MaskedLikelihood):
        assert isinstance(found, contract)
    assert check(found, reference=load_huggingface(family, folder, "again")) == []
    assert check(found.twin(0)) == []


def test_published_sizes_hold_5994_and_12282_bp() -> None:
    assert 6 * (max_tokens({"max_position_embeddings": 1002, "pad_token_id": 1}) - 1) == 5_994
    assert 6 * (max_tokens({"max_position_embeddings": 2050, "pad_token_id": 1}) - 1) == 12_282


def six_mers() -> KmerTokenizer:
    words = ["".join(word) for word in itertools.product("ATCG", repeat=6)]
    tokens = ["<unk>", "<pad>", "<mask>", "<cls>", *words, *"ATCGN"]
    assert len(tokens) == 4_105
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return KmerTokenizer(vocabulary, Special(vocabulary, ("cls",), (), "test"), "test")


@pytest.mark.parametrize(("length", "count"), [(230, 41), (400, 71), (173, 34)])
def test_token_counts_of_published_windows(length: int, count: int) -> None:
    """With [CLS]: evaluation.md, section 1.2."""
    tokenizer = six_mers()
    tokens = tokenizer.tokenize("ACGTG" * (length // 5) + "A" * (length % 5))
    assert len(tokens.ids) + len(tokenizer.prefix) + len(tokenizer.suffix) == count


def test_one_n_breaks_the_frame_and_is_one_token() -> None:
    tokenizer = six_mers()
    tokens = tokenizer.tokenize("ACGTACGTNACGTACG")
    assert tokens.texts == ("ACGTAC", "G", "T", "N", "ACGTAC", "G")
    assert tokens.spans.tolist() == [[0, 6], [6, 7], [7, 8], [8, 9], [9, 15], [15, 16]]
    assert tokenizer.remapped == {}
    assert tokenizer.tokenize("ACGTRYx").texts == ("A", "C", "G", "T", "N", "N", "N")
    assert tokenizer.remapped == {"R": 1, "Y": 1, "X": 1}


def test_reading_in_windows_changes_little_and_covers_all(nt_folder: Folder) -> None:
    """42 positions hold 39 words of 2 bp; each base of 400 bp gets one vector, no window seam."""
    found = load_huggingface(V2, nt_folder(2), "nt")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 400).astype(np.uint8)
    bins = found.embed_bins([codes], None, stranded=True)
    assert bins.shape == (1, 400, 16)
    assert (np.abs(bins[0]).sum(1) > 0).all()
    views = found.embed_views([codes], None, True, ("embed.mean_bp", "L3.mean_bp"))
    np.testing.assert_allclose(views["L3.mean_bp"][0], bins[0].mean(0), atol=1e-5)
    # The embedding of rotary tokens knows no window, so it is the same however it was read.
    ids = torch.from_numpy(found.tokenize("".join("ACGT"[c] for c in codes)).ids)
    direct = found.model.states(ids[None], torch.ones(1, 200).bool())[0].mean(1).detach()
    np.testing.assert_allclose(views["embed.mean_bp"], direct.numpy(), atol=1e-5)


def test_bins_of_both_strands_lie_over_each_other(nt_folder: Folder) -> None:
    found = load_huggingface(V1, nt_folder(), "nt")
    codes = encode("ACGTTGACCAGTNACGATCGATT")
    forward = found.embed_bins([codes], None)
    backward = found.embed_bins([reverse_complement(codes)], None)
    np.testing.assert_allclose(forward, backward[:, ::-1], atol=1e-5)


def test_probabilities_of_a_base_are_those_of_the_four_words(nt_folder: Folder) -> None:
    """By hand: hide the word, take the four words that differ at the base, for both phases."""
    found = load_huggingface(V1, nt_folder(), "nt")
    assert isinstance(found, MaskedEmbedding)
    text, position = "ACGTTGACCA", 4
    log_p = np.zeros(4)
    for cut in (0, 1):
        words = [text[cut:][i : i + 2] for i in range(0, len(text) - cut - 1, 2)]
        rest = text[cut:][2 * len(words) :]
        place = (position - cut) // 2
        ids = [3, *(found.tokenizer.id_of(word) for word in words)]
        ids += [found.tokenizer.id_of(base) for base in rest]
        ids[1 + place] = 2
        offset = (position - cut) % 2
        word = words[place]
        four = [word[:offset] + base + word[offset + 1 :] for base in "ACGT"]
        with torch.no_grad():
            states = found.model.states(torch.tensor([ids]), torch.ones(1, len(ids)).bool())
            scores = found.model.logits(states[-1][0, 1 + place])
        part = scores[[found.tokenizer.id_of(word) for word in four]].double().log_softmax(0)
        log_p += part.numpy() / 2
    expected = log_p - np.log(np.exp(log_p).sum())
    got = found.base_log_probabilities([encode(text)], [position], None)
    np.testing.assert_allclose(got[0], expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(got).sum(1), 1, atol=1e-6)


def test_tuned_network_trains_every_parameter(nt_folder: Folder) -> None:
    found = load_huggingface(V1, nt_folder(), "nt")
    network = found.network()
    batch = found.collate([encode("ACGTACGTT"), encode("ACGT")], None)
    values, weight = network(batch)
    assert values.shape == (2, 6, 16)
    assert weight.tolist() == [[0, 2, 2, 2, 2, 1], [0, 2, 2, 0, 0, 0]]
    (values * weight[..., None]).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    assert names and all(name.endswith(found.lora_targets) for name in names)
    assert found.model.has_head
