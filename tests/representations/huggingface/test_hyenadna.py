"""HyenaDNA: the long convolution and the whole network by hand, causality, likelihood."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cislens.errors import CislensError
from cislens.genome.codes import decode, encode
from cislens.representations.conformance import check
from cislens.representations.contract import CausalLikelihood, MaskedLikelihood
from cislens.representations.huggingface.families import load_huggingface
from cislens.representations.huggingface.hyenadna import HyenaShape, Kernel, causal_convolution
from cislens.representations.huggingface.likelihood import CausalEmbedding
from cislens.representations.huggingface.vocabulary import hyenadna_tokenizer

Folder = Callable[..., Path]
Weights = dict[str, Any]


def test_convolution_by_fft_is_the_direct_one() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 37)), rng.normal(size=(3, 37))
    direct = [[np.convolve(row[d], kernel[d])[:37] for d in range(3)] for row in x]
    found = causal_convolution(torch.from_numpy(x).float(), torch.from_numpy(kernel).float())
    np.testing.assert_allclose(found.numpy(), direct, atol=1e-4)


def layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def affine(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def kernel_of(w: Weights, at: str, tokens: int, longest: int) -> np.ndarray:
    h = w[f"{at}pos_emb.z"][0, :tokens]
    for i in (0, 2, 4):
        h = np.sin(w[f"{at}implicit_filter.1.freq"] * affine(h, w, f"{at}implicit_filter.{i}"))
    h = affine(h, w, f"{at}implicit_filter.6")
    decay = np.linspace(math.log(100) / 1.5, math.log(100) / 0.3, h.shape[1])
    time = np.arange(tokens)[:, None] / (longest - 1)
    return h * (np.exp(-time * decay) + 0.05)


def network(w: Weights, ids: list[int], longest: int, depth: int = 3) -> np.ndarray:
    """Scores (T, 16), written from the paper: order 2, gates before and after the convolution."""
    x = w["hyena.backbone.embeddings.word_embeddings.weight"][ids]
    tokens, dim = x.shape
    for i in range(depth):
        at = f"hyena.backbone.layers.{i}."
        u = affine(layer_norm(x, w, f"{at}norm1"), w, f"{at}mixer.in_proj")
        padded = np.concatenate([np.zeros((2, 3 * dim)), u])
        taps = w[f"{at}mixer.short_filter.weight"][:, 0]
        short = sum(padded[j : j + tokens] * taps[:, j] for j in range(3))
        short = short + w[f"{at}mixer.short_filter.bias"]
        a, b, v = short[:, :dim], short[:, dim : 2 * dim], short[:, 2 * dim :]
        gated = v * b
        kernel = kernel_of(w, f"{at}mixer.filter_fn.", tokens, longest)
        y = np.stack([np.convolve(gated[:, d], kernel[:, d])[:tokens] for d in range(dim)], axis=1)
        y = y + gated * w[f"{at}mixer.filter_fn.bias"]
        x = x + affine(y * a, w, f"{at}mixer.out_proj")
        h = affine(layer_norm(x, w, f"{at}norm2"), w, f"{at}mlp.fc1")
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + affine(h, w, f"{at}mlp.fc2")
    return layer_norm(x, w, "hyena.backbone.ln_f") @ w["lm_head.weight"].T


def test_the_whole_network_by_hand(hyenadna_folder: Folder) -> None:
    folder = hyenadna_folder()
    stored = {k: v.double().numpy() for k, v in load_file(folder / "model.safetensors").items()}
    model = load_huggingface("hyenadna", folder, "x").model
    ids = [7, 8, 9, 10, 11, 7, 7, 10, 9, 1]
    expected = network(stored, ids, longest=70)
    with torch.no_grad():
        states = model.states(torch.tensor([ids]), torch.ones(1, len(ids)).bool())
        found = model.logits(states[-1])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3, rtol=1e-3)


def test_a_fresh_kernel_starts_from_complex_exponentials() -> None:
    """Time in 0 to 1, and the real and imaginary parts of exp(-i f w) (Poli et al. 2023)."""
    kernel = Kernel(HyenaShape(16, 1, 24, 50, 12, has_head=False, emb_dim=7))
    turn = np.exp(-1j * np.linspace(1e-4, 2, 3) * 2 * np.pi * np.arange(50)[:, None] / 50)
    expected = np.concatenate([np.linspace(0, 1, 50)[:, None], turn.real, turn.imag], axis=1)
    np.testing.assert_allclose(kernel.features[0].detach(), expected, atol=1e-5)


def test_it_conforms_and_is_causal(hyenadna_folder: Folder) -> None:
    folder = hyenadna_folder()
    found = load_huggingface("hyenadna", folder, "x")
    assert check(found, reference=load_huggingface("hyenadna", folder, "y")) == []
    assert isinstance(found, CausalLikelihood)
    assert not isinstance(found, MaskedLikelihood)
    assert "L3.last" in found.views and "L3.cls" not in found.views
    one, other = encode("ACGTTGCA"), encode("ACGTTGCT")
    bins = found.embed_bins([one, other], None, stranded=True)
    np.testing.assert_allclose(bins[0, :7], bins[1, :7], atol=1e-5)
    assert np.abs(bins[0, 7] - bins[1, 7]).max() > 1e-3


def test_vocabulary_is_the_published_one() -> None:
    tokenizer = hyenadna_tokenizer(Path("nowhere"))
    assert tokenizer.tokenize("acgtnR").ids.tolist() == [7, 8, 9, 10, 11, 11]
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.pad_id) == ((), (1,), 4)
    assert tokenizer.remapped == {"R": 1}


def test_likelihood_is_shifted_by_one(hyenadna_folder: Folder) -> None:
    found = load_huggingface("hyenadna", hyenadna_folder(), "x")
    assert isinstance(found, CausalEmbedding)
    texts = ["ACGTNGCA", "GGCAT"]
    expected = []
    for text in texts:
        ids = torch.tensor([[dict(zip("ACGTN", range(7, 12), strict=True))[b] for b in text]])
        with torch.no_grad():
            scores = found.model.logits(found.model.states(ids, ids > 0)[-1])[0]
        log_p = scores[:, 7:11].log_softmax(1)
        expected.append(
            sum(float(log_p[t - 1, "ACGT".index(b)]) for t, b in enumerate(text) if t and b != "N")
        )
    got = found.log_likelihood([encode(text) for text in texts], None)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_every_base_of_a_long_sequence_is_counted_once(hyenadna_folder: Folder) -> None:
    """With equal scores for every base log p is log(1/4) each, whatever the windows."""
    folder = hyenadna_folder()
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"].zero_()
    save_file(weights, folder / "model.safetensors")
    found = load_huggingface("hyenadna", folder, "x")
    assert isinstance(found, CausalEmbedding)
    codes = np.random.default_rng(0).integers(0, 4, 500).astype(np.uint8)
    got = found.log_likelihood([codes], None)
    np.testing.assert_allclose(got, [499 * math.log(0.25)], rtol=1e-5)
    assert len(decode(codes)) == 500


def test_what_the_configuration_determines_must_agree(hyenadna_folder: Folder) -> None:
    folder = hyenadna_folder()
    weights = load_file(folder / "model.safetensors")
    at = "hyena.backbone.layers.0.mixer.filter_fn."
    weights[f"{at}pos_emb.t"] = torch.linspace(0, 1, 70)[None, :, None].contiguous()
    for place in (3, 5):
        weights[f"{at}implicit_filter.{place}.freq"] = weights[
            f"{at}implicit_filter.1.freq"
        ].clone()
    save_file(weights, folder / "model.safetensors")
    load_huggingface("hyenadna", folder, "x")
    weights[f"{at}pos_emb.t"] = torch.linspace(0, 2, 70)[None, :, None].contiguous()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CislensError, match=r"stores blocks.0.kernel.time.*other values"):
        load_huggingface("hyenadna", folder, "x")
    del weights[f"{at}pos_emb.t"]
    weights[f"{at}implicit_filter.3.freq"] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CislensError, match=r"two different tensors for blocks\.0\.kernel\.freq"):
        load_huggingface("hyenadna", folder, "x")


def test_another_order_is_refused(hyenadna_folder: Folder) -> None:
    with pytest.raises(CislensError, match="hyena_order 3"):
        load_huggingface("hyenadna", hyenadna_folder(hyena_order=3), "x")
