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


BPE_WORDS = ("AC", "ACG", "TG", "TGA", "GT")


def bpe_tokenizer() -> dict[str, Any]:
    """A tokenizer.json in the shape of DNABERT-2's, with a handful of words."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokens = [*special, *"ACGT", *BPE_WORDS]
    merges = [["A", "C"], ["AC", "G"], ["T", "G"], ["TG", "A"], ["G", "T"]]
    template = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    known = {
        name: {"id": name, "ids": [special.index(name)], "tokens": [name]}
        for name in ("[CLS]", "[SEP]")
    }
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, "normalized": False, **flags}
            for i, name in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "pair": [*template, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": known,
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def char_tokenizer(letters: str, special: tuple[str, ...], framed: bool) -> dict[str, Any]:
    """A tokenizer.json of single letters, with or without [CLS] and [SEP] around."""
    tokens = [*special, *letters]
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    if framed:
        single = [{"SpecialToken": {"id": "[CLS]"}}, *single, {"SpecialToken": {"id": "[SEP]"}}]
    return {
        "added_tokens": [{"id": i, "content": token} for i, token in enumerate(special)],
        "post_processor": {"type": "TemplateProcessing", "single": single} if framed else None,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": []},
    }


@pytest.fixture
def dnabert2_folder(tmp_path: Path) -> Folder:
    def make(name: str = "dnabert2", heads: int = HEADS, **changes: Any) -> Path:
        tokenizer = changes.pop("tokenizer", None) or bpe_tokenizer()
        vocabulary = len(tokenizer["model"]["vocab"])
        config = {
            "model_type": "bert",
            "vocab_size": vocabulary,
            "hidden_size": D,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": heads,
            "intermediate_size": INNER,
            "max_position_embeddings": 64,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
            "alibi_starting_size": 512,
        } | changes
        keys: Keys = {
            "bert.embeddings.word_embeddings.weight": (vocabulary, D),
            "bert.embeddings.token_type_embeddings.weight": (2, D),
            **norm("bert.embeddings.LayerNorm"),
        }
        for i in range(DEPTH):
            at = f"bert.encoder.layer.{i}."
            keys |= linear(f"{at}attention.self.Wqkv", 3 * D, D)
            keys |= linear(f"{at}attention.output.dense", D, D)
            keys |= norm(f"{at}attention.output.LayerNorm")
            keys |= linear(f"{at}mlp.gated_layers", 2 * INNER, D, bias=False)
            keys |= linear(f"{at}mlp.wo", D, INNER) | norm(f"{at}mlp.layernorm")
        keys |= linear("bert.pooler.dense", D, D)
        keys |= linear("cls.predictions.transform.dense", D, D)
        keys |= norm("cls.predictions.transform.LayerNorm")
        keys |= {"cls.predictions.decoder.bias": (vocabulary,)}
        folder = write_folder(tmp_path / name, config, keys)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        return folder

    return make


@pytest.fixture
def hyenadna_folder(tmp_path: Path) -> Folder:
    def make(name: str = "hyenadna", longest: int = 70, **changes: Any) -> Path:
        config = {
            "model_type": "hyenadna",
            "d_model": D,
            "n_layer": DEPTH,
            "d_inner": INNER,
            "max_seq_len": longest,
            "vocab_size": 12,
            "pad_vocab_size_multiple": 8,
            "emb_dim": 5,
            "filter_order": 8,
            "num_inner_mlps": 2,
            "short_filter_order": 3,
            "hyena_order": 2,
            "activation_freq": 10,
            "train_freq": True,
            "layer_norm_epsilon": 1e-5,
        } | changes
        keys: Keys = {"hyena.backbone.embeddings.word_embeddings.weight": (16, D)}
        for i in range(DEPTH):
            at = f"hyena.backbone.layers.{i}."
            inner = f"{at}mixer.filter_fn."
            keys |= norm(f"{at}norm1") | norm(f"{at}norm2")
            keys |= linear(f"{at}mixer.in_proj", 3 * D, D) | linear(f"{at}mixer.out_proj", D, D)
            keys |= {f"{at}mixer.short_filter.weight": (3 * D, 1, 3)}
            keys |= {f"{at}mixer.short_filter.bias": (3 * D,), f"{inner}bias": (D,)}
            keys |= linear(f"{inner}implicit_filter.0", 8, 5)
            keys |= {f"{inner}implicit_filter.1.freq": (1, 8)}
            keys |= linear(f"{inner}implicit_filter.2", 8, 8)
            keys |= linear(f"{inner}implicit_filter.4", 8, 8)
            keys |= linear(f"{inner}implicit_filter.6", D, 8, bias=False)
            keys |= {f"{inner}pos_emb.z": (1, longest, 5)}
            keys |= linear(f"{at}mlp.fc1", INNER, D) | linear(f"{at}mlp.fc2", D, INNER)
        keys |= norm("hyena.backbone.ln_f") | linear("lm_head", 16, D, bias=False)
        return write_folder(tmp_path / name, config, keys)

    return make


@pytest.fixture
def gpn_folder(tmp_path: Path) -> Folder:
    def make(name: str = "gpn", **changes: Any) -> Path:
        config = {
            "model_type": "ConvNet",
            "vocab_size": 7,
            "hidden_size": D,
            "n_layers": DEPTH,
            "kernel_size": 5,
            "dilation_double_every": 1,
            "dilation_max": 4,
            "dilation_cycle": 4,
            "dilation_base": 2,
        } | changes
        keys: Keys = {}
        for i in range(DEPTH):
            at = f"model.encoder.{i}."
            keys |= {f"{at}conv.1.weight": (D, D, 5), f"{at}conv.1.bias": (D,)}
            keys |= norm(f"{at}conv.4") | linear(f"{at}ffn.0", D, D) | norm(f"{at}ffn.2")
        keys |= linear("cls.decoder.0", D, D) | norm("cls.decoder.2")
        keys |= linear("cls.decoder.3", 7, D)
        folder = write_folder(tmp_path / name, config, keys)
        stored = char_tokenizer("acgt", ("[PAD]", "[MASK]", "[UNK]"), framed=False)
        (folder / "tokenizer.json").write_text(json.dumps(stored))
        return folder

    return make


@pytest.fixture
def modernbert_folder(tmp_path: Path) -> Folder:
    def make(name: str = "modernbert", tied: bool = True, **changes: Any) -> Path:
        special = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
        config = {
            "model_type": "modernbert",
            "vocab_size": 10,
            "hidden_size": D,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": HEADS,
            "intermediate_size": INNER,
            "max_position_embeddings": 64,
            "global_attn_every_n_layers": 3,
            "local_attention": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "norm_eps": 1e-5,
        } | changes
        keys: Keys = {"model.embeddings.tok_embeddings.weight": (10, D)}
        keys |= {"model.embeddings.norm.weight": (D,), "model.final_norm.weight": (D,)}
        for i in range(DEPTH):
            at = f"model.layers.{i}."
            keys |= linear(f"{at}attn.Wqkv", 3 * D, D, bias=False)
            keys |= linear(f"{at}attn.Wo", D, D, bias=False)
            keys |= linear(f"{at}mlp.Wi", 2 * INNER, D, bias=False)
            keys |= linear(f"{at}mlp.Wo", D, INNER, bias=False)
            keys |= {f"{at}mlp_norm.weight": (D,)}
            keys |= {f"{at}attn_norm.weight": (D,)} if i else {}
        keys |= {"head.dense.weight": (D, D), "head.norm.weight": (D,), "decoder.bias": (10,)}
        keys |= {} if tied else {"decoder.weight": (10, D)}
        folder = write_folder(tmp_path / name, config, keys)
        stored = char_tokenizer("ACGTN", special, framed=True)
        (folder / "tokenizer.json").write_text(json.dumps(stored))
        return folder

    return make
