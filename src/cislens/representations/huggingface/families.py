"""The model families that can be read in-process, by name."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cislens.errors import CislensError, nearest
from cislens.genome.codes import encode
from cislens.models.limits import bounded
from cislens.models.saving import load_weights
from cislens.representations.huggingface import (
    dnabert2,
    gpn,
    hyenadna,
    modernbert,
    nucleotide_transformer,
    vocabulary,
)
from cislens.representations.huggingface.contract import LanguageModel, Tokenizer
from cislens.representations.huggingface.embedding import LanguageModelEmbedding
from cislens.representations.huggingface.enformer import EnformerEmbedding, load_enformer
from cislens.representations.huggingface.likelihood import (
    CausalEmbedding,
    MaskedEmbedding,
    PseudoEmbedding,
)
from cislens.representations.huggingface.loading import (
    KeyMap,
    Weights,
    audit,
    constants,
    most_of,
    read_config,
    read_weights,
    rename,
)

logger = logging.getLogger("cislens")

PARITY_FILE = "cislens_parity.json"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Family:
    """How the folders of one family are read.

    Attributes:
        build: a model on the CPU from the config, the renamed weights (which tell whether there
            is a language-model head) and the name of the config file.
        keys, prefix: see `loading.rename`.
        tokenizer: from the folder.
        max_tokens: from the config, special tokens included.
        lora_targets: endings of the names of its linear layers.
        license: of the published weights.
    """

    build: Callable[[Mapping[str, Any], Weights, str], LanguageModel]
    keys: KeyMap
    prefix: str
    tokenizer: Callable[[Path], Tokenizer]
    max_tokens: Callable[[Mapping[str, Any]], int]
    lora_targets: tuple[str, ...]
    license: str


FAMILIES: dict[str, Family] = {
    "nucleotide-transformer": Family(
        build=nucleotide_transformer.version_1,
        keys=nucleotide_transformer.KEYS,
        prefix="esm.",
        tokenizer=vocabulary.kmer_tokenizer,
        max_tokens=nucleotide_transformer.max_tokens,
        lora_targets=("query", "key", "value", "attended", "widen", "narrow"),
        license="CC BY-NC-SA 4.0",
    ),
    "nucleotide-transformer-v2": Family(
        build=nucleotide_transformer.version_2,
        keys=nucleotide_transformer.KEYS,
        prefix="esm.",
        tokenizer=vocabulary.kmer_tokenizer,
        max_tokens=nucleotide_transformer.max_tokens,
        lora_targets=("query", "key", "value", "attended", "widen", "narrow"),
        license="CC BY-NC-SA 4.0",
    ),
    "dnabert2": Family(
        build=dnabert2.build,
        keys=dnabert2.KEYS,
        prefix="bert.",
        tokenizer=vocabulary.bpe_tokenizer,
        max_tokens=dnabert2.max_tokens,
        lora_targets=("qkv", "attended", "widen", "narrow"),
        license="Apache-2.0",
    ),
    "hyenadna": Family(
        build=hyenadna.build,
        keys=hyenadna.KEYS,
        prefix="hyena.",
        tokenizer=vocabulary.hyenadna_tokenizer,
        max_tokens=hyenadna.max_tokens,
        lora_targets=("project", "mixed", "widen", "narrow"),
        license="BSD-3-Clause",
    ),
    "gpn": Family(
        build=gpn.build,
        keys=gpn.KEYS,
        prefix="model.",
        tokenizer=vocabulary.char_tokenizer,
        max_tokens=gpn.max_tokens,
        lora_targets=("dense",),
        license="MIT",
    ),
    "modernbert": Family(
        build=modernbert.build,
        keys=modernbert.KEYS,
        prefix="model.",
        tokenizer=vocabulary.json_tokenizer,
        max_tokens=modernbert.max_tokens,
        lora_targets=("Wqkv", "Wo", "Wi"),
        license="as the folder says",
    ),
}


# Families that live elsewhere, and where.
ELSEWHERE = {
    "caduceus": "it needs the CUDA kernels of mamba-ssm, so it runs in a worker",
    "borzoi": "its stack cannot live with this one, so it runs in a worker",
}


def load_huggingface(
    family: str, folder: str | os.PathLike[str], name: str
) -> LanguageModelEmbedding | EnformerEmbedding:
    """The representation that a model folder holds, on the CPU.

    Nothing is downloaded and no code of the folder is run. What it can do beyond features follows
    from the family: `MaskedEmbedding`, `CausalEmbedding` or `PseudoEmbedding` if the weights
    include the language-model head.

    Args:
        family: one of `FAMILIES`, or "enformer", see `load_enformer`.
        folder: config.json, model.safetensors (or its shards) and the tokenizer's files; if a
            cislens_parity.json is there, its outputs must be reproduced.
        name: how tables call it.

    Raises:
        CislensError: if the family is unknown, a file damaged or a pickle, a tensor missing or
            left over, a buffer not as constructed, or the stored outputs are not reproduced.
        MissingFileError: if a file is missing.
    """
    if family == "enformer":
        return load_enformer(folder, name)
    if family in ELSEWHERE:
        raise CislensError(
            f"{family} is not read in-process: {ELSEWHERE[family]} (docs/models.md)."
        )
    if family not in FAMILIES:
        known_names = (*FAMILIES, "enformer", *ELSEWHERE)
        raise CislensError(f"there is no model family {family!r}. {nearest(family, known_names)}")
    known, path = FAMILIES[family], Path(folder)
    config = read_config(path)
    weights = rename(read_weights(path), known.keys, known.prefix, str(path))
    model = load_model(known, config, weights, path)
    tokenizer = known.tokenizer(path)
    kind: type[LanguageModelEmbedding] = LanguageModelEmbedding
    if model.has_head and model.causal:
        kind = CausalEmbedding
    elif model.has_head and tokenizer.mask_id is not None:
        kind = PseudoEmbedding if tokenizer.kind == "bpe" else MaskedEmbedding
    found = kind(model, tokenizer, name, known.max_tokens(config), known.lora_targets)
    check_parity(found, path / PARITY_FILE)
    return found


def load_model(
    family: Family, config: Mapping[str, Any], weights: Weights, folder: Path
) -> LanguageModel:
    """A model with the stored weights, every tensor accounted for and every buffer checked."""
    source = str(folder / "config.json")
    with bounded(source, most_of(weights)):
        model = family.build(config, weights, source)
    fresh = {key: value.clone() for key, value in constants(model).items()}
    stored = {key: value for key, value in weights.items() if key not in model.unused}
    for key in fresh.keys() & stored.keys():
        value = stored.pop(key)
        if value.shape != fresh[key].shape or not value.allclose(fresh[key], rtol=1e-4, atol=1e-6):
            raise CislensError(
                f"{folder} stores {key}, which the configuration determines, with other values."
            )
    load_weights(model, stored, str(folder))
    problems = audit(model, fresh)
    if problems:
        raise CislensError(f"{folder}: {'; '.join(problems[:5])}.")
    return model


def write_parity(embedding: LanguageModelEmbedding, folder: Path, sequences: list[str]) -> None:
    """Store the last layer's span-weighted mean of a few sequences, one strand.

    Written from a stack that is trusted, the file then guards every later load.
    """
    features = embedding.embed([encode(s) for s in sequences], None, stranded=True)
    stored = {"sequences": sequences, "mean_bp": features.tolist()}
    (folder / PARITY_FILE).write_text(json.dumps(stored) + "\n", encoding="utf-8")


def check_parity(embedding: LanguageModelEmbedding, path: Path) -> None:
    """Reproduce stored outputs, if there are any.

    Raises:
        CislensError: if the file is damaged or an output differs by more than 1e-4 of the
            largest.
    """
    if not path.is_file():
        logger.info("%s: no %s, so its outputs were held against none.", embedding.name, path.name)
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        sequences = [encode(text) for text in stored["sequences"]]
        expected = np.array(stored["mean_bp"], dtype=np.float32)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CislensError(f"{path} is damaged ({error!r}); remove or restore it.") from None
    found = embedding.embed(sequences, None, stranded=True)
    if found.shape != expected.shape:
        raise CislensError(f"{path} holds outputs {expected.shape}, the model gives {found.shape}.")
    worst = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not worst <= _TOLERANCE:
        raise CislensError(
            f"{embedding.name} does not reproduce {path}: off by {worst:.2g} of the largest value, "
            f"allowed {_TOLERANCE:g}. The weights, the tokenizer or the code differ."
        )
