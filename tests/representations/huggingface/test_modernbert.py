"""ModernBERT: the library's own scores, no unpadding, a head with or without its own matrix."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cislens.errors import CislensError
from cislens.genome.codes import encode
from cislens.representations.conformance import check
from cislens.representations.contract import MaskedLikelihood
from cislens.representations.huggingface.families import load_huggingface

Folder = Callable[..., Path]

pytestmark = pytest.mark.peers
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.parametrize("tied", [True, False])
def test_scores_are_those_of_the_library(modernbert_folder: Folder, tied: bool) -> None:
    folder = modernbert_folder(tied=tied, tie_word_embeddings=tied)
    found = load_huggingface("modernbert", folder, "x")
    config = json.loads((folder / "config.json").read_text())
    made = transformers.ModernBertConfig(**config, reference_compile=False)
    theirs = transformers.ModernBertForMaskedLM(made).eval()
    stored = load_file(folder / "model.safetensors")
    if tied:
        stored["decoder.weight"] = stored["model.embeddings.tok_embeddings.weight"]
    theirs.load_state_dict(stored)
    ids = torch.tensor([[1, 5, 6, 7, 3, 8, 9, 5, 6, 7, 8, 2], [1, 8, 8, 7, 7, 2] + [0] * 6])
    mask = ids != 0
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask.long()).logits
        states = found.model.states(ids, mask)
        scores = found.model.logits(states[-1])
    assert len(states) == 4
    torch.testing.assert_close(scores[mask], expected[mask], atol=1e-4, rtol=1e-4)


def test_it_conforms(modernbert_folder: Folder) -> None:
    folder = modernbert_folder()
    found = load_huggingface("modernbert", folder, "x")
    assert check(found, reference=load_huggingface("modernbert", folder, "y")) == []
    assert check(found.twin(0)) == []
    assert isinstance(found, MaskedLikelihood)
    got = found.base_log_probabilities([encode("ACGNT")], [2], None)
    np.testing.assert_allclose(np.exp(got).sum(), 1, atol=1e-6)


def test_a_corrupted_rotary_buffer_is_named(modernbert_folder: Folder) -> None:
    """What loading under the meta device leaves behind is an uninitialized buffer like this."""
    found = load_huggingface("modernbert", modernbert_folder(), "x")
    names = [name for name, _ in found.model.named_buffers() if name.endswith("inv_freq")]
    found.model.get_buffer(names[0]).fill_(0.5)
    # Some releases hold the same tensor under a second name.
    problems = [finding.message for finding in check(found) if finding.check == "buffers"]
    assert f"{names[0]} is not what the constructor makes it" in problems


def test_tokenizer_without_bases_is_refused(modernbert_folder: Folder) -> None:
    folder = modernbert_folder()
    stored = json.loads((folder / "tokenizer.json").read_text())
    del stored["model"]["vocab"]["G"]
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(CislensError, match="has no token for G"):
        load_huggingface("modernbert", folder, "x")
