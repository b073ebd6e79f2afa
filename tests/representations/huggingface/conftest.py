"""Tiny model folders with random weights, in the shape in which the families are published."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

Keys = dict[str, tuple[int, ...]]
Folder = Callable[..., Path]

D, INNER, HEADS, DEPTH = 16, 24, 4, 3


def write_folder(folder: Path, config: dict[str, Any], keys: Keys, seed: int = 0) -> Path:
    """config.json and a model.safetensors of random tensors of the given shapes."""
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in keys.items():
        value = torch.randn(shape, generator=draw) * (0.3 if len(shape) > 1 else 0.1)
        norm = key.endswith("weight") and len(shape) == 1
        weights[key] = value + 1 if norm else value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    return folder


def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> Keys:
    keys: Keys = {f"{name}.weight": (outputs, inputs)}
    return {**keys, f"{name}.bias": (outputs,)} if bias else keys


def norm(name: str, dim: int = D) -> Keys:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def kmer_vocabulary(k: int = 2, end: bool = False) -> list[str]:
    """As the Nucleotide Transformer's vocab.txt, with words of k bases instead of 6."""
    words = ["".join(word) for word in itertools.product("ATCG", repeat=k)]
    special = ["<unk>", "<pad>", "<mask>", "<cls>"]
    return [*special, *words, *"ATCGN", *(("<eos>", "<bos>") if end else ())]


def esm_keys(vocabulary: int, positions: int | None, gated: bool, head: bool = True) -> Keys:
    keys: Keys = {"esm.embeddings.word_embeddings.weight": (vocabulary, D)}
    if positions is not None:
        keys["esm.embeddings.position_embeddings.weight"] = (positions, D)
    wide = 2 * INNER if gated else INNER
    for i in range(DEPTH):
        at = f"esm.encoder.layer.{i}."
        for part in ("query", "key", "value"):
            keys |= linear(f"{at}attention.self.{part}", D, D)
        keys |= linear(f"{at}attention.output.dense", D, D)
        keys |= norm(f"{at}attention.LayerNorm") | norm(f"{at}LayerNorm")
        keys |= linear(f"{at}intermediate.dense", wide, D, not gated)
        keys |= linear(f"{at}output.dense", D, INNER, not gated)
        if positions is None:
            keys[f"{at}attention.self.rotary_embeddings.inv_freq"] = (D // HEADS // 2,)
    keys |= norm("esm.encoder.emb_layer_norm_after")
    keys |= linear("esm.contact_head.regression", 1, DEPTH * HEADS)
    if head:
        keys |= linear("lm_head.dense", D, D) | norm("lm_head.layer_norm")
        keys |= {"lm_head.decoder.weight": (vocabulary, D), "lm_head.bias": (vocabulary,)}
    return keys


def esm_config(vocabulary: int, **changes: Any) -> dict[str, Any]:
    """The keys of InstaDeepAI's config.json."""
    return {
        "model_type": "esm",
        "vocab_size": vocabulary,
        "hidden_size": D,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": 42,
        "pad_token_id": 1,
        "mask_token_id": 2,
        "position_embedding_type": "absolute",
        "emb_layer_norm_before": False,
        "token_dropout": True,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "esmfold_config": None,
        "tie_word_embeddings": False,
    } | changes


@pytest.fixture
def nt_folder(tmp_path: Path) -> Folder:
    """A folder of version 1 or 2."""

    def make(version: int = 1, name: str = "nt", head: bool = True, **changes: Any) -> Path:
        words = kmer_vocabulary(end=version == 2)
        gated = version == 2
        if gated:
            changes = {
                "position_embedding_type": "rotary",
                "token_dropout": False,
                "add_bias_fnn": False,
            } | changes
        config = esm_config(len(words), **changes)
        rotary = config["position_embedding_type"] == "rotary"
        positions = None if rotary else config["max_position_embeddings"]
        keys = esm_keys(len(words), positions, gated, head)
        folder = write_folder(tmp_path / name, config, keys)
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        return folder

    return make
