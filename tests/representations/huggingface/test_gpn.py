"""GPN: the whole network by hand, a vocabulary of lower case, probabilities of a base."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import erf

from cislens.errors import CislensError
from cislens.genome.codes import encode
from cislens.representations.conformance import check
from cislens.representations.contract import MaskedLikelihood
from cislens.representations.huggingface.families import load_huggingface
from cislens.representations.huggingface.gpn import ConvNetShape
from cislens.representations.huggingface.likelihood import MaskedEmbedding

Folder = Callable[..., Path]
Weights = dict[str, Any]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def affine(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def network(w: Weights, ids: list[int], dilations: tuple[int, ...]) -> np.ndarray:
    """Scores (T, 7): five taps around each base, each `dilation` apart, zeros beyond the ends."""
    x = np.eye(16)[ids]
    for i, dilation in enumerate(dilations):
        at = f"model.encoder.{i}."
        taps = w[f"{at}conv.1.weight"]
        h = np.tile(w[f"{at}conv.1.bias"], (len(ids), 1))
        for t in range(len(ids)):
            for j in range(5):
                source = t + (j - 2) * dilation
                if 0 <= source < len(ids):
                    h[t] += taps[:, :, j] @ x[source]
        x = x + layer_norm(gelu(h), w, f"{at}conv.4")
        x = x + layer_norm(gelu(affine(x, w, f"{at}ffn.0")), w, f"{at}ffn.2")
    h = layer_norm(gelu(affine(x, w, "cls.decoder.0")), w, "cls.decoder.2")
    return affine(h, w, "cls.decoder.3")


def test_the_whole_network_by_hand(gpn_folder: Folder) -> None:
    folder = gpn_folder()
    stored = {k: v.double().numpy() for k, v in load_file(folder / "model.safetensors").items()}
    model = load_huggingface("gpn", folder, "x").model
    ids = [3, 4, 5, 6, 2, 3, 3, 1, 6, 5, 4, 3, 3, 6]
    with torch.no_grad():
        states = model.states(torch.tensor([ids]), torch.ones(1, len(ids)).bool())
        found = model.logits(states[-1])[0]
    np.testing.assert_allclose(found.numpy(), network(stored, ids, (1, 2, 4)), atol=1e-4)


def test_published_dilations() -> None:
    shape = ConvNetShape(vocab_size=7, hidden_size=512, n_layers=25, has_head=True)
    assert [shape.dilation(layer) for layer in range(8)] == [1, 2, 4, 8, 16, 32, 1, 2]


def test_it_conforms(gpn_folder: Folder) -> None:
    folder = gpn_folder()
    found = load_huggingface("gpn", folder, "x")
    assert check(found, reference=load_huggingface("gpn", folder, "y")) == []
    assert isinstance(found, MaskedLikelihood)
    assert set(found.remapped) == {"N"}


def test_lower_case_vocabulary_and_unknown_n(gpn_folder: Folder) -> None:
    """Repeats are lower case in genomes; here case says nothing, as the vocabulary has one."""
    found = load_huggingface("gpn", gpn_folder(), "x")
    assert found.tokenize("acGTn").ids.tolist() == [3, 4, 5, 6, 2]
    assert found.remapped == {"N": 1}


def test_probabilities_of_a_hidden_base(gpn_folder: Folder) -> None:
    found = load_huggingface("gpn", gpn_folder(), "x")
    assert isinstance(found, MaskedEmbedding)
    ids = torch.tensor([[3, 4, 1, 6, 3]])
    with torch.no_grad():
        scores = found.model.logits(found.model.states(ids, ids > 0)[-1])[0, 2]
    expected = scores[3:7].log_softmax(0)
    for text in ("ACGTA", "ACATA"):  # what stands there must not matter
        got = found.base_log_probabilities([encode(text)], [2], None)
        np.testing.assert_allclose(got[0], expected, atol=1e-5)
    with pytest.raises(CislensError, match="position 5 of sequence 0 lies outside its 5 bp"):
        found.base_log_probabilities([encode("ACGTA")], [5], None)


def test_a_position_in_a_long_sequence_is_seen_with_its_surroundings(gpn_folder: Folder) -> None:
    found = load_huggingface("gpn", gpn_folder(), "x")
    assert isinstance(found, MaskedEmbedding)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 2_000).astype(np.uint8)
    for position in (0, 3, 1_000, 1_999):
        start = max(0, min(position - 100, 1_800))
        part = codes[start : start + 200]
        whole = found.base_log_probabilities([codes], [position], None)
        near = found.base_log_probabilities([part], [position - start], None)
        np.testing.assert_allclose(whole, near, atol=1e-5)  # the network reaches 14 bp


def test_models_of_alignments_are_refused(gpn_folder: Folder) -> None:
    with pytest.raises(CislensError, match="n_aux_features is 450"):
        load_huggingface("gpn", gpn_folder(n_aux_features=450), "x")
