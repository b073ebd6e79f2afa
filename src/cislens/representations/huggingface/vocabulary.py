"""Tokenizer files of a model folder: vocab.txt, vocab.json and tokenizer.json."""

import json
from pathlib import Path
from typing import Any

from cislens.errors import CislensError, MissingFileError
from cislens.extras import extra
from cislens.representations.huggingface.contract import Tokenizer
from cislens.representations.huggingface.tokenizers import (
    BpeTokenizer,
    CharTokenizer,
    KmerTokenizer,
    Special,
)

# HyenaDNA's vocabulary is written in its code, not in a file (CharacterTokenizer).
_HYENADNA = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", *"ACGTN")


def kmer_tokenizer(folder: Path) -> Tokenizer:
    """The Nucleotide Transformer's: vocab.txt, [CLS] in front, nothing behind."""
    path = folder / "vocab.txt"
    vocabulary = read_vocabulary(folder, ("vocab.txt",))
    # Version 1 has 4,105 symbols without an end token; an id appended for one lies outside.
    return KmerTokenizer(vocabulary, Special(vocabulary, ("cls",), (), str(path)), str(path))


def hyenadna_tokenizer(folder: Path) -> Tokenizer:
    """HyenaDNA's: its published vocabulary, [SEP] behind; the folder needs no file for it."""
    vocabulary = {token: index for index, token in enumerate(_HYENADNA)}
    source = "HyenaDNA's vocabulary"
    return CharTokenizer(vocabulary, Special(vocabulary, (), ("sep",), source), source)


def char_tokenizer(folder: Path) -> Tokenizer:
    """GPN's: single bases without special tokens around them."""
    vocabulary = read_vocabulary(folder, ("tokenizer.json", "vocab.json", "vocab.txt"))
    return CharTokenizer(vocabulary, Special(vocabulary, (), (), str(folder)), str(folder))


def bpe_tokenizer(folder: Path) -> Tokenizer:
    """DNABERT-2's: tokenizer.json, the special tokens as its template puts them."""
    return json_tokenizer(folder, words=True)


def json_tokenizer(folder: Path, words: bool | None = None) -> Tokenizer:
    """What a tokenizer.json describes: single bases, or byte-pair words.

    Args:
        words: whether it must be byte-pair words; None takes either.
    """
    path = folder / "tokenizer.json"
    stored = _read_json(path)
    vocabulary = read_vocabulary(folder, ("tokenizer.json",))
    special = Special(vocabulary, *_template(stored), str(path))
    single = all(len(token) == 1 for token in vocabulary if set(token.upper()) <= set("ACGT"))
    if single and not words:
        return CharTokenizer(vocabulary, special, str(path))
    if stored.get("model", {}).get("type") != "BPE":
        raise CislensError(
            f"{path} is of type {stored.get('model', {}).get('type')!r}; byte-pair encoding (BPE) "
            "and vocabularies of single bases are known."
        )
    engine = extra("tokenizers", "hf").Tokenizer.from_file(str(path))
    return BpeTokenizer(engine, special, str(path))


def read_vocabulary(folder: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Token -> id, from the first of some files that is there.

    Raises:
        MissingFileError: if none of them is there.
        CislensError: if the file is damaged or holds an id twice.
    """
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise MissingFileError(
            f"{folder} holds no tokenizer file ({' or '.join(names)}); copy it from where the "
            "weights are published."
        )
    if path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        vocabulary = {token: index for index, token in enumerate(lines) if token}
        if len(vocabulary) != sum(map(bool, lines)):
            raise CislensError(f"{path} holds a token twice; restore the file.")
        return vocabulary
    stored = _read_json(path)
    try:
        found = dict(stored["model"]["vocab"] if path.name == "tokenizer.json" else stored)
        for token in stored.get("added_tokens", ()):
            found[token["content"]] = token["id"]
    except (KeyError, TypeError, ValueError):
        raise CislensError(f"{path} holds no table of tokens; restore the file.") from None
    for token, index in found.items():
        if type(token) is not str or type(index) is not int or index < 0:
            raise CislensError(f"{path} gives {token!r} the id {index!r}; restore the file.")
    return found


def _template(stored: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the special tokens before and behind a sequence, lower case without brackets."""
    processor = stored.get("post_processor") or {}
    if processor.get("type") in ("BertProcessing", "RobertaProcessing"):
        return ("cls",), ("sep",)
    single = processor.get("single", [{"Sequence": {}}])
    names = [
        part["SpecialToken"]["id"].strip("[]<>").lower() if "SpecialToken" in part else None
        for part in single
    ]
    at = names.index(None)
    return (
        tuple(name for name in names[:at] if name),
        tuple(name for name in names[at + 1 :] if name),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; copy it from where the weights are.")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CislensError(f"{path} is not JSON ({error}); restore the folder.") from None
    if not isinstance(stored, dict):
        raise CislensError(f"{path} is no JSON object; restore the folder.")
    return stored
