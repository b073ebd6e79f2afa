"""ModernBERT (Warner et al. 2024) for DNA: any tokenizer, `transformers`' own encoder.

The encoder is the library's native class, built by its constructor on the CPU with attention
that takes a mask (no unpadding, no compilation); the head is ours.

Legend: B sequences, T tokens, D channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cislens.errors import CislensError
from cislens.extras import extra
from cislens.representations.huggingface.contract import LanguageModel
from cislens.representations.huggingface.loading import KeyMap, Weights

_BLOCK = "model.layers.*."
KEYS: KeyMap = (
    ("model.embeddings.tok_embeddings.weight", "encoder.embeddings.tok_embeddings.weight"),
    ("model.embeddings.norm.*", "encoder.embeddings.norm.*"),
    (_BLOCK + "attn_norm.*", "encoder.layers.*.attn_norm.*"),
    (_BLOCK + "attn.Wqkv.*", "encoder.layers.*.attn.Wqkv.*"),
    (_BLOCK + "attn.Wo.*", "encoder.layers.*.attn.Wo.*"),
    (_BLOCK + "mlp_norm.*", "encoder.layers.*.mlp_norm.*"),
    (_BLOCK + "mlp.Wi.*", "encoder.layers.*.mlp.Wi.*"),
    (_BLOCK + "mlp.Wo.*", "encoder.layers.*.mlp.Wo.*"),
    ("model.final_norm.*", "encoder.final_norm.*"),
    ("head.dense.*", "head.dense.*"),
    ("head.norm.*", "head.norm.*"),
    ("decoder.weight", "head.weight"),
    ("decoder.bias", "head.bias"),
)


@dataclass(frozen=True)
class ModernBertShape:
    """The published config.json, and which parts of a head the weights hold."""

    settings: Mapping[str, Any]
    head: tuple[str, ...]

    def __repr__(self) -> str:
        return repr((sorted(self.settings.items()), self.head))


def build(config: Mapping[str, Any], weights: Weights, source: str) -> LanguageModel:
    """The encoder of a ModernBERT folder."""
    head = tuple(sorted(key for key in weights if key.startswith("head.")))
    if config.get("classifier_activation", "gelu") != "gelu":
        raise CislensError(
            f"{source}: classifier_activation is {config['classifier_activation']!r}; only a head "
            "with gelu is read."
        )
    return ModernBert(ModernBertShape(config, head))


def max_tokens(config: Mapping[str, Any]) -> int:
    """Tokens that fit, special ones included."""
    return int(config["max_position_embeddings"])


class ModernBert(LanguageModel):
    """The library's encoder, and a masked-language-model head."""

    def __init__(self, config: ModernBertShape) -> None:
        super().__init__()
        self.config = config
        library = extra("transformers", "hf")
        settings = {key: value for key, value in config.settings.items() if key != "auto_map"}
        made = library.ModernBertConfig(**settings)
        made.reference_compile = False
        made._attn_implementation = "sdpa"
        self.dim, self.depth = made.hidden_size, made.num_hidden_layers
        self.has_head = bool(config.head)
        self.encoder = library.ModernBertModel(made)
        if self.has_head:
            self.head = ModernBertHead(config.head, self.dim, made.vocab_size, made.norm_eps)

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> list[Tensor]:
        out = self.encoder(
            input_ids=ids_BT, attention_mask=mask_BT.long(), output_hidden_states=True
        )
        # Whether the last of them has passed the final norm differs between releases.
        states = [*out.hidden_states[: self.depth], out.last_hidden_state]
        assert len(states) == self.depth + 1
        return states

    def logits(self, state_XD: Tensor) -> Tensor:
        scores: Tensor = self.head(state_XD, self.encoder.embeddings.tok_embeddings.weight)
        return scores


class ModernBertHead(nn.Module):
    """Dense layer, GELU, norm, and the scores of the vocabulary.

    Args:
        stored: names of its tensors in the folder; biases are there or not, and the scores'
            matrix is the embedding's if it is not.
    """

    def __init__(self, stored: tuple[str, ...], dim: int, vocabulary: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim, bias="head.dense.bias" in stored)
        self.norm = nn.LayerNorm(dim, eps=eps, bias="head.norm.bias" in stored)
        nn.init.normal_(self.dense.weight, std=0.02)
        if "head.weight" in stored:
            self.weight = nn.Parameter(torch.randn(vocabulary, dim) * 0.02)
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if "head.bias" in stored else None

    def forward(self, state_XD: Tensor, tied: Tensor) -> Tensor:
        h_XD = self.norm(F.gelu(self.dense(state_XD)))
        return F.linear(h_XD, getattr(self, "weight", tied), self.bias)
